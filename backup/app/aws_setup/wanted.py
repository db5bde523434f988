"""Works out what a config needs in AWS, from the file, the certificates and the account."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from backup.app.aws_setup.ca_input import check_issuer
from backup.app.aws_setup.documents import OWN_NAME, AwsSetup, BucketSetup, documents
from backup.app.aws_setup.model import AwsAccount, Wanted, WantedBucket, WantedRole
from backup.app.base.vaults import lock_rules
from backup.config import Config, VaultSettings
from backup.credentials.certificate import TAG_VALUE
from backup.errors import ConfigError, IdentityError, UsageError
from backup.model import VaultName
from backup.retention.locks import longest_lock

if TYPE_CHECKING:
    from cryptography import x509

PURPOSES = {
    "role_arn": "backup",
    "restore_role_arn": "restore",
    "copy_role_arn": "copy",
    "prune_role_arn": "prune",
    "lock_role_arn": "lock",
}
"""The roles by the config's keys: what each is for, which is also the name of its document."""

LONGEST_BUCKET = 63


class Options(Struct, frozen=True):
    """The options of the command line that add to the config.

    `subject` and `unit` stand for a certificate that is not on this machine; `prune_subject` is the
    certificate that alone may assume the prune role, this server's own or another; `shared`: the roles are
    for all servers of the unit.
    """

    name: str = "nightvault"
    certificates: str = ""
    crl: str | None = None
    subject: str | None = None
    unit: str | None = None
    prune_subject: str | None = None
    versioning: bool = False
    shared: bool = False


def account_of(answer: Mapping[str, Any]) -> AwsAccount:
    """The account in the answer of GetCallerIdentity."""
    arn = str(answer["Arn"])
    return AwsAccount(str(answer["Account"]), arn.split(":")[1], arn)


def vault_tables(document: Mapping[str, Any], name: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the [[vault]] tables in AWS, or the one that is named, unchecked. `UsageError`."""
    usable = [table for table in _tables(document, "vault") if table.get("kind") in ("glacier", "s3")]
    if name is not None:
        usable = [table for table in usable if table.get("name") == name]
    in_aws = [table for table in usable if _is_in_aws(table)]
    if in_aws or len(usable) == 1:
        return in_aws or usable
    if not usable:
        raise UsageError(
            f"the config has no vault {name} in AWS" if name else "the config has no vault in AWS",
            advice="add a [[vault]] of kind s3 or glacier",
        )
    raise UsageError(
        "which vault? " + ", ".join(str(table.get("name")) for table in usable),
        advice="say --vault NAME",
    )


def _is_in_aws(table: Mapping[str, Any]) -> bool:
    """Whether a set-up is for it without being asked: a bucket of another service has no role."""
    return table.get("kind") == "glacier" or "endpoint" not in table or "role_arn" in table


def missing_values(
    document: Mapping[str, Any],
    tables: Sequence[Mapping[str, Any]],
    account: AwsAccount,
    name: str,
    *,
    lets_delete: bool,
) -> Mapping[str, Mapping[str, str]]:
    """Return the keys that each vault's table lacks: ARNs of roles that are to be made, and a bucket's name.

    One role for each purpose is for all vaults that name none. A role that deletes is among them only if
    somebody is to have it (`lets_delete`). One role makes copies: it reads packs of the vaults that jobs with
    copies are kept in, and stores what is copied in vaults that hold nothing but copies.
    """
    read, only_copies = _ends_of_copies(document)
    taken = {table.get("bucket") for table in _tables(document, "vault")}
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        vault = str(table.get("name"))
        values = {
            key: f"arn:{account.partition}:iam::{account.id}:role/{name}-"
            + ("copy" if purpose == "backup" and vault in only_copies else purpose)
            for key, purpose in PURPOSES.items()
            if key not in table
            and (purpose != "copy" or vault in read)
            and (purpose != "prune" or lets_delete)
            and (purpose != "lock" or "lock" in table)
        }
        if table.get("kind") == "s3" and "bucket" not in table:
            region = str(table.get("region", ""))
            bucket = reserved_bucket(name, account.id, region)
            if bucket in taken:
                bucket = reserved_bucket(f"{name}-{vault.replace('_', '-')}", account.id, region)
            taken.add(bucket)
            values["bucket"] = bucket
        found[vault] = values
    return found


def _ends_of_copies(document: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The vaults out of which jobs are copied, and those that are no job's own and get copies; unchecked."""
    jobs = _tables(document, "job")
    copied = [job for job in jobs if _tables(job, "copy")]
    into = {str(of.get("vault")) for job in copied for of in _tables(job, "copy")}
    return {str(job.get("vault")) for job in copied}, into - {str(job.get("vault")) for job in jobs}


def _tables(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    written = document.get(name)
    return [table for table in written if isinstance(table, dict)] if isinstance(written, list) else []


def reserved_bucket(name: str, account: str, region: str) -> str:
    """A bucket's name in the account-regional namespace, which nobody else can take."""
    bucket = f"{name.lower()}-{account}-{region}-an"
    if len(bucket) > LONGEST_BUCKET:
        raise UsageError(
            f"the bucket's name {bucket} would be too long",
            advice="choose a shorter --name, or write `bucket` into the config",
        )
    return bucket


def filled(document: Mapping[str, Any], values: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the document with these values for the vaults that lack them, by vault name."""
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    for table in changed["vault"]:
        table.update(values.get(table.get("name"), {}))
    return changed


def wanted_of(
    config: Config,
    vaults: Sequence[VaultSettings],
    account: AwsAccount,
    options: Options,
    *,
    made_up: Mapping[str, Collection[str]],
) -> Sequence[Wanted]:
    """Return the set-up of each of these vaults, with the roles of all of them.

    `made_up` are the keys by vault that the config's own file does not have. `ConfigError` or `UsageError`
    where something is missing.
    """
    if config.identity is None:
        raise ConfigError(
            f"{config.path} has no [identity]: a set-up is for a certificate", advice="docs/aws.md, step 3"
        )
    common_name, unit = _subject(config, options)
    if options.shared and unit is None:
        raise UsageError(
            "--shared needs the unit (OU) that the servers' certificates have in common",
            advice="give it by --subject and --unit; `nightvault ca issue --unit` puts it into a certificate",
        )
    anywhere = config.roles_anywhere
    region = anywhere.region if anywhere else str(vaults[0].region)
    setups = {vault.name: _setup(config, vault, account, region) for vault in vaults}
    if options.shared:
        setups = {name: _shared(setup, common_name) for name, setup in setups.items()}
    made = {name: dict(documents(setup)) for name, setup in setups.items()}
    for of_vault in made.values():
        if not config.jobs and "lock" in of_vault:  # another machine renews in place of servers
            of_vault["lock"] = of_vault["keeper-lock"]
    subject = (None if options.shared else common_name, unit)
    roles = _roles(config, vaults, account, made, subject, options)
    named = {
        getattr(vault, key) for vault in vaults for key in PURPOSES if key not in made_up.get(vault.name, ())
    }
    roles = [replace(role, is_named=role.arn in named) for role in roles]
    everything = Wanted(
        name=options.name,
        setup=setups[vaults[0].name],
        region=region,
        certificates=options.certificates,
        roles=tuple(roles),
        seconds=anywhere.session_duration if anywhere else 3600,
        takes_session_names=bool(anywhere and anywhere.role_session_name),
        crl=options.crl,
        others=_roles_of_others(config, vaults),
    )
    return [
        replace(
            everything,
            setup=setups[vault.name],
            vault=vault.vault,
            bucket=_bucket(vault, vaults, setups[vault.name], made, options),
            deletes_by=vault.prune_role_arn,
            other_places=_other_places(config, vault),
        )
        for vault in vaults
    ]


def _shared(setup: AwsSetup, common_name: str) -> AwsSetup:
    """The same for all servers of a unit, each of which has its own part."""
    setup = replace(setup, is_shared=True)
    return replace(setup, vault=OWN_NAME) if setup.vault == common_name else setup


def _bucket(
    vault: VaultSettings,
    vaults: Sequence[VaultSettings],
    setup: AwsSetup,
    made: Mapping[VaultName, Mapping[str, Any]],
    options: Options,
) -> WantedBucket | None:
    """The bucket of a vault; its policy is for all vaults that are in it, each below a prefix."""
    if setup.bucket is None:
        return None
    inside = [other for other in vaults if other.bucket == vault.bucket]
    statements = [statement for other in inside for statement in made[other.name]["bucket"]["Statement"]]
    policy = {"Version": "2012-10-17", "Statement": _distinct(statements)}
    owner = setup.account if vault.account_id == "-" else vault.account_id
    locks = any(other.lock for other in inside)
    return WantedBucket(
        setup.bucket.name, setup.region, policy, options.versioning or locks, owner, locks=locks
    )


def _roles_of_others(config: Config, vaults: Sequence[VaultSettings]) -> Mapping[str, Collection[str]]:
    """The ARNs of the roles that the other vaults of the config name, by vault."""
    found = {
        other.name: {arn for key in PURPOSES if (arn := getattr(other, key)) is not None}
        for other in config.vaults
        if other not in vaults
    }
    return {name: arns for name, arns in found.items() if arns}


def _other_places(config: Config, vault: VaultSettings) -> frozenset[str]:
    others = [other for other in config.vaults if other is not vault]
    return frozenset(place for other in others for place in (other.bucket, other.vault) if place)


def _setup(config: Config, vault: VaultSettings, account: AwsAccount, region: str) -> AwsSetup:
    bucket = None
    if vault.kind == "s3":
        endpoint = vault.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or ""
        bucket = bucket_setup(config, vault, str(vault.bucket), is_plain=endpoint.startswith("http://"))
    arns: Sequence[str] = sorted({arn for key in PURPOSES if (arn := getattr(vault, key)) is not None})
    return AwsSetup(
        partition=account.partition,
        region=str(vault.region),
        account=account.id,
        vault=str(vault.vault),
        trust_anchor_arn=f"arn:{account.partition}:rolesanywhere:{region}:{account.id}:trust-anchor/NEW",
        role_arns=arns,
        session_duration=config.roles_anywhere.session_duration if config.roles_anywhere else 3600,
        bucket=bucket,
    )


def bucket_setup(config: Config, vault: VaultSettings, name: str, *, is_plain: bool = False) -> BucketSetup:
    """The bucket of an S3 vault, as the documents are made from it."""
    rules, now = lock_rules(vault), datetime.now(UTC)
    return BucketSetup(
        name,
        vault.prefix,
        vault.storage_class,
        vault.catalog_class,
        is_plain,
        None if vault.lock is None else vault.lock.upper(),
        0 if rules is None else -(-(longest_lock(now, rules) - now) // timedelta(days=1)),
        compares=vault.checksums != "none",
        tells=config.center is not None and config.center.url == f"s3://{name}",
    )


_MADE_BY_SET_UP = "MakeTheBucket"
"""The statement by which `init` may make a bucket: a set-up makes it, with its tag and settings."""


def _roles(
    config: Config,
    vaults: Sequence[VaultSettings],
    account: AwsAccount,
    made: Mapping[VaultName, Mapping[str, Any]],
    subject: tuple[str | None, str | None],
    options: Options,
) -> list[WantedRole]:
    """A role for each ARN of the config; one for several purposes or vaults gets the statements of all."""
    only_copies = {of.vault for job in config.jobs for of in job.copy} - {job.vault for job in config.jobs}
    uses: dict[str, list[tuple[str, VaultName]]] = {}
    for key, purpose in PURPOSES.items():
        for vault in vaults:
            if (arn := getattr(vault, key)) is not None:
                uses.setdefault(arn, []).append((purpose, vault.name))
    purposes_of = {
        arn: list(dict.fromkeys("copy" if of == "backup" and to in only_copies else of for of, to in uses_of))
        for arn, uses_of in uses.items()
    }
    for vault in vaults if options.prune_subject is not None else ():
        if purposes_of.get(str(vault.prune_role_arn)) != ["prune"]:
            raise UsageError(
                f"--prune-subject needs a prune role of its own; {vault.name} has one role for several "
                "purposes",
                advice="name another role in prune_role_arn, or leave it out",
            )
    roles = []
    for arn, purposes in purposes_of.items():
        if arn.split(":")[4] != account.id:
            raise ConfigError(
                f"role {arn} is in another account than the credentials, {account.id}",
                advice="set up with credentials of that account, or correct the ARN",
            )
        stated = [statement for purpose, name in uses[arn] for statement in made[name][purpose]["Statement"]]
        statements = [statement for statement in stated if statement["Sid"] != _MADE_BY_SET_UP]
        policy = {"Version": "2012-10-17", "Statement": _distinct(statements)}
        alone = purposes == ["prune"] and options.prune_subject not in {None, subject[0]}
        common_name, unit = (options.prune_subject, None) if alone else subject
        name = arn.rsplit("/", 1)[-1]
        roles.append(WantedRole(" and ".join(purposes), name, arn, policy, common_name, unit))
    return roles


def _distinct(statements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The statements with ids that differ, as a policy needs them."""
    made, seen = [], dict[str, int]()
    for statement in statements:
        if statement in made:
            continue
        number = seen[statement["Sid"]] = seen.get(statement["Sid"], 0) + 1
        made.append(statement if number == 1 else {**statement, "Sid": f"{statement['Sid']}{number}"})
    return made


def _subject(config: Config, options: Options) -> tuple[str, str | None]:
    for option, value in (
        ("--subject", options.subject),
        ("--unit", options.unit),
        ("--prune-subject", options.prune_subject),
    ):
        if value is not None and not (value and TAG_VALUE.fullmatch(value)):
            raise UsageError(
                f"{option} {value!r} is in no certificate that AWS lets in",
                advice="letters, digits, blanks and _ . : / = + - @, at least one",
            )
    if options.subject is not None:
        return options.subject, options.unit
    if options.unit is not None:
        raise UsageError(
            "--unit is for a certificate that is not on this machine", advice="say --subject CN, too"
        )
    return subject_of(config)


def check_own_certificate(config: Config, authorities: Sequence[x509.Certificate]) -> None:
    """`UsageError` if none of the authorities signed this server's certificate; a chain is left to AWS."""
    from backup.app.base.vaults import identity_files
    from backup.credentials.identity import own_certificate

    if config.identity is not None and config.identity.intermediates is None:
        check_issuer(own_certificate(identity_files(config)), authorities)


def subject_of(config: Config) -> tuple[str, str | None]:
    """CN and OU of the certificate, as session tags have them: several are joined by a slash."""
    from cryptography.x509.oid import NameOID

    from backup.app.base.vaults import identity_files
    from backup.credentials.certificate import subject_values
    from backup.credentials.identity import own_certificate

    try:
        certificate = own_certificate(identity_files(config))
    except IdentityError as error:
        other = f"{error.advice}; or, for a certificate that is not here, " if error.advice else ""
        error.advice = f"{other}give --subject CN"
        raise
    names = subject_values(certificate, NameOID.COMMON_NAME)
    units = subject_values(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    if not names:
        raise UsageError("the certificate has no common name", advice="say --subject CN")
    return "/".join(names), "/".join(units) or None
