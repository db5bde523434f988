"""An inventory that is damaged is told of when it is opened or used, and a rebuild is offered: no guess."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.errors import InventoryDamagedError
from backup.inventory.content.entries import load_owners
from backup.inventory.content.snapshots import list_snapshots
from backup.inventory.store.database import open_inventory
from tests.support.backups import Site
from tests.support.doubles import ManualClock


def overwrite(path: Path, start: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)


def open_and_look(path: Path) -> None:
    inventory = open_inventory(f"sqlite:///{path}", lock_directory=str(path.parent))
    with inventory.reading() as tx:
        list_snapshots(tx)
        load_owners(tx)


def of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 1234")
    db.close()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: overwrite(path, 0, b"no database, but a text"), "is damaged"),
        (lambda path: overwrite(path, 100, bytes(100_000)), "malformed"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 3]), "malformed"),
        (of_another_program, "another program"),
    ],
    ids=["no database", "overwritten", "cut short", "another program's"],
)
def test_damage_is_told(tmp_path: Path, damage: Callable[[Path], None], sentence: str) -> None:
    site = Site.create(tmp_path / "state", None, [tmp_path], clock=ManualClock())  # type: ignore[arg-type]
    site.close()
    path = site.folder / "inventory.sqlite"
    damage(path)
    with pytest.raises(InventoryDamagedError, match=sentence) as caught:
        open_and_look(path)
    assert "nightvault rebuild --set-aside" in caught.value.advice
