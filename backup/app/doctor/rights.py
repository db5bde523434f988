"""Whether backups may do more than they should: the role that a server has all night must not delete.

It is tried with a name that was just drawn at random, which nothing in the vault has.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from backup.app.doctor.deadline import within
from backup.app.doctor.finding import Finding, Patient, critical
from backup.app.vaults import Purpose, bucket_requests, make_vault
from backup.config import VaultSettings
from backup.errors import ArchiveMissingError, DeniedError
from backup.model import ArchiveId

_WHY = "whoever takes over the server can delete every backup"
_DO = "take deletions out of the role's policy: `nightvault aws policy --only backup` (docs/aws.md)"


def backups_may_not_delete(patient: Patient) -> Iterator[Finding]:
    """Roles of backups that may delete, where roles are told apart at all."""
    for vault in patient.config.vaults:
        if patient.config.identity is None or vault.role_arn is None or vault.kind == "directory":
            continue
        if vault.role_arn == vault.prune_role_arn:
            what = f"vault {vault.name}: backups and prunes have the same role, {vault.role_arn}"
            yield critical("role", what, _WHY, "give prunes a role of their own (docs/aws.md)")
            continue
        for action, attempt in _attempts(patient, vault):
            patient.requests.append(f"{action} of nothing in vault {vault.name}, to be denied")
            if _is_allowed(patient.seconds, f"try {action} in vault {vault.name}", attempt):
                what = f"vault {vault.name}: the role of backups may delete ({action})"
                yield critical("role", what, _WHY, _DO)
                break


def _is_allowed(seconds: float, what: str, attempt: Callable[[], bool]) -> bool:
    try:
        return within(seconds, what, attempt)
    except ArchiveMissingError:  # it was looked for
        return True
    except DeniedError:
        return False


def _attempts(patient: Patient, vault: VaultSettings) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Ways to delete what is not there: each has no effect even if it is allowed, and then returns True."""
    if vault.kind == "glacier":
        glacier = make_vault(patient.config, vault.name, Purpose.BACKUP, patient.clock)
        nothing = ArchiveId(secrets.token_urlsafe(103)[:138])
        yield "DeleteArchive", lambda: not glacier.delete_archives({nothing: None})
        return
    requests = bucket_requests(patient.config, vault, Purpose.BACKUP, patient.clock)
    key, doing = f"{vault.prefix}meta/doctor-{secrets.token_hex(16)}", "try to delete nothing"

    def delete(**how: Any) -> bool:
        requests.call("delete_object", doing, unknown=ArchiveMissingError, Key=key, **how)
        return True

    def delete_newest() -> bool:
        """Where there are versions, a deletion leaves a marker: there it is not tried."""
        versioning = requests.call("get_bucket_versioning", "see whether it keeps versions")
        return not versioning.get("Status") and delete()

    yield "DeleteObjectVersion", lambda: delete(VersionId="null")
    yield "DeleteObject", delete_newest
