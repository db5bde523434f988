"""Checks that each role has the rights for its work, and no others: tried on random names, so without effect.

The backup role begins an upload and aborts it. The restore role requests an archive that cannot exist. The
prune role deletes a name that cannot exist; the same must be denied to the backup and restore roles. Rights
that backups and restores used recently are not tried again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct

from backup.app.base.opened import opened
from backup.app.base.vaults import Purpose, bucket_requests, make_vault, role_of
from backup.app.doctor import table
from backup.app.doctor.finding import DoctorContext, Finding
from backup.app.doctor.vaults import within
from backup.app.status.recorded import config_changed_at
from backup.config import VaultSettings
from backup.config.limits import deletes_here
from backup.errors import ArchiveMissingError, DeniedError, VaultMissingError
from backup.inventory.records import worked
from backup.model import ArchiveId, ArchiveLabel, InventoryId, PackId, PackKind, Tier, VaultName
from backup.protocols import Vault
from backup.vault.s3.answers import FROZEN
from backup.vault.s3.keys import key_of

LATELY = timedelta(days=7)
_WORK = {Purpose.BACKUP: "an upload", Purpose.RESTORE: "a retrieval"}
_NAMES = {
    Purpose.BACKUP: "backups",
    Purpose.RESTORE: "restores",
    Purpose.PRUNE: "prunes",
    Purpose.LOCK: "locks",
}


class _Trial(Struct, frozen=True):
    """Something that is tried with a role; `attempt` returns whether it is allowed, or which part of it."""

    purpose: Purpose
    action: str
    attempt: Callable[[], bool | str]


def roles_at_work(context: DoctorContext) -> Iterator[Finding]:
    """Find roles that cannot do their work, or may do more, at the vaults that can be reached."""
    lately = _worked_lately(context)
    for vault in context.config.vaults:
        if vault.name in context.away:
            continue
        yield from _may_delete(context, vault)
        proven = lately.get(vault.name, {})
        context.notes += _not_tried(vault, proven)
        for trial in _work_of(context, vault):
            if trial.purpose not in proven and _is_denied(context, vault, trial):
                who, role = _NAMES[trial.purpose], role_of(vault, trial.purpose)
                yield table.WORK_DENIED.finding(
                    vault=vault.name,
                    who=who,
                    action=trial.action,
                    role=f" ({role})" if role else "",
                    allowing=_allowing(trial.purpose),
                )


def _allowing(purpose: Purpose) -> str:
    return f"`nightvault aws policy --only {_NAMES[purpose][:-1]}` has the right policy (docs/aws.md)"


# What has worked.


def _worked_lately(context: DoctorContext) -> Mapping[VaultName, Mapping[Purpose, datetime]]:
    """When backups and restores last did their work at a vault: within a week, by the config in force.

    If a right was withdrawn since, the next run fails and reports it.
    """
    if context.is_fresh or context.status is None:
        return {}
    since = max(context.now - LATELY, config_changed_at(context.config))
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        found = {
            Purpose.BACKUP: worked.last_stored(tx, context.now),
            Purpose.RESTORE: worked.last_retrieved(tx, context.now),
        }
    return {
        vault.name: {
            purpose: at
            for purpose, dates in found.items()
            if (at := dates.get(vault.name)) is not None and at >= since
        }
        for vault in context.config.vaults
        if vault.kind == "glacier" or vault.storage_class in FROZEN  # others are read without a retrieval
    }


def _not_tried(vault: VaultSettings, proven: Mapping[Purpose, datetime]) -> Iterator[str]:
    """A sentence on the purposes that were not tried, as they worked lately; none if all were."""
    times = [f"{_WORK[purpose]} ({at.astimezone():%Y-%m-%d %H:%M})" for purpose, at in proven.items()]
    if times:
        yield f"vault {vault.name}: not tried, as it worked lately: {', '.join(times)}; --fresh tries it"


# What must be denied.


def _may_delete(context: DoctorContext, vault: VaultSettings) -> Iterator[Finding]:
    """Find roles of backups and restores that may delete, if roles are separate."""
    if context.config.identity is None or vault.role_arn is None or vault.kind == "directory":
        return
    if vault.role_arn == vault.prune_role_arn:
        yield table.ONE_ROLE.finding(vault=vault.name, role=vault.role_arn)
        return
    if vault.prune_role_arn is not None:
        context.notes.append(
            f"vault {vault.name}: this server deletes there, by {vault.prune_role_arn}; whoever takes "
            "it over could, too (docs/who-deletes.md)"
        )
    for purpose in (Purpose.BACKUP, Purpose.RESTORE):
        role = getattr(vault, purpose.value)
        if role is None or (purpose is Purpose.RESTORE and role in {vault.role_arn, vault.prune_role_arn}):
            continue
        for trial in _deletions(context, vault, purpose):
            if action := _allowed(context, vault, trial):
                yield table.MAY_DELETE.finding(
                    vault=vault.name, who=_NAMES[purpose], action=action, allowing=_allowing(purpose)
                )
                break


def _deletions(context: DoctorContext, vault: VaultSettings, purpose: Purpose) -> Iterator[_Trial]:
    """Ways to delete what is not there: each has no effect even if it is allowed."""
    if vault.kind == "glacier":
        from backup.vault.glacier import GlacierVault

        glacier = make_vault(context.config, vault.name, purpose, context.clock)
        nothing = _no_archive()

        def delete_archive() -> bool:
            """Delete an archive that cannot exist; of a prune, a denial by the vault's lock is no error."""
            if purpose is Purpose.PRUNE:
                glacier.delete_archives({nothing: None})
            elif isinstance(glacier, GlacierVault):
                glacier.delete_archive(nothing, "try to delete nothing")
            return True

        yield _Trial(purpose, "DeleteArchive", delete_archive)
        return
    requests = bucket_requests(context.config, vault, purpose, context.clock)
    key = f"{vault.prefix}meta/doctor-{secrets.token_hex(16)}"
    wanted = {"DeleteObjectVersion": {"Key": key, "VersionId": "null"}}
    if purpose is Purpose.BACKUP and context.keep_versions.get(vault.name) is False:
        wanted["DeleteObject"] = {
            "Key": f"{key}-newest",
            "ETag": "*",
        }  # where there are versions it would leave a marker

    def delete() -> str:
        """Send one DeleteObjects; returns the actions that were not denied."""
        answer = requests.call(
            "delete_objects",
            "try to delete nothing",
            unknown=VaultMissingError,
            Delete={"Objects": list(wanted.values())},
        )
        denied = {
            error.get("Key") for error in answer.get("Errors", ()) if error.get("Code") == "AccessDenied"
        }
        return " and ".join(action for action, target in wanted.items() if target["Key"] not in denied)

    yield _Trial(purpose, " or ".join(wanted), delete)


# What must be allowed.


def _work_of(context: DoctorContext, vault: VaultSettings) -> Iterator[_Trial]:
    """The requests of backups, restores and prunes, each of nothing."""

    def trial(purpose: Purpose, attempt: Callable[[Vault], bool]) -> _Trial:
        there = make_vault(context.config, vault.name, purpose, context.clock)
        return _Trial(purpose, _WORK[purpose], partial(attempt, there))

    yield trial(Purpose.BACKUP, _upload)
    if vault.kind == "directory":
        return  # this user's rights are the same for all
    yield trial(Purpose.RESTORE, partial(_retrieve, vault.kind))
    if deletes_here(context.config, vault):
        yield next(_deletions(context, vault, Purpose.PRUNE))


def _upload(vault: Vault) -> bool:
    """Begin an upload, and give it up: nothing of it stays, and nothing is billed but the requests."""
    vault.abort_upload(vault.begin_upload(_label(), vault.traits.smallest_part))
    return True


def _retrieve(kind: str, vault: Vault) -> bool:
    """Ask for an archive that is not there: no retrieval comes of it."""
    nothing = ArchiveId(key_of(_label())) if kind == "s3" else _no_archive()
    vault.request_retrieval(nothing, None, Tier.STANDARD, secrets.token_hex(16))
    return True


def _label() -> ArchiveLabel:
    return ArchiveLabel(PackKind.DATA, PackId(os.urandom(16)), InventoryId(os.urandom(16)))


def _no_archive() -> ArchiveId:
    """An id as Glacier's are, which no archive has."""
    return ArchiveId(secrets.token_urlsafe(103)[:138])


# Trying.


def _allowed(context: DoctorContext, vault: VaultSettings, trial: _Trial) -> str:
    """The actions that are allowed and must not be; empty if there are none."""
    if role_of(vault, trial.purpose) in context.denied:
        return ""
    context.requests.append(f"{trial.action} of nothing in vault {vault.name}, to be denied")
    return _answer(context, vault, trial)


def _is_denied(context: DoctorContext, vault: VaultSettings, trial: _Trial) -> bool:
    """Whether something is denied that must be allowed."""
    if role_of(vault, trial.purpose) in context.denied:  # which is a finding of its own
        return False
    if vault.kind != "directory":
        context.requests.append(f"{trial.action} of nothing in vault {vault.name} by {_NAMES[trial.purpose]}")
    return not _answer(context, vault, trial)


def _answer(context: DoctorContext, vault: VaultSettings, trial: _Trial) -> str:
    """The actions among these that are allowed; empty if there are none."""
    try:
        found = within(context.seconds, f"try {trial.action} in vault {vault.name}", trial.attempt)
    except ArchiveMissingError:  # it was looked for
        return trial.action
    except DeniedError:
        return ""
    return trial.action if found is True else found or ""
