"""Files that a backup stores again after a loss are told apart from changed ones."""

from __future__ import annotations

from pathlib import Path

from backup.model import ArchiveId
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.checks import archive_ids, check
from tests.support.doubles import ManualClock


def test_unchanged_files_that_are_stored_again_are_counted(
    site: Site, source: Path, disk: DirectoryVault, clock: ManualClock
) -> None:
    assert site.backup().files_again == 0
    disk.delete_archives(dict.fromkeys(map(ArchiveId, archive_ids(site))))
    clock.sleep(7200)
    check(site)
    (source / "another").write_bytes(b"new")
    report = site.backup()
    assert report.files_again > 0
    assert report.files_read == report.files_again + 1, "only one is new"
    assert site.backup().files_again == 0
