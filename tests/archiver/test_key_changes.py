"""After recipients change: which older packs need the old key, and how to be rid of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver.backup import run_backup
from backup.catalogs.report import BackupReport
from backup.errors import RecoveryKeyError
from backup.format.keys import RecoveryKey
from backup.inventory.content.archives import list_archives
from backup.inventory.content.domains import older_packs
from backup.model import PackKind
from tests.support.backups import INVENTORY_ID, Site, recovery_key
from tests.support.integrity import fill
from tests.support.trees import assert_same_tree

OLD, NEW = recovery_key(), RecoveryKey.from_seed(b"n" * 32)
SIZE = 4 * 1024 * 1024


def sealing_for(site: Site, *recipients: RecoveryKey) -> Site:
    """The same server, whose config names other recipients, all of which have vouched for it."""
    public = site.keys.signer.public
    tags = tuple((key.recipient.id, key.enrolment_tag(INVENTORY_ID, public)) for key in recipients)
    keys = replace(site.keys, recipients=tuple(key.recipient for key in recipients), enrolments=tags)
    return replace(site, keys=keys, key=recipients[0])


def accepted(site: Site) -> BackupReport:
    return run_backup(site.job, site.keys, site.world, accept_recipients=True)


def test_a_report_names_the_older_packs_and_the_cost_of_storing_them_anew(site: Site, source: Path) -> None:
    """It is told that the new key does not open what is there already."""
    fill(source, 1, SIZE)
    assert site.backup().older_packs is None
    with site.inventory.reading() as tx:
        stored = [
            archive for archive in list_archives(tx, INVENTORY_ID) if archive.label.kind is PackKind.DATA
        ]
    files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    changed = sealing_for(site, NEW)
    report = accepted(changed)
    (told,) = report.warnings
    assert OLD.recipient.id.hex() in told
    assert "backup job --reread" in told
    assert report.older_packs is not None
    assert report.older_packs["packs"] == len(stored)
    assert report.older_packs["bytes"] == sum(archive.size for archive in stored)
    assert report.older_packs["sealed_for"] == [[OLD.recipient.id.hex()]]
    assert report.older_packs["newest_bytes"] == size
    assert f"at most {size:,} bytes" in told
    assert changed.backup().warnings == report.warnings, "it is told each night"


@pytest.mark.parametrize("recipients", [(NEW,), (NEW, OLD)], ids=["changed", "added"])
def test_reread_stores_everything_for_the_new_key(
    site: Site, source: Path, tmp_path: Path, recipients: tuple[RecoveryKey, ...]
) -> None:
    """If it is only stored again, the snapshots go on naming the old packs."""
    fill(source, 1, SIZE)
    os.link(next(path for path in source.rglob("*") if path.is_file()), source / "second name")
    site.backup()
    changed = sealing_for(site, *recipients)
    accepted(changed)
    with pytest.raises(RecoveryKeyError):
        changed.restore("latest", tmp_path / "not yet")
    report = changed.rereading().backup()
    assert report.bytes_new > 0
    assert report.older_packs is not None
    assert (report.older_packs["newest_files"], report.older_packs["newest_bytes"]) == (0, 0)
    assert "The newest snapshot does without" in report.warnings[0]
    changed.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")

    again = changed.rereading().backup()
    assert (again.bytes_new, again.entries_added, again.warnings) == (0, 0, ())
    last = changed.backup()
    assert (last.bytes_new, last.entries_added, last.warnings) == (0, 0, ())
    with changed.inventory.reading() as tx:
        assert older_packs(tx, {NEW.recipient.id}), "older snapshots still need them"


def test_a_recipient_less_leaves_no_pack_that_cannot_be_opened(site: Site, source: Path) -> None:
    """The one who stays opens all of it."""
    fill(source, 1, SIZE // 4)
    both = sealing_for(site, OLD, NEW)
    both.backup()
    report = accepted(sealing_for(site, NEW))
    assert (report.older_packs, report.warnings) == (None, ())


def test_a_file_that_is_only_looked_at_again_moves_too(site: Site, source: Path, tmp_path: Path) -> None:
    """What was read was stored for the new key: the snapshot names that."""
    (source / "file").write_bytes(os.urandom(50_000))
    site.backup()
    changed = sealing_for(site, NEW)
    accepted(changed)
    os.utime(source / "file", ns=(1, 1))
    report = changed.backup()
    assert report.older_packs is not None
    assert report.older_packs["newest_files"] == 0
    changed.restore("latest", tmp_path / "out")


@pytest.mark.parametrize("enrolled", [0, 1])
def test_every_backup_warns_of_recipients_that_have_not_vouched(
    site: Site, source: Path, enrolled: int
) -> None:
    """A rebuild with that key alone would refuse its catalogs."""
    (source / "file").write_text("x")
    site = sealing_for(site, OLD, NEW)
    site = replace(site, keys=replace(site.keys, enrolments=site.keys.enrolments[:enrolled]))
    for _ in range(2):
        warnings = site.backup().warnings
        assert len(warnings) == 2 - enrolled
        assert all("`nightvault key request`" in warning for warning in warnings)
        assert NEW.recipient.id.hex() in warnings[-1]
