"""Files made by two processes: the same tree as by one, whatever becomes of the second one."""

from __future__ import annotations

import os
import random
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from backup.errors import RetrievalExpiredError, TargetFullError
from backup.kinds import Outcome
from backup.model import KIB, MIB, FrameRow, ProblemKind, Tier
from backup.restorer.restore import RestoreReport, advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.choice import Choice, Overwrite
from backup.restorer.selection.entry import NewFiles, RestoreEntry
from backup.restorer.writer import sharing
from backup.restorer.writer.directories import way_to
from backup.restorer.writer.maker import MOST_DIRECTORIES, Lent, MadeFiles, MakerProcess
from backup.restorer.writer.making import FileMaker, Made
from backup.restorer.writer.write import Writer
from backup.transfer.retrieve import Fetcher, ReadyRange
from tests.restorer.sites import leftovers, plant, sql, users_of
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT
from tests.support.other_processes import start_instead
from tests.support.small_frames import frames_of_at_most
from tests.support.trees import assert_same_tree, snapshot_of

KILLS = campaigns.share("NIGHTVAULT_TEST_MAKER_KILLS", 3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is too few for a second process, few are a batch, and frames are small."""
    frames_of_at_most(monkeypatch, 64 * KIB)
    monkeypatch.setattr(sharing, "MANY_SMALL_FILES", 0)
    monkeypatch.setattr(sharing, "MOST_FILES", 4)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files the second process made of each batch."""
    counts: list[int] = []
    waits, looks = MakerProcess.answer, MakerProcess.answer_if_any

    def answer(self: MakerProcess) -> MadeFiles:
        told = waits(self)
        counts.append(told.made.count(Made.WHOLE))
        return told

    def answer_if_any(self: MakerProcess) -> MadeFiles | None:
        told = looks(self)
        if told is not None:
            counts.append(told.made.count(Made.WHOLE))
        return told

    monkeypatch.setattr(MakerProcess, "answer", answer)
    monkeypatch.setattr(MakerProcess, "answer_if_any", answer_if_any)
    return counts


def fill(source: Path, seed: int = 1) -> None:
    """Some of everything, and small files of every size, mode and age; some are linked, some the same."""
    plant(source)
    chance = random.Random(seed)
    for number in range(300):
        folder = source / f"d{number // 40}"
        folder.mkdir(exist_ok=True)
        file = folder / f"{number:03}"
        file.write_bytes(chance.choice([b"", b"the same", chance.randbytes(chance.choice([1, 900, 30_000]))]))
        file.chmod(chance.choice([0o600, 0o644, 0o4755, 0o400]))
        if number % 20 == 0:
            os.link(file, folder / f"{number:03} too")
        if number % 30 == 1:
            os.setxattr(file, "user.note", b"kept")
        if number % 50 == 2:
            os.truncate(file, 300_000)
        when = chance.randrange(10**18)
        os.utime(file, ns=(when, when))


@pytest.fixture
def many(site: Site, source: Path) -> Site:
    """An installation with one snapshot of such a tree."""
    fill(source)
    site.backup()
    return site


def test_the_tree_is_the_same(many: Site, source: Path, out: Path, made: list[int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    report = many.restore("latest", out)
    assert sum(made) > 100
    assert len(os.listdir("/proc/self/fd")) <= before + 2, "but for the inventory's own"
    assert_same_tree(source, out)
    assert leftovers(out) == []
    assert report.problems == ()


def test_the_report_is_the_same(many: Site, out: Path, made: list[int], tmp_path: Path) -> None:
    shared = many.restore("latest", out)
    assert sum(made) > 100
    many.makers = 0
    alone = many.restore("latest", tmp_path / "alone")
    assert (shared.files, shared.bytes, shared.directories) == (alone.files, alone.bytes, alone.directories)
    assert shared.fetched == alone.fetched


def test_several_processes_make_them(
    many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has something to do, and another is started only when all have enough."""
    asked: dict[int, int] = {}
    real = MakerProcess.ask

    def ask(self: MakerProcess, directories: Sequence[Lent], files: NewFiles) -> None:
        asked[self._process.pid] = asked.get(self._process.pid, 0) + len(files.names)
        real(self, directories, files)

    monkeypatch.setattr(MakerProcess, "ask", ask)
    monkeypatch.setattr(sharing, "UNDER_WAY", 2)
    many.makers = 4
    report = many.restore("latest", out)
    assert len(asked) == 4
    assert (report.problems, report.warnings) == ((), ())
    assert_same_tree(source, out)
    assert leftovers(out) == []


def test_few_handles_are_under_way(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files that each lie in a directory of their own: the system limits handles sent and not received."""
    for number in range(500):
        (source / f"{number:03}").mkdir()
        (source / f"{number:03}" / "file").write_text(f"content {number}")
    site.backup()
    monkeypatch.setattr(sharing, "MOST_FILES", 128)
    monkeypatch.setattr(sharing, "MOST_LENT", 80)
    under_way: dict[MakerProcess, list[int]] = {}
    most: list[int] = []
    asks, waits, looks = MakerProcess.ask, MakerProcess.answer, MakerProcess.answer_if_any

    def ask(self: MakerProcess, directories: Sequence[Lent], files: NewFiles) -> None:
        under_way.setdefault(self, []).append(len(directories))
        most.append(sum(under_way[self]))
        asks(self, directories, files)

    def answer(self: MakerProcess) -> MadeFiles:
        under_way[self].pop(0)
        return waits(self)

    def answer_if_any(self: MakerProcess) -> MadeFiles | None:
        told = looks(self)
        if told is not None:
            under_way[self].pop(0)
        return told

    monkeypatch.setattr(MakerProcess, "ask", ask)
    monkeypatch.setattr(MakerProcess, "answer", answer)
    monkeypatch.setattr(MakerProcess, "answer_if_any", answer_if_any)
    site.makers = 2
    site.restore("latest", out)
    assert MOST_DIRECTORIES <= max(most) <= 80 // 2
    assert_same_tree(source, out)
    assert leftovers(out) == []


@pytest.mark.parametrize("seed", range(KILLS))
def test_one_of_several_dies(
    many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    left = chance.randrange(1, 30)
    real = MakerProcess.ask

    def ask(self: MakerProcess, directories: Sequence[Lent], files: NewFiles) -> None:
        nonlocal left
        left -= 1
        real(self, directories, files)
        if left == 0:
            os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(MakerProcess, "ask", ask)
    monkeypatch.setattr(sharing, "UNDER_WAY", 2)
    many.makers = 3
    report = many.restore("latest", out)
    (warning,) = report.warnings
    assert warning.startswith("small files were made by fewer processes than there are cores: one is gone: ")
    assert report.problems == ()
    assert_same_tree(source, out)
    assert leftovers(out) == []


def started(*_: object, **__: object) -> MakerProcess:
    raise AssertionError("a process was started")


def test_few_files_need_no_process(
    many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "second_maker", started)
    monkeypatch.setattr(sharing, "MANY_SMALL_FILES", 2_000)
    many.restore("latest", out)
    assert_same_tree(source, out)


def test_large_files_need_no_process(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "large").write_bytes(random.Random(5).randbytes(9 * MIB))
    site.backup()
    monkeypatch.setattr(Writer, "second_maker", started)
    assert site.restore("latest", out).files == 1


def test_no_process_to_be_had(many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> MakerProcess:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(Writer, "second_maker", refused)
    report = many.restore("latest", out)
    assert report.problems == ()
    (warning,) = report.warnings
    assert warning.endswith("the second cannot be started: no more processes")
    assert_same_tree(source, out)


def test_a_process_that_dies_at_once(
    many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says before it dies is told."""
    ends = "import sys; sys.exit('no such module')"
    monkeypatch.setattr("backup.workers.worker.start", start_instead(ends))
    report = many.restore("latest", out)
    assert report.problems == ()
    (warning,) = report.document()["warnings"]
    assert warning.startswith("small files were made by one process instead of two: the second ")
    assert warning.endswith(": it ended with exit code 1: no such module")
    assert_same_tree(source, out)


@pytest.mark.parametrize("overwrite", [Overwrite.ALWAYS, Overwrite.NEVER])
@pytest.mark.parametrize("seed", range(KILLS))
@pytest.mark.parametrize("when", ["before it is asked", "when it was asked", "when it works"])
def test_a_maker_that_is_killed_costs_nothing(
    many: Site,
    source: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    when: str,
    overwrite: Overwrite,
) -> None:
    chance = random.Random(seed)
    left = chance.randrange(1, 12)
    killed: list[int] = []

    class Mortal(MakerProcess):
        """Killed at one of its questions, or a moment after it."""

        def ask(self, directories: Sequence[Lent], files: NewFiles) -> None:
            nonlocal left
            left -= 1
            if left == 0 and when == "before it is asked":
                self._kill()
            super().ask(directories, files)
            if left == 0 and when != "before it is asked":
                time.sleep(chance.random() / 500 if when == "when it works" else 0)
                self._kill()

        def _kill(self) -> None:
            killed.append(self._process.pid)
            os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr("backup.restorer.writer.write.MakerProcess", Mortal)
    before = len(os.listdir("/proc/self/fd"))
    report = restored(many, out, Choice(overwrite=overwrite))
    assert len(killed) == 1
    (warning,) = report.warnings
    assert warning.endswith("the second is gone: it was ended by signal 9, and said nothing")
    assert len(os.listdir("/proc/self/fd")) <= before + 2, "but for the inventory's own"
    assert report.problems == ()
    assert_same_tree(source, out)
    assert leftovers(out) == []


def restored(site: Site, out: Path, choice: Choice) -> RestoreReport:
    world = site.restore_world
    with way_to(str(out)) as way:
        plan = plan_restore(site.snapshot(), site.job.sources[0], world, choice, target=way)
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key]
    )
    return deliver(restore, advance(restore, world), world)


def test_problems_and_damage_are_told_once_and_the_same(
    many: Site, source: Path, tmp_path: Path, made: list[int]
) -> None:
    """A directory in the place of a file, names that are taken, a chunk that is not what it was."""
    users = users_of(many, "length = 8")
    sql(many, "UPDATE chunks SET id = ? WHERE length = 8", bytes(32))
    told = []
    for makers in (3, 1, 0):
        out = tmp_path / f"out-{makers}"
        for number in range(0, 300, 7):
            (out / f"d{number // 40}" / f"{number:03}").mkdir(parents=True)
        many.makers = makers
        report = many.restore("latest", out)
        told.append((report.files, report.bytes, set(report.problems)))
        assert len(set(report.problems)) == len(report.problems)
        assert leftovers(out) == []
    assert sum(made)
    assert told[0] == told[1] == told[2]
    spoilt = {
        os.path.basename(problem.path) for problem in report.problems if problem.kind is ProblemKind.DAMAGED
    }
    assert spoilt == users
    shared, alone = (snapshot_of(tmp_path / f"out-{makers}") for makers in (3, 0))
    assert {path: seen for path, seen in shared.items() if seen.kind != stat.S_IFDIR} == {
        path: seen for path, seen in alone.items() if seen.kind != stat.S_IFDIR
    }


def test_a_full_disk_ends_the_sitting_and_the_next_one_goes_on(
    many: Site, source: Path, out: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.restorer.restore.check_room", lambda *_: None)  # as if it filled up later
    out.mkdir()
    if os.system(f"mount -t tmpfs -o size=5m,mode=0700 tmpfs {out} 2>/dev/null"):
        pytest.skip("no small disk can be mounted here")
    try:
        with pytest.raises(TargetFullError):
            many.restore("latest", out)
        assert os.system(f"mount -o remount,size=50m {out}") == 0
        report = many.restore("latest", out)
        assert (report.outcome, report.problems) == (Outcome.DONE, ())
        assert_same_tree(source, out)
        assert leftovers(out) == []
    finally:
        assert os.system(f"umount {out}") == 0
    assert sum(made) > 50


@pytest.mark.parametrize("after", [3, 12, 30])
def test_an_interrupted_restore_leaves_nobody_at_work(
    many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    processes = []
    real = MakerProcess.ask

    def interrupted(self: MakerProcess, directories: Sequence[Lent], files: NewFiles) -> None:
        real(self, directories, files)
        processes.append(self._process)
        if len(processes) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MakerProcess, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            many.restore("latest", out)
    assert {process.returncode for process in processes} == {0}
    assert leftovers(out) == []
    assert many.restore("latest", out).problems == ()
    assert_same_tree(source, out)


def test_what_expires_among_frames_is_asked_for_again_from_there(
    many: Site, source: Path, out: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Fetcher.frames
    came: list[bytes] = []

    def frames(
        self: Fetcher, ready: ReadyRange, **options: Any
    ) -> Iterator[tuple[FrameRow, bytes | memoryview | None]]:
        for row, sealed in real(self, ready, **options):
            if len(came) == 12:
                came.append(b"expired")
                raise RetrievalExpiredError("it is not there any more")
            came.append(row.digest)
            yield row, sealed

    monkeypatch.setattr(Fetcher, "frames", frames)
    first = restored(many, out, Choice())
    if first.outcome is Outcome.RUNNING:
        report = many.restore("latest", out)
        assert (report.outcome, report.problems) == (Outcome.DONE, ())
    assert b"expired" in came
    assert len(came) == len(set(came)), "no frame was fetched twice"
    assert_same_tree(source, out)
    assert sum(made) > 50


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_what_fails_within_a_batch_is_not_taken_for_done(
    many: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The disk is full for both, at any file; when there is room again, nothing is missing."""
    left = at
    real = FileMaker.make

    def make(self: FileMaker, wanted: RestoreEntry, data: memoryview) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise TargetFullError("no room")
        return real(self, wanted, data)

    class Filled(MakerProcess):
        """Makes two files of each question."""

        def answer(self) -> MadeFiles:
            return self._less(super().answer())

        def answer_if_any(self) -> MadeFiles | None:
            answer = super().answer_if_any()
            return answer and self._less(answer)

        def _less(self, answer: MadeFiles) -> MadeFiles:
            return MadeFiles(answer.made[:2], [trouble for trouble in answer.troubles if trouble[0] < 2])

    with monkeypatch.context() as patch:
        patch.setattr(FileMaker, "make", make)
        patch.setattr("backup.restorer.writer.write.MakerProcess", Filled)
        with pytest.raises(TargetFullError):
            many.restore("latest", out)
    report = many.restore("latest", out)
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    assert_same_tree(source, out)
    assert leftovers(out) == []
