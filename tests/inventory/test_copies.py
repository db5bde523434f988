"""Copies of an inventory: consistent whoever writes meanwhile, private, whole; older ones are kept."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backup.errors import InventoryDamagedError, InventoryNewerError, LockedError, NightvaultError, SpoolError
from backup.inventory.store import database
from backup.inventory.store.copies import copy_before_migration, copy_inventory, migration_copies, vacuum
from backup.inventory.store.database import HEAD, Inventory, open_copy, open_inventory
from backup.inventory.store.database_errors import our_errors
from backup.inventory.store.migrating import upgrade


def rows(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
        names = [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(copy.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def step_together(inventory: Inventory) -> None:
    """One transaction that keeps two counters equal."""
    with inventory.writing() as tx:
        for name in ("entries", "chunks"):
            tx.connection.execute(f"UPDATE counters SET next = next + 1 WHERE name = '{name}'")


def test_a_copy_is_consistent_while_others_write(inventory: Inventory, tmp_path: Path) -> None:
    """And nobody is held up: writing goes on all the time."""
    done, written = threading.Event(), 0

    def write() -> None:
        nonlocal written
        while not done.is_set():
            step_together(inventory)
            written += 1

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    for number in range(25):
        path = tmp_path / f"{number}.sqlite"
        copy_inventory(inventory.connections, str(path), inventory.lock_directory)
        counters = dict(rows(path)["counters"])
        assert counters["entries"] == counters["chunks"]
        seen.add(counters["entries"])
    done.set()
    thread.join()
    assert written >= len(seen) > 1


def test_it_is_one_private_file_with_all_rows(inventory: Inventory, state: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    before = os.umask(0)
    try:
        size = copy_inventory(inventory.connections, str(target), str(state))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert size == target.stat().st_size
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy.sqlite"]
    step_together(inventory)
    assert dict(rows(target)["counters"])["entries"] == 1  # that of the copy: it is its own file
    target.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        copy, is_todays = open_copy(str(target))
    finally:
        tmp_path.chmod(0o700)
    with closing(copy):
        assert (copy.id, is_todays) == (inventory.id, True)


def test_it_is_never_written_over_something(inventory: Inventory, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    target.write_text("mine")
    with pytest.raises(NightvaultError, match="a file already"):
        copy_inventory(inventory.connections, str(target), inventory.lock_directory)
    target.unlink()
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NightvaultError, match="a file already"):
        copy_inventory(inventory.connections, str(target), inventory.lock_directory)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(SpoolError, match="No such file or directory"):
        copy_inventory(
            inventory.connections, str(tmp_path / "gone" / "copy.sqlite"), inventory.lock_directory
        )


def test_one_copy_is_made_at_a_time_and_what_a_killed_one_left_is_no_hindrance(
    inventory: Inventory, state: Path, tmp_path: Path
) -> None:
    with inventory.locked("copy"), pytest.raises(LockedError):
        copy_inventory(inventory.connections, str(tmp_path / "copy.sqlite"), str(state))
    for name in ("copy.part", "copy.part-wal"):
        (state / "copies" / name).write_text("half of a copy")
    copy_inventory(inventory.connections, str(tmp_path / "copy.sqlite"), str(state))
    assert not list((state / "copies").iterdir())
    open_copy(str(tmp_path / "copy.sqlite"))[0].close()


def test_of_a_damaged_one_no_copy_is_kept(inventory: Inventory, state: Path, tmp_path: Path) -> None:
    step_together(inventory)
    inventory.connections.close()
    with closing(sqlite3.connect(state / "inventory.sqlite")) as own:
        own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = own.execute("SELECT rootpage FROM sqlite_master WHERE name = 'counters'").fetchone()
        (page,) = own.execute("PRAGMA page_size").fetchone()
    with (state / "inventory.sqlite").open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * 64)
    with pytest.raises(InventoryDamagedError), our_errors(inventory.connections.path):
        copy_inventory(inventory.connections, str(tmp_path / "copy.sqlite"), inventory.lock_directory)
    assert not list(tmp_path.glob("copy*"))
    assert not list((state / "copies").iterdir())


def test_without_room_nothing_is_begun(
    inventory: Inventory, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr("os.statvfs", lambda _: Full())
    with pytest.raises(SpoolError, match="0 are free"):
        copy_inventory(inventory.connections, str(tmp_path / "copy.sqlite"), inventory.lock_directory)
    with pytest.raises(SpoolError, match="0 are free"):
        vacuum(inventory.connections, str(state))
    assert not list(tmp_path.glob("copy*"))


def test_a_vacuum_gives_back_what_nothing_uses(inventory: Inventory, state: Path) -> None:
    with inventory.writing() as tx:
        tx.connection.execute("CREATE TABLE ballast (data BLOB)")
        for _ in range(50):
            tx.connection.execute("INSERT INTO ballast VALUES (randomblob(100000))")
    with inventory.writing() as tx:
        tx.connection.execute("DROP TABLE ballast")
    assert free_pages(inventory) > 900
    kept = dict(rows_of(inventory))
    before, after = vacuum(inventory.connections, str(state))
    assert before > 5_000_000 > 1_000_000 > after
    assert (state / "inventory.sqlite").stat().st_size == after
    assert free_pages(inventory) == 0
    assert dict(rows_of(inventory)) == kept
    assert "SQLITE_TMPDIR" not in os.environ


def free_pages(inventory: Inventory) -> int:
    with inventory.reading() as tx:
        return int(tx.connection.execute("PRAGMA freelist_count").fetchone()[0] or 0)


def rows_of(inventory: Inventory) -> list[Any]:
    with inventory.reading() as tx:
        return [tuple(row) for row in tx.connection.execute("SELECT name, next FROM counters")]


def downgraded(inventory: Inventory, state: Path, version: str) -> None:
    """As an older nightvault left it."""
    inventory.close()
    (state / "inventory.sqlite").unlink()
    connections = database.connections_to(f"{state}/inventory.sqlite")
    with connections.transaction(writes=True) as tx:
        upgrade(tx, version)
        tx.connection.execute("INSERT INTO about VALUES (x'01', x'02', NULL, 3)")
    connections.close()


@pytest.mark.usefixtures("real_migrations")
def test_what_an_older_nightvault_left_is_kept_before_it_is_changed(
    inventory: Inventory, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{state}/inventory.sqlite"
    downgraded(inventory, state, "0005")
    before = rows(state / "inventory.sqlite")
    open_inventory(url, lock_directory=str(state)).close()
    (kept,) = migration_copies(str(state))
    assert kept == f"{state}/copies/before-schema-{HEAD}.sqlite"
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    assert stat.S_IMODE((state / "copies").stat().st_mode) == 0o700
    assert rows(Path(kept)) == before
    made = os.stat(kept).st_mtime_ns
    open_inventory(url, lock_directory=str(state)).close()  # nothing to migrate: nothing to keep
    assert os.stat(kept).st_mtime_ns == made
    # The older program, which knows no more than 0005, says what to go back to.
    monkeypatch.setattr(database, "HEAD", "0005")
    with pytest.raises(InventoryNewerError, match="this program knows 0005") as caught:
        open_inventory(url, lock_directory=str(state))
    assert kept in caught.value.advice
    os.replace(kept, state / "inventory.sqlite")
    with closing(open_inventory(url, lock_directory=str(state))) as again:
        assert again.id == b"\x01"


@pytest.mark.usefixtures("real_migrations")
def test_without_a_copy_nothing_is_migrated(
    inventory: Inventory, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downgraded(inventory, state, "0006")
    before = rows(state / "inventory.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
        with pytest.raises(SpoolError, match="free"):
            open_inventory(f"sqlite:///{state}/inventory.sqlite", lock_directory=str(state))
    assert rows(state / "inventory.sqlite") == before
    open_inventory(f"sqlite:///{state}/inventory.sqlite", lock_directory=str(state)).close()


def test_of_migrations_few_copies_are_kept(inventory: Inventory, state: Path) -> None:
    for version in ("0009", "0010", "0012", "0011", "0013"):
        copy_before_migration(inventory.connections, str(state), version)
    names = [Path(path).name for path in migration_copies(str(state))]
    assert names == [f"before-schema-{version}.sqlite" for version in ("0011", "0012", "0013")]


def test_an_older_copy_is_looked_at_and_not_brought_up(inventory: Inventory, state: Path) -> None:
    path = state / "inventory.sqlite"
    downgraded(inventory, state, "0005")
    with closing(open_copy(str(path))[0]):
        pass
    copy, is_todays = open_copy(str(path))
    with closing(copy):
        assert not is_todays
    with closing(sqlite3.connect(path)) as own:
        assert own.execute("SELECT version_num FROM alembic_version").fetchone() == ("0005",)
    assert not migration_copies(str(state))
