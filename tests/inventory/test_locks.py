"""An inventory is not moved under those who have it open; who finds it moved all the same records nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import InventoryMovedError, LockedError
from backup.inventory.records.runs import list_runs
from backup.inventory.store.database import open_inventory
from backup.inventory.store.driver import insert_row
from backup.inventory.store.locks import exclusive_opening, share_opening
from backup.model import ArchiveLabel, UploadId
from tests.support.backups import Site
from tests.support.doubles import FaultyVault


def test_many_may_have_it_open_and_one_may_move_it(tmp_path: Path) -> None:
    first, second = share_opening(str(tmp_path)), share_opening(str(tmp_path))
    for opening in (first, second):
        with pytest.raises(LockedError, match="open in another process"), exclusive_opening(str(tmp_path)):
            pass
        opening.close()
        opening.close()
    with exclusive_opening(str(tmp_path)), pytest.raises(LockedError, match="is being rebuilt"):
        share_opening(str(tmp_path))
    share_opening(str(tmp_path))
    with exclusive_opening(str(tmp_path)):
        pass


def test_an_inventory_is_open_until_it_is_closed(site: Site) -> None:
    folder = str(site.folder)
    with pytest.raises(LockedError), exclusive_opening(folder):
        pass
    site.close()
    with exclusive_opening(folder), pytest.raises(LockedError):
        open_inventory(f"sqlite:///{site.folder}/inventory.sqlite", lock_directory=folder)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_moved_by_hand_takes_nothing_more(site: Site, replaced: bool) -> None:
    """Whoever moved it, and however."""
    path = site.folder / "inventory.sqlite"
    path.rename(site.folder / "elsewhere")
    if replaced:
        path.write_bytes((site.folder / "elsewhere").read_bytes())
    with pytest.raises(InventoryMovedError, match="moved or replaced"), site.inventory.writing() as tx:
        insert_row(tx, "vaults", name="lost")
    with pytest.raises(InventoryMovedError), site.inventory.locked("backup"):
        pass


def test_a_backup_under_which_it_is_moved_reports_no_snapshot(site: Site, source: Path) -> None:
    """By a program that heeds no lock."""
    (source / "file").write_text("x")
    site.backup()

    class Mover(FaultyVault):
        def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
            path = site.folder / "inventory.sqlite"
            if path.exists():
                path.rename(site.folder / "elsewhere")
            return super().begin_upload(label, part_size)

    (source / "more").write_text("y")
    with pytest.raises(InventoryMovedError):
        replace(site, vault=Mover(site.vault)).backup()
    (site.folder / "elsewhere").rename(site.folder / "inventory.sqlite")
    site = site.reopen()
    assert len(site.snapshots()) == 1
    site.backup()
    with site.inventory.reading() as tx:
        assert all(run.outcome != "running" for run in list_runs(tx))
