"""Sites whose recovery keys change, are enrolled late, or were forged by an intruder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from backup.archiver.backup import run_backup
from backup.catalogs.report import BackupReport
from backup.format.keys import RecoveryKey, Signer
from tests.support.backups import INVENTORY_ID, Site, recovery_key

OLD, NEW = recovery_key(), RecoveryKey.from_seed(b"n" * 32)
NIGHT = 86400


def with_keys(site: Site, *recipients: RecoveryKey, enrolled_by: Sequence[RecoveryKey]) -> Site:
    public = site.keys.signer.public
    tags = tuple((key.recipient.id, key.enrolment_tag(INVENTORY_ID, public)) for key in enrolled_by)
    keys = replace(site.keys, recipients=tuple(key.recipient for key in recipients), enrolments=tags)
    return replace(site, keys=keys, key=recipients[0])


def night(site: Site, source: Path, name: str) -> BackupReport:
    """One more night with one more file; changed recipients are accepted."""
    (source / name).write_text(name * 1000)
    site.clock.sleep(NIGHT)
    return run_backup(site.job, site.keys, site.world, accept_recipients=True)


def forge(site: Site, source: Path, *recipients: RecoveryKey) -> Site:
    """Who got hold of the old recovery key, and can write to the vault, goes on with the history."""
    thief = Signer(b"t" * 32)
    tag = (OLD.recipient.id, OLD.enrolment_tag(INVENTORY_ID, thief.public))
    site.inventory.close()
    keys = replace(
        site.keys, signer=thief, recipients=tuple(key.recipient for key in recipients), enrolments=(tag,)
    )
    forged = replace(site.reopen(), keys=keys)
    night(forged, source, "forged")
    return forged
