"""A disk that loses what it was given: the system tells of it once, and goes on to show the bytes.

Then nothing that was written since the last good sync may count as restored.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.errors import InterruptedRunError, TargetError
from backup.kinds import Outcome
from backup.model import KIB
from backup.restorer.context import CHECKPOINT
from backup.restorer.writer import directories, partial_files, write
from backup.restorer.writer.directories import Target
from tests.restorer.sites import leftovers
from tests.support.backups import Site
from tests.support.small_frames import frames_of_at_most
from tests.support.trees import assert_same_tree


class Disk:
    """Below `out`; the `turn`-th sync fails, and what was written since the one before is lost."""

    def __init__(self, out: Path, patch: pytest.MonkeyPatch, turn: int) -> None:
        self._out = out
        self._calls = itertools.count(1)
        self._turn = turn
        self._safe: dict[int, bytes] = {}  # by inode, as of the last good sync
        self._lost: dict[int, bytes] = {}  # what a file is, for who reads it from the disk
        self._held: list[int] = []  # so that no inode is used again
        self.has_failed = False
        self.fails: Callable[[], None] = lambda: None
        real_syncing, real_sync = Target.syncing, directories.sync_file_system

        def syncing(writes: Target, paths: Iterable[bytes]) -> Callable[[], None]:
            self._seen = {os.stat(path).st_ino: path.read_bytes() for path in self._files()}
            return real_syncing(writes, paths)

        def sync(handle: int) -> None:
            seen = self._seen
            real_sync(handle)
            if next(self._calls) == self._turn:
                self.has_failed = True
                self.fails()
                raise OSError(5, "Input/output error")
            if not self.has_failed:
                self._safe = seen

        patch.setattr(Target, "syncing", syncing)
        patch.setattr(directories, "sync_file_system", sync)
        for module in (partial_files, write):
            patch.setattr(module, "forget", self._reveal)

    def loses(self) -> None:
        """The sitting is over: from now on files are what the disk has of them, once the cache let go."""
        for path in self._files():
            handle = os.open(path, os.O_RDONLY)
            self._held.append(handle)
            inode, now = os.fstat(handle).st_ino, path.read_bytes()
            there = self._safe.get(inode, b"")[: len(now)].ljust(len(now), b"\0")
            if there != now:
                self._lost[inode] = there

    def reveal_all(self) -> None:
        """The cache is empty."""
        for path in self._files():
            with path.open("rb") as file:
                self._reveal(file.fileno())
        for handle in self._held:
            os.close(handle)

    def _reveal(self, file: int, start: int = 0, length: int = 0) -> None:
        del start, length
        there = self._lost.pop(os.fstat(file).st_ino, None)
        if there is not None:
            Path(f"/proc/self/fd/{file}").write_bytes(there)

    def _files(self) -> Iterator[Path]:
        for place, _, names in os.walk(self._out):
            for path in (Path(place, name) for name in names):
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path


@contextmanager
def losing(disk: Disk, error: type[BaseException]) -> Iterator[None]:
    """A sitting that ends so, on a disk that then has not what it was given."""
    with pytest.raises(error):
        yield
    assert disk.has_failed
    disk.loses()


def is_restored(site: Site, source: Path, out: Path, disk: Disk) -> None:
    """The next sitting ends well, and the disk has it all."""
    report = site.restore("latest", out)
    disk.reveal_all()
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    assert_same_tree(source, out)
    assert not leftovers(out)


@pytest.mark.parametrize("turn", range(1, 9))
def test_any_checkpoint(
    framed: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    framed.checkpoint = 1
    disk = Disk(out, monkeypatch, turn)
    with losing(disk, TargetError):
        framed.restore("latest", out)
    is_restored(framed, source, out, disk)


def test_the_last_sync(framed: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(out, monkeypatch, 1)
    with losing(disk, TargetError):
        framed.restore("latest", out)
    is_restored(framed, source, out, disk)


@pytest.mark.parametrize("turn", [1, 4])
def test_a_stop_while_it_is_synced(
    framed: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    framed.checkpoint = 1
    disk = Disk(out, monkeypatch, turn)
    disk.fails = lambda: time.sleep(0.2)
    framed.stop = lambda: disk.has_failed
    with losing(disk, (InterruptedRunError, TargetError)):  # type: ignore[arg-type]
        framed.restore("latest", out)
    framed.stop = lambda: False
    is_restored(framed, source, out, disk)


@pytest.mark.parametrize("checkpoint", [1, CHECKPOINT])
def test_ctrl_c_while_it_is_synced(
    framed: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: int
) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

    framed.checkpoint = checkpoint
    disk = Disk(out, monkeypatch, 1)
    disk.fails = interrupt
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with losing(disk, KeyboardInterrupt):
            framed.restore("latest", out)
    finally:
        signal.signal(signal.SIGINT, before)
    is_restored(framed, source, out, disk)


@pytest.mark.parametrize(("size", "least"), [(60, 4), (0, 0)])
def test_of_tiny_files_their_blocks_count(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, size: int, least: int
) -> None:
    """A thousand that are a few frames of 8 KiB take 4 MiB of the disk, all of which waited for the end."""
    syncs: list[int] = []
    real = directories.sync_file_system

    def counted(handle: int) -> None:
        syncs.append(handle)
        real(handle)

    frames_of_at_most(monkeypatch, 8 * KIB)
    for number in range(1000):
        (source / f"{number}").write_bytes(random.Random(number).randbytes(size))
    site.backup()
    site.checkpoint = 400 * KIB
    monkeypatch.setattr(directories, "sync_file_system", counted)
    assert site.restore("latest", out).outcome is Outcome.DONE
    assert least < len(syncs) <= 12
    assert_same_tree(source, out)
