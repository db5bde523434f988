"""A wish to the C library that may go unheard, and never fails."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from backup.app.base.malloc import share_freed_memory
from backup.app.tasks.tasks import Task
from backup.app.tasks.times import Timing
from backup.config import load_config
from backup.daemon import work
from backup.daemon.task_run import TaskRun
from backup.errors import NightvaultError
from backup.kinds import TaskKind
from backup.model import MIB, VaultName
from backup.operations import backup as backups
from tests.support.daemons import Figures
from tests.support.servers import directory_server


def test_it_asks_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, what: int, value: int) -> int:
            asked.append((what, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    share_freed_memory()
    assert asked == [(-8, 1), (-3, 32 * MIB), (-1, 2**31 - 1)]


def test_freed_memory_stays_with_the_process() -> None:
    """Frames are made and dropped on threads: their pages are asked for once."""
    script = """
import resource
from concurrent.futures import ThreadPoolExecutor
from backup.app.base.malloc import share_freed_memory
from backup.model import MIB

def work(_):
    [bytearray(4 << 20) for _ in range(4)]

share_freed_memory()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(work, range(8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    list(pool.map(work, range(64)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(asked.stdout) < 32 * MIB // 4096, "64 times 16 MiB were used"


def test_after_a_task_it_goes_back_to_the_system() -> None:
    """The daemon waits for the next night for hours."""
    script = """
from concurrent.futures import ThreadPoolExecutor
from backup.app.base.malloc import give_back_freed_memory, share_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) // 256

share_freed_memory()
before = resident()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda _: bytearray(8 << 20) and None, range(16)))
held = [bytearray(8 << 20) for _ in range(8)]
last = bytearray(2000)
del held
kept = resident()
give_back_freed_memory()
print(kept - before, resident() - before)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    kept, left = map(int, said.split())
    assert kept > 60, "MiB"
    assert left < 8


@pytest.mark.parametrize("fails", [False, True])
def test_the_daemon_gives_it_back_however_a_task_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    given: list[str] = []
    monkeypatch.setattr(work, "give_back_freed_memory", lambda: given.append("all"))
    server = directory_server(tmp_path)
    server.init()
    if fails:
        (server.state / "keys").rename(tmp_path / "moved")
    task = Task(TaskKind.BACKUP, "main", VaultName("cold"), Timing(None))
    run = TaskRun(task, server.clock.now(), Figures())
    with pytest.raises(NightvaultError) if fails else nullcontext():
        work.TaskWork(load_config(str(server.config)), server.clock)(run)
    assert given == ["all"]


def test_another_library_has_no_such_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[None] = []
    monkeypatch.setattr(ctypes, "CDLL", looked.append)  # which has no `mallopt`
    share_freed_memory()
    assert looked == [None]


def test_a_backup_asks_before_it_has_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each thread that seals keeps freed frames: 28 MiB of a first backup's peak of 240."""
    sealing: list[list[str]] = []

    def asked(largest: int) -> None:
        assert largest == MIB, "what is larger leaves holes"
        sealing.append([thread.name for thread in threading.enumerate() if thread.name.startswith("seal")])

    monkeypatch.setattr(backups, "share_freed_memory", asked)
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    assert sealing == [[]]
