"""Checks of the settings as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backup.config.commands import check_databases, check_server
from backup.config.drills import check_drill
from backup.config.limits import check_limits, check_memory
from backup.config.machine_identity import IdentitySettings, RenewSettings
from backup.config.notifying import check_notify
from backup.config.retention import RetentionSettings, check_rules, parse_forget
from backup.config.settings import (
    Config,
    JobSettings,
    SourceSettings,
)
from backup.config.shapes import suggestion
from backup.config.values import DAY, LONGEST_LOCK
from backup.config.vaults import VaultSettings
from backup.errors import ConfigError, NightvaultError
from backup.kinds import TASKS
from backup.model import MIB, Tier
from backup.schedule import least_gap, parse_schedule

LONGEST_NAME = 255  # bytes, by the file systems of Linux
LONGEST_PATH = 1024  # so that it can be restored below a target, which takes some 4096
MOST_PARTS = 10_000  # Glacier, "Uploading large archives in parts"

_LOCK_KEYS = ("lock_for", "lock_step", "lock_role_arn", "lock_forever", "extend")
_S3_KEYS = (
    *("bucket", "prefix", "storage_class", "catalog_class", "retrieval_days", "path_style", "checksums"),
    *("lock", *_LOCK_KEYS),
)
_KIND_KEYS = {
    "directory": {"path"},
    "glacier": {"region", "vault", "account_id", "endpoint"},
    "s3": {"region", "account_id", "endpoint", *_S3_KEYS},
}
_REQUIRED_KEYS = {"directory": ("path",), "glacier": ("region", "vault"), "s3": ("region", "bucket")}
_AWS_CLASSES = (
    *("DEEP_ARCHIVE", "GLACIER", "GLACIER_IR", "STANDARD", "STANDARD_IA", "ONEZONE_IA"),
    "INTELLIGENT_TIERING",
)
_AWS_REGION = re.compile("[a-z]{2,4}(-[a-z]+)+-[0-9]+")
Mistake = tuple[str, str]  # key, sentence


def check(config: Config, document: Mapping[str, Any]) -> Iterator[Mistake]:
    """Return the mistakes that concern several values together, by key; `document` is the file as written."""
    yield from _check_identity(config)
    yield from _check_recipients(config.recipients)
    yield from check_memory(config)
    named = [(f"job[{number}].notify", job.notify) for number, job in enumerate(config.jobs, 1)]
    yield from check_notify(config.notify, named)
    names_of: dict[str, list[str]] = {
        "vault": [vault.name for vault in config.vaults],
        "job": [job.name for job in config.jobs],
        "drill": [drill.name for drill in config.drills],
        "connection": [connection.name for connection in config.connections],
    }
    for key, names in names_of.items():
        twice = [n for n, name in enumerate(names) if name in names[:n]]
        yield from ((f"{key}[{n + 1}].name", f"another {key} is named {names[n]}") for n in twice)
    yield from check_tables(config.vaults, config.jobs, document)
    yield from _check_drills(config)
    for number, connection in enumerate(config.connections, 1):
        for name, sentence in check_server(connection):
            yield f"connection[{number}].{name}", sentence


def check_tables(
    vaults: Sequence[VaultSettings | None], jobs: Sequence[JobSettings | None], document: Mapping[str, Any]
) -> Iterator[Mistake]:
    """Return the mistakes in each vault and job, by key; None for one whose values are already wrong."""
    tables = document.get("vault", [])
    written = tables if isinstance(tables, list) else [tables]
    names = [
        table["name"]
        for table in written
        if isinstance(table, Mapping) and isinstance(table.get("name"), str)
    ]
    for number, vault in enumerate(vaults, 1):
        if vault is not None:
            found = _check_vault(vault, written[number - 1], has_identity="identity" in document)
            for name, sentence in found:
                yield f"vault[{number}].{name}", sentence
    for number, job in enumerate(jobs, 1):
        as_written = document["job"][number - 1]
        for name, sentence in _check_job(job, names) if job else _check_written_job(as_written, names):
            yield f"job[{number}].{name}", sentence


def _check_drills(config: Config) -> Iterator[Mistake]:
    vaults, vault_of = [vault.name for vault in config.vaults], {job.name: job.vault for job in config.jobs}
    deep = [
        vault.name for vault in config.vaults if (vault.kind, vault.storage_class) == ("s3", "DEEP_ARCHIVE")
    ]
    for number, drill in enumerate(config.drills, 1):
        for name, sentence in check_drill(drill, vaults, vault_of, deep):
            yield f"drill[{number}].{name}", sentence


def keys_of_kind(kind: str) -> set[str]:
    """Return the keys that a vault of this kind may have."""
    others = set().union(*_KIND_KEYS.values()) - _KIND_KEYS[kind]
    return set(VaultSettings.__struct_fields__) - others


def _check_recipients(recipients: Sequence[str]) -> Iterator[Mistake]:
    for number, text in enumerate(recipients, 1):
        from backup.format.keys import Recipient

        try:
            Recipient.from_text(text)
        except NightvaultError as error:
            yield f"encryption.recipients[{number}]", str(error)
        if text in recipients[: number - 1]:
            yield f"encryption.recipients[{number}]", "is written twice"


def _check_identity(config: Config) -> Iterator[Mistake]:
    if config.identity is not None and config.identity.renew is not None:
        yield from _check_renewal(config.identity, config.identity.renew)
    if config.identity is None and config.center is not None:
        yield "identity", "is missing: a center knows this server by its certificate"
    if config.center is not None and config.center.is_in_bucket:
        buckets = {f"s3://{vault.bucket}" for vault in config.vaults if vault.kind == "s3"}
        if config.center.url not in buckets:
            yield "center.url", f"{config.center.url} is the bucket of no vault of this config"
    exchange = config.roles_anywhere
    if exchange is None:
        return
    if config.identity is None:
        what = "is missing: [roles_anywhere] needs a certificate and its private key"
        yield "identity", f"{what}; with AWS keys instead, leave out both sections"
    anchor = exchange.trust_anchor_arn.split(":")
    for key in ("trust_anchor_arn", "profile_arn"):
        _, _, _, region, account, _ = getattr(exchange, key).split(":")
        if region != exchange.region:
            yield f"roles_anywhere.{key}", f"is in {region}, but roles_anywhere.region is {exchange.region}"
        if account != anchor[4]:
            yield f"roles_anywhere.{key}", f"is of account {account}, but the trust anchor of {anchor[4]}"


def _check_renewal(identity: IdentitySettings, renew: RenewSettings) -> Iterator[Mistake]:
    ways = [renew.command is not None, renew.ssh is not None, renew.files]
    if sum(ways) != 1:
        yield "identity.renew", "must have one of command, ssh and files = true"
    elsewhere = identity.private_key.startswith(("pkcs11:", "handle:"))
    if renew.files and (elsewhere or identity.certificate.startswith("pkcs11:")):
        yield "identity.renew.files", "is for files: certificate and key must both be in one"
    if renew.files and (renew.key != "new" or renew.request is not None):
        yield "identity.renew.files", "goes without key and request: the other program decides"
    elif renew.request is not None and renew.key != "same":
        yield "identity.renew.request", 'is of the key that there is: it needs key = "same"'
    elif not renew.files and elsewhere and renew.request is None:
        sentence = 'is missing: a key in a token or TPM stays (key = "same") and has a request of its own'
        yield "identity.renew.request", sentence


def _check_vault(
    vault: VaultSettings, written: Mapping[str, Any], *, has_identity: bool
) -> Iterator[Mistake]:
    for name in sorted(set().union(*_KIND_KEYS.values()) - _KIND_KEYS[vault.kind]):
        if name in written:
            kinds = " or ".join(kind for kind, keys in _KIND_KEYS.items() if name in keys)
            yield name, f"is for vaults of kind {kinds}"
    in_aws = vault.is_in_aws
    filled_in = {"bucket"} if in_aws and has_identity else set()  # by `setup aws`
    missing = [key for key in _REQUIRED_KEYS[vault.kind] if getattr(vault, key) is None]
    missing = [key for key in missing if key not in filled_in]
    yield from ((key, f"is missing: kind {vault.kind} needs it") for key in missing)
    if in_aws and vault.region and not _AWS_REGION.fullmatch(vault.region):
        yield "region", "must look like eu-central-1"
    if vault.kind == "s3" and in_aws and vault.storage_class not in _AWS_CLASSES:
        yield "storage_class", f"AWS has no such class{suggestion(vault.storage_class, _AWS_CLASSES)}"
    if vault.kind == "s3" and (vault.storage_class, vault.tier) == ("DEEP_ARCHIVE", Tier.EXPEDITED):
        yield "tier", "must be standard or bulk: DEEP_ARCHIVE has no expedited retrievals"
    yield from _check_sizes(vault)
    yield from _check_lock(vault, written)
    yield from check_limits(vault)
    for kind in (kind for kind, traits in TASKS.items() if traits.of_vault):
        try:
            vault.when(kind)
        except ConfigError as error:
            yield kind, str(error)
    yield from _check_sample(vault)


def _check_lock(vault: VaultSettings, written: Mapping[str, Any]) -> Iterator[Mistake]:
    """Refuse a step that is longer than the lock, and what is said of a lock where there is none."""
    if vault.kind != "s3":
        return
    if vault.lock is None:
        yield from (
            (key, 'needs lock = "governance", or "compliance"') for key in _LOCK_KEYS if key in written
        )
    elif vault.lock_step > vault.lock_for:
        yield "lock_step", "must not be longer than lock_for"
    meant = f'if that is meant, lock_forever = "{vault.name}" says so'
    if vault.lock_forever not in (None, vault.name):
        yield "lock_forever", f"must be the vault's own name, {vault.name}, typed by whoever means it"
    elif vault.lock_forever is None and vault.lock == "compliance":
        yield "lock", f"nobody ends such a lock, not even you: {meant}"
    elif vault.lock_forever is None and vault.lock and vault.lock_for > LONGEST_LOCK:
        yield (
            "lock_for",
            f"locks for more than {LONGEST_LOCK // DAY} days, all of which are paid for: {meant}",
        )


def _check_sample(vault: VaultSettings) -> Iterator[Mistake]:
    if vault.check_sample is None:
        return
    amount = vault.check_sample.removesuffix("%")
    if not float(amount.rstrip("KMGiB ")) > 0 or (amount != vault.check_sample and float(amount) > 100):
        yield "check_sample", "must be above 0, and at most 100%"
    if vault.check is None:
        yield "check_sample", 'needs a schedule: check = "weekly"'


def _check_sizes(vault: VaultSettings) -> Iterator[Mistake]:
    part, smallest = vault.part_size, vault.smallest_part
    if not smallest <= part <= 4096 * MIB or part & (part - 1):
        first = ", ".join(str(smallest // MIB << n) for n in range(4))
        yield "part_size", f"must be {first}, … or 4096 MiB"
    elif not MIB <= vault.pack_size <= part * MOST_PARTS:
        yield "pack_size", f"must be at least 1 MiB and at most {MOST_PARTS} times part_size"


def _check_job(job: JobSettings, vaults: Sequence[str]) -> Iterator[Mistake]:
    yield from _check_vault_of(job.vault, vaults)
    if not (job.paths or job.command or job.database or job.containers or job.devices):
        yield "sources", "must name something to back up"
    yield from _check_streams(job)
    yield from check_databases(job.database)
    yield from _check_lengths(job)
    yield from _check_patterns(job, "")
    yield from _check_retention(job)
    yield from _check_copies(job, vaults)
    for number, source in enumerate(job.source, 1):
        if source.path in job.paths[: len(job.sources) + number - 1]:
            yield f"source[{number}].path", f"{source.path} is a source of this job already"
        yield from _check_patterns(source, f"source[{number}].")
    yield from _check_times(job.schedule, job.timezone, job.jitter)


def _check_written_job(written: object, vaults: Sequence[str]) -> Iterator[Mistake]:
    """The mistakes in vault, schedule and time zone of a job whose table has other mistakes, too."""
    if isinstance(written, Mapping):
        texts = {key: value for key, value in written.items() if isinstance(value, str)}
        if "vault" in texts:
            yield from _check_vault_of(texts["vault"], vaults)
        yield from _check_times(texts.get("schedule"), texts.get("timezone"))


def _check_vault_of(name: str, vaults: Sequence[str]) -> Iterator[Mistake]:
    if name not in vaults:
        yield "vault", f"there is no vault {name}{suggestion(name, vaults)}"


def _check_times(schedule: str | None, timezone: str | None, jitter: int = 0) -> Iterator[Mistake]:
    zone = timezone or "UTC"
    try:
        parse_schedule("every 1d", zone)
    except ConfigError as error:
        yield "timezone", str(error)
        zone = "UTC"
    try:
        parsed = parse_schedule("every 1d" if schedule is None else schedule, zone)
    except ConfigError as error:
        yield "schedule", str(error)
        return
    if jitter and schedule is not None and jitter >= least_gap(parsed).total_seconds():
        yield "jitter", "must be shorter than the time between two runs"


def _check_retention(job: JobSettings) -> Iterator[Mistake]:
    """Refuse a policy that would keep nothing, and a time to forget without a policy."""
    if isinstance(job.retention, RetentionSettings):
        yield from check_rules("retention", job.retention)
    if job.forget is None:
        return
    try:
        parse_forget(job.forget, "UTC", has_policy=True)
    except ConfigError as error:
        yield "forget", str(error)
    if job.retention is None:
        yield "forget", "needs a policy: [job.retention]"


def _check_copies(job: JobSettings, vaults: Sequence[str]) -> Iterator[Mistake]:
    """Refuse copies into no other vault, or into one twice, and mistakes in when and what."""
    for number, copy in enumerate(job.copy, 1):
        key = f"copy[{number}]"
        yield from ((f"{key}.{name}", why) for name, why in _check_vault_of(copy.vault, vaults))
        if copy.vault == job.vault:
            yield f"{key}.vault", "is the job's own vault: a copy goes into another one"
        if copy.vault in {other.vault for other in job.copy[: number - 1]}:
            yield f"{key}.vault", f"another copy of this job goes into {copy.vault}"
        if isinstance(copy.retention, RetentionSettings):
            yield from check_rules(f"{key}.retention", copy.retention)
        try:
            parse_schedule(copy.schedule or "weekly", "UTC")
        except ConfigError as error:
            yield f"{key}.schedule", str(error)


def _check_streams(job: JobSettings) -> Iterator[Mistake]:
    """Refuse streams of one name, and one that is a file where another needs a directory."""
    keys = [f"command[{number}].name" for number in range(1, len(job.command) + 1)]
    keys += [f"devices[{number}]" for number in range(1, len(job.devices) + 1)]
    names = [command.name for command in job.command] + [path.strip("/") for path in job.devices]
    keys += [f"database[{number}]" for number in range(1, len(job.database) + 1)][:1]
    names += ["databases"] * bool(job.database)  # where dumps of databases are
    for number, name in enumerate(names):
        for other in names[:number]:
            if f"{name}/".startswith(f"{other}/") or f"{other}/".startswith(f"{name}/"):
                yield keys[number], f"{other} is in its place already"


def _check_lengths(job: JobSettings) -> Iterator[Mistake]:
    """Refuse names that no file can have."""
    for number, command in enumerate(job.command, 1):
        if any(len(step.encode()) > LONGEST_NAME for step in command.name.split("/")):
            yield f"command[{number}].name", f"a name of a file has at most {LONGEST_NAME} bytes"
        elif len(command.name.encode()) > LONGEST_PATH:
            yield f"command[{number}].name", f"must have at most {LONGEST_PATH} bytes"


def _check_patterns(settings: JobSettings | SourceSettings, above: str) -> Iterator[Mistake]:
    """Refuse patterns that cannot be read; files of patterns are read when a run begins."""
    if not (settings.exclude or settings.iexclude):
        return
    from backup.source.patterns import Pattern, Patterns

    for key in ("exclude", "iexclude"):
        for number, text in enumerate(getattr(settings, key), 1):
            try:
                Patterns([Pattern(text, "")])
            except ConfigError as error:
                yield f"{above}{key}[{number}]", str(error).removeprefix(": ")
