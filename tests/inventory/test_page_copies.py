"""The page's copy of the inventory: made when it has changed, not all the time, and for its group alone.

And who keeps others from writing to the inventory is named.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.errors import LockedError, SpoolError
from backup.inventory.pages.page_copies import PageCopier, page_copy, remove_page_copy
from backup.inventory.store.database import Inventory
from backup.inventory.store.database_errors import our_errors
from backup.inventory.store.holders import database_holders
from backup.web.daemon_desk import Heard, version_of

HOLD = """
import fcntl, os, struct, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
wanted = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, int(sys.argv[3]), 1, 0)
fcntl.fcntl(handle, fcntl.F_OFD_SETLK if sys.argv[2] == "open file" else fcntl.F_SETLK, wanted)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def copier(inventory: Inventory, tmp_path: Path) -> Iterator[PageCopier]:
    with closing(PageCopier(inventory.connections.path, str(tmp_path), os.getgid())) as made:
        yield made


def step(inventory: Inventory) -> None:
    with inventory.writing() as tx:
        tx.connection.execute("UPDATE counters SET next = next + 1")


def counters(path: str) -> list[int]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
        return [row[0] for row in copy.execute("SELECT next FROM counters ORDER BY name")]


def test_it_is_made_of_what_is_in_the_log_and_when_that_changed(
    inventory: Inventory, copier: PageCopier, tmp_path: Path
) -> None:
    path = page_copy(str(tmp_path))
    step(inventory)
    assert copier.is_due(waited_for=False)
    copier.copy(inventory.connections)
    found = counters(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    assert not copier.is_due(waited_for=True)
    step(inventory)
    assert copier.is_due(waited_for=True)
    copier.copy(inventory.connections)
    assert counters(path) == [counter + 1 for counter in found]
    Path(f"{path}.part").touch()
    remove_page_copy(str(tmp_path))
    assert not [file.name for file in tmp_path.iterdir() if "page" in file.name]


def test_nobody_who_looks_has_it_copied_all_the_time(inventory: Inventory, copier: PageCopier) -> None:
    """A copy of 2 seconds is made after 200 seconds again, or at the end of a run."""
    ticks = iter([100.0, 102.0])
    copier.seconds = lambda: next(ticks)
    step(inventory)
    copier.copy(inventory.connections)
    step(inventory)
    for now, due in ((103.0, False), (301.9, False), (302.0, True)):
        copier.seconds = lambda now=now: now  # type: ignore[misc]
        assert copier.is_due(waited_for=False) is due
        assert copier.is_due(waited_for=True)


def test_the_copy_before_takes_no_room_even_if_somebody_has_it_open(
    inventory: Inventory, copier: PageCopier, tmp_path: Path
) -> None:
    copier.copy(inventory.connections)
    with open(page_copy(str(tmp_path)), "rb") as first:
        copier.copy(inventory.connections)
        assert os.fstat(first.fileno()).st_size > 0  # who reads it has some time
        copier.copy(inventory.connections)
        assert os.fstat(first.fileno()).st_size == 0
    with open(page_copy(str(tmp_path)), "rb") as last:
        copier.close()
        assert os.fstat(last.fileno()).st_size > 0


def test_where_it_cannot_be_written_the_one_before_stays(
    inventory: Inventory, copier: PageCopier, tmp_path: Path
) -> None:
    copier.copy(inventory.connections)
    before = counters(page_copy(str(tmp_path)))
    (tmp_path / "page.sqlite.part").mkdir()
    step(inventory)
    with pytest.raises(SpoolError, match="page's copy"):
        copier.copy(inventory.connections)
    assert counters(page_copy(str(tmp_path))) == before
    assert copier.is_due(waited_for=True)


def test_an_open_page_is_told_of_another_copy_but_not_all_the_time_while_a_task_runs() -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)

    def seen(copied: str, state: str) -> str:
        tasks = [{"kind": "backup", "name": "main", "state": state}]
        return version_of(Heard(now, now, {"tasks": tasks, "copied_at": copied}, is_away=False))

    assert seen("12:00", "idle") != seen("12:01", "idle")
    assert seen("12:00", "running") == seen("12:01", "running")


@contextmanager
def held(path: Path, kind: str, byte: int) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), kind, str(byte)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder.pid
        holder.communicate("end\n", timeout=60)


@pytest.mark.parametrize("kind", ["process", "open file"])
def test_who_keeps_others_from_writing_is_named(inventory: Inventory, kind: str) -> None:
    path = inventory.connections.path
    step(inventory)
    assert database_holders(path) == []
    with held(Path(f"{path}-shm"), kind, 128):
        assert database_holders(path) == []  # it reads
    with held(Path(f"{path}-shm"), kind, 120) as holder:
        assert [process.process for process in database_holders(path)] == [holder]
        with closing(sqlite3.connect(path, timeout=0)) as database:
            told = rf"its lock is held by process {holder} \("
            with pytest.raises(LockedError, match=told), our_errors(path):
                database.execute("BEGIN IMMEDIATE")
    assert database_holders(path) == []
