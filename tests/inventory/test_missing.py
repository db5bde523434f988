"""Which archives a listing must show: one judgement for checks and for `listing show`."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backup.inventory.questions import compared
from backup.model import ArchiveId
from backup.transfer.retrievals.listing import continue_listing, newest_kept, request_listing
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock


@pytest.mark.parametrize(("ahead", "missing"), [(timedelta(0), 1), (timedelta(hours=9), 0)])
def test_a_vault_s_clock_that_is_ahead_makes_nothing_missing(
    site: Site, source: Path, clock: ManualClock, disk: DirectoryVault, ahead: timedelta, missing: int
) -> None:
    """`listing show` called an archive missing that a check, which knows of the vault's clock, did not."""
    (source / "file").write_bytes(os.urandom(9))
    site.backup()
    clock.advance(timedelta(hours=5))
    with site.inventory.reading() as tx:
        gone = min(compared.stored_numbers(tx, disk.name))
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database:
        ((archive_id,),) = database.execute("SELECT archive_id FROM archives WHERE number = ?", (gone,))
    disk.delete_archives({ArchiveId(archive_id): None})
    request_listing(site.inventory, disk, clock)
    assert continue_listing(site.inventory, disk, clock)
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database, database:
        micros = int(ahead.total_seconds()) * 1_000_000
        database.execute(
            "UPDATE listed_archives SET created_at = ? + (SELECT stored_at FROM archives "
            "WHERE archives.archive_id = listed_archives.archive_id)",
            (micros,),
        )
    kept = newest_kept(site.inventory, disk)
    assert kept is not None
    with site.inventory.reading() as tx:
        covered = compared.must_show(tx, kept[0], disk.name, clock.now(), at_once=True)
        lacking, newer = compared.absent_archives(tx, kept[0].number, disk.name, covered)
    assert len(lacking) == missing
    assert [row.number for row in (*lacking, *newer)] == [gone]
