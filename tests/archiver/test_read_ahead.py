"""Reading ahead, in the face of a reader that dies and of files that move: what is recorded was there."""

from __future__ import annotations

import os
import random
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver import read_ahead, readers
from backup.errors import WorkerGoneError
from backup.kinds import Outcome
from backup.memory import backup_memory
from backup.source import reader
from backup.source.reader import ReaderProcess
from backup.source.scanned import StatusColumns
from backup.source.small import LARGEST, ReadBatch
from backup.vault.directory import DirectoryVault
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.other_processes import start_instead
from tests.support.trees import assert_same_tree

KILLS = campaigns.share("NIGHTVAULT_TEST_READER_KILLS", 3)


@pytest.fixture
def site(tmp_path: Path, source: Path, disk: DirectoryVault, clock: ManualClock) -> Site:
    """A site of which every run reads in a second process."""
    return Site.create(tmp_path / "site", disk, [source], clock=clock)


@pytest.fixture(autouse=True, params=["one reader", "two readers"])
def at_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No file is too few for a second process, and few are a batch."""
    monkeypatch.setattr(readers, "MANY_SMALL_FILES", 0)
    monkeypatch.setattr(readers, "MANY_BATCHES", 1 if request.param == "two readers" else 10**9)
    monkeypatch.setattr(read_ahead, "FEW_FILES", 16)
    monkeypatch.setattr(read_ahead, "MOST_FILES", 16)


def fill(source: Path, seed: int, *, links: bool = True) -> None:
    """Files of every size around what is small, sparse ones, empty ones and names of 255 bytes."""
    chance = random.Random(seed)
    for number in range(12):
        folder = source / f"{number:03}"
        folder.mkdir()
        for place in range(chance.choice([0, 1, 5, 60])):
            size = chance.choice([0, 1, 700, 9000, LARGEST, LARGEST + 1])
            name = f"{place:04}" + ("n" * 251 if place % 9 == 0 else "")
            (folder / name).write_bytes(chance.randbytes(min(size, 20_000)).ljust(size, b"."))
            if place % 11 == 0:
                os.truncate(folder / name, 100_000 + size)
            if links and place % 13 == 0:
                os.link(folder / name, folder / f"{place:04} too")


@pytest.mark.parametrize("seed", range(KILLS))
@pytest.mark.parametrize("when", ["before it is asked", "when it was asked", "before it answers"])
def test_a_reader_that_dies_costs_nothing(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, when: str
) -> None:
    chance = random.Random(seed)
    left = chance.randrange(1, 12)

    class Mortal(ReaderProcess):
        """Killed at one of its questions or answers."""

        def ask(self, directories: Sequence[int], at: array[int], files: StatusColumns) -> None:
            self._age(when == "before it is asked")
            super().ask(directories, at, files)
            self._age(when == "when it was asked")

        def answer(self) -> ReadBatch:
            self._age(when == "before it answers")
            return super().answer()

        def _age(self, is_time: bool) -> None:
            nonlocal left
            left -= is_time
            if is_time and not left:
                killed.append(self._process.pid)
                self._process.kill()

    killed: list[int] = []
    monkeypatch.setattr(reader, "ReaderProcess", Mortal)
    fill(source, seed)
    before = len(os.listdir("/proc/self/fd"))
    report = site.backup()
    assert len(killed) == 1
    (warning,) = report.warnings
    assert warning.endswith("is gone: it was ended by signal 9, and said nothing")
    until = time.monotonic() + 10  # threads that end beside it
    while len(os.listdir("/proc/self/fd")) > before + 2:
        assert time.monotonic() < until, "handles are left, but for the inventory's own"
        time.sleep(0.05)
    assert report.problems == ()
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    assert site.backup().files_read == 0


@pytest.mark.parametrize("seed", range(KILLS))
def test_files_that_move_under_it_are_recorded_with_what_they_once_held(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    fill(source, seed, links=False)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    held: dict[Path, set[bytes]] = defaultdict(set)
    for path in files:
        held[path].add(path.read_bytes())

    class Hurried(ReaderProcess):
        """Meets files that were changed since the scan, and while they are read."""

        def ask(self, directories: Sequence[int], at: array[int], files: StatusColumns) -> None:
            meddle()
            super().ask(directories, at, files)
            meddle()

    def meddle() -> None:
        for path, other in zip(*(chance.sample(files, 6) for _ in "01"), strict=True):
            os.utime(path, ns=(1, 1))
            how = chance.randrange(4)
            if how == 0:
                os.truncate(path, os.path.getsize(path) // 2)
            elif how == 1:
                with open(path, "ab") as file:
                    file.write(b"grown")
            elif how == 2:
                path.with_name("made").write_bytes(chance.randbytes(os.path.getsize(path)))
                path.with_name("made").rename(path)
            else:
                path.rename(source / "aside")
                if other != path:
                    other.rename(path)
                (source / "aside").rename(other)
            for place in (path, other):
                held[place].add(place.read_bytes())

    monkeypatch.setattr(reader, "ReaderProcess", Hurried)
    report = site.backup()
    site.restore(report.snapshot, tmp_path / "first")
    for path in files:
        restored = tmp_path / "first" / path.relative_to(source)
        assert not restored.exists() or restored.read_bytes() in held[path], path
    monkeypatch.setattr(reader, "ReaderProcess", ReaderProcess)
    report = site.backup()
    assert report.problems == ()
    site.restore(report.snapshot, tmp_path / "second")
    assert_same_tree(source, tmp_path / "second")


def test_a_directory_whose_files_all_went_is_not_written_down(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(ReaderProcess):
        """Asked when a file is gone."""

        def ask(self, directories: Sequence[int], at: array[int], files: StatusColumns) -> None:
            (source / "a" / "gone").unlink()
            super().ask(directories, at, files)

    for path in ("a/gone", "b/there"):
        (source / path).parent.mkdir()
        (source / path).write_bytes(b"some")
    monkeypatch.setattr(reader, "ReaderProcess", Late)
    report = site.backup()
    with site.inventory.reading() as tx:
        written = {value for (value,) in tx.connection.execute("SELECT path FROM directories")}
    assert os.fsencode(source / "b") in written
    assert os.fsencode(source / "a") not in written
    assert report.files == 1


def test_directories_of_one_file_hold_few_handles(site: Site, source: Path, tmp_path: Path) -> None:
    for number in range(900):
        (source / f"{number:04}").mkdir()
        (source / f"{number:04}" / "file").write_text(str(number))
        if number % 40 == 0:
            os.truncate(source / f"{number:04}" / "file", 50_000)  # read here, when its turn comes
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return False

    site.stop = look
    before = len(os.listdir("/proc/self/fd"))
    report = site.backup()
    assert most - before < 64 + 4 * 64 + 32, "those of the walk, of files that wait, and some"
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def test_no_handles_to_be_had(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(source, 4)
    whole, refused = os.dup, []

    def dup(handle: int) -> int:
        if sys._getframe(1).f_globals["__name__"] != read_ahead.__name__:
            return whole(handle)  # who holds a folder of ours
        refused.append(handle)
        if len(refused) > 2:
            raise OSError(24, "Too many open files")
        return whole(handle)

    monkeypatch.setattr(os, "dup", dup)
    report = site.backup()
    monkeypatch.undo()
    assert len(refused) > 2
    assert report.problems == ()
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def test_no_process_to_be_had(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: bytes) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    fill(source, 5)
    monkeypatch.setattr(reader, "ReaderProcess", refuse)
    report = site.backup()
    assert report.problems == ()
    (warning,) = report.warnings
    assert warning.endswith("the one beside it cannot be started: Resource temporarily unavailable")
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def test_a_reader_that_is_gone_is_not_asked_again(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Stillborn(ReaderProcess):
        def ask(self, directories: Sequence[int], at: array[int], files: StatusColumns) -> None:
            made.append(self)
            raise WorkerGoneError("it never was")

    fill(source, 6)
    monkeypatch.setattr(reader, "ReaderProcess", Stillborn)
    report = site.backup()
    assert report.problems == ()
    assert len(made) == 1


def test_a_helper_that_cannot_work_is_told_with_its_reason(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says before it dies is told."""
    fill(source, 7)
    ends = "import sys; print('first', file=sys.stderr); sys.exit('no module named \x1bsocket')"
    monkeypatch.setattr("backup.workers.worker.start", start_instead(ends))
    report = site.backup()
    assert report.problems == ()
    assert report.outcome is Outcome.DONE
    (warning,) = report.warnings
    assert warning == (
        "small files were read by the first process alone: the one beside it is gone: "
        "it ended with exit code 1: no module named  socket"
    )
    assert report.document()["warnings"] == [warning]


def test_on_one_core_no_process_is_started(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(**_: object) -> ReaderProcess:
        raise AssertionError("a process was started")

    monkeypatch.setattr(reader, "ReaderProcess", started)
    fill(source, 1)
    site.job = replace(site.job, memory=backup_memory(cores=1))
    report = site.backup()
    assert report.warnings == ()
    site.restore(report.snapshot, tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
