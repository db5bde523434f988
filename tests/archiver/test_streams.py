"""Streams in snapshots: whole or as they were before, kept by every run that does not bring them anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.archiver.dryrun import Change, ChangeKind, changes
from backup.archiver.streams import StreamFailedError
from backup.catalogs.report import LEAST_STREAM, BackupReport, Tally, is_stream_lost
from backup.errors import InterruptedRunError, UsageError
from backup.inventory.content.entries import entry_at
from backup.inventory.content.shrunk import accepting, waits
from backup.inventory.content.snapshots import COMPARED
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import KIB, ProblemKind
from backup.source.filters import Filters
from backup.source.streams import Command, StandardInput, Stream
from tests.support.backups import Site
from tests.support.integrity import assert_nothing_left_over, assert_stored, list_now
from tests.support.rebuilds import bare
from tests.support.trees import snapshot_of


def saying(name: bytes, *run: str) -> Command:
    return Command(name, run, 60)


def having(site: Site, *streams: Stream, only: bool = False) -> Site:
    return replace(site, job=replace(site.job, streams=streams, only_streams=only))


def piped(site: Site, name: bytes, data: bytes) -> Site:
    """A run of standard input alone."""
    out, into = os.pipe()
    os.write(into, data)
    os.close(into)
    return having(site, StandardInput(name, out), only=True)


def contents(site: Site, target: Path) -> dict[bytes, bytes]:
    """What is below /.streams in the newest snapshot."""
    try:
        site.restore("latest", target, path=b"/.streams")
    except UsageError:
        return {}
    found = snapshot_of(target)
    return {path: seen.content for path, seen in found.items() if seen.kind == 0o100000}


def test_a_command_s_output_is_a_file_of_the_snapshot(site: Site, source: Path, tmp_path: Path) -> None:
    (source / "file").write_text("x")
    site = having(site, saying(b"db/shop.dump", "echo", "dump"), saying(b"list", "printf", "%s", "a"))
    report = site.backup()
    assert (report.outcome, report.problems, report.files) == (Outcome.DONE, (), 3)
    assert contents(site, tmp_path / "out") == {b"db/shop.dump": b"dump\n", b"list": b"a"}
    assert os.stat(tmp_path / "out" / "db" / "shop.dump").st_mode & 0o777 == 0o600
    assert site.snapshot().sources == (os.fsencode(source), b"/.streams/db/shop.dump", b"/.streams/list")
    site.restore("latest", tmp_path / "one", path=b"/.streams/db/shop.dump")
    assert (tmp_path / "one" / "shop.dump").read_bytes() == b"dump\n"
    site.restore("latest", tmp_path / "all", path=b"/")
    assert (tmp_path / "all" / ".streams" / "list").read_bytes() == b"a"


def test_the_same_dump_again_stores_nothing(site: Site) -> None:
    site = having(site, saying(b"dump", "seq", "400000"))
    assert site.backup().bytes_new > 2_000_000
    assert site.backup().bytes_new == 0


def test_a_dump_of_nothing_is_named_and_yesterday_s_kept(site: Site, tmp_path: Path) -> None:
    having(site, saying(b"dump", "echo", "whole"), saying(b"list", "echo", "a")).backup()
    report = having(site, saying(b"dump", "true"), saying(b"list", "echo", "b")).backup()
    assert report.outcome is Outcome.PARTIAL
    assert [(problem.path, problem.kind) for problem in report.problems] == [
        (b"/.streams/dump", ProblemKind.UNREADABLE)
    ]
    assert contents(site, tmp_path / "kept") == {b"dump": b"whole\n", b"list": b"b\n"}
    meant = Command(b"dump", ("true",), 60, allow_empty=True)
    assert having(site, meant, saying(b"list", "echo", "b")).backup().outcome is Outcome.DONE
    assert contents(site, tmp_path / "meant") == {b"dump": b"", b"list": b"b\n"}


def test_a_command_that_fails_is_named_and_yesterday_s_dump_kept(
    site: Site, source: Path, tmp_path: Path
) -> None:
    having(site, saying(b"dump", "echo", "whole")).backup()
    (source / "file").write_text("saved all the same")
    half = saying(b"dump", "sh", "-c", "echo half; echo 'disk full' >&2; exit 1")
    report = having(site, half).backup()
    assert report.outcome is Outcome.PARTIAL
    ((path, kind, detail),) = [(problem.path, problem.kind, problem.detail) for problem in report.problems]
    assert (path, kind) == (b"/.streams/dump", ProblemKind.UNREADABLE)
    assert detail == "sh ended with status 1: disk full"
    assert contents(site, tmp_path / "out") == {b"dump": b"whole\n"}
    site.restore("latest", tmp_path / "files")
    assert os.listdir(tmp_path / "files") == ["file"]


def test_a_dump_that_was_never_whole_is_in_no_snapshot(site: Site, tmp_path: Path) -> None:
    site = having(site, saying(b"dump", "sh", "-c", "seq 900000; kill -9 $$"))
    assert site.backup().outcome is Outcome.PARTIAL
    assert contents(site, tmp_path / "out") == {}


def test_when_nothing_else_is_to_be_saved_the_run_fails(site: Site) -> None:
    site = having(site.with_job(sources=[]), saying(b"dump", "false"))
    with pytest.raises(StreamFailedError, match="dump: false ended with status 1"):
        site.backup()
    assert site.snapshots() == []
    with site.inventory.reading() as tx:
        assert runs.list_runs(tx)[0].outcome is Outcome.FAILED
    site = site.reopen()
    having(site, saying(b"dump", "echo", "x")).backup()
    assert_nothing_left_over(site)
    assert_stored(site, list_now(site.vault))


def test_one_dump_of_two_fails(site: Site, tmp_path: Path) -> None:
    site = having(site.with_job(sources=[]), saying(b"a", "false"), saying(b"b", "echo", "b"))
    assert site.backup().outcome is Outcome.PARTIAL
    assert contents(site, tmp_path / "out") == {b"b": b"b\n"}


class TestOtherRunsOfTheSameJob:
    def test_standard_input_leaves_the_sources_as_they_were(
        self, site: Site, source: Path, tmp_path: Path
    ) -> None:
        (source / "file").write_text("12345")
        site.backup()
        (source / "file").unlink()
        report = piped(site, b"in", b"data").backup()
        assert (report.files, report.bytes) == (2, 9)
        site.restore("latest", tmp_path / "files")
        assert (tmp_path / "files" / "file").read_text() == "12345"
        report = piped(site, b"in", b"more data").backup()
        assert (report.files, report.bytes) == (2, 14)

    def test_sources_leave_streams_as_they_were(self, site: Site, source: Path, tmp_path: Path) -> None:
        (source / "file").write_text("12345")
        piped(site, b"db/in", b"data").backup()
        for night in range(2):
            report = site.backup()
            assert (report.files, report.bytes, report.problems) == (2, 9, ())
            assert contents(site, tmp_path / f"out {night}") == {b"db/in": b"data"}
        (tmp_path / "empty").mkdir()
        everything = site.with_job(sources=[b"/tmp/no such source", tmp_path / "empty"])
        assert everything.backup().outcome is Outcome.PARTIAL
        assert contents(site, tmp_path / "out") == {b"db/in": b"data"}

    def test_a_source_that_is_all_of_the_disk(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The root's listing has no /.streams: no reason to let go of it."""
        piped(site, b"in", b"data").backup()
        real = os.listdir
        named = ["tmp"]

        def few(place: int | bytes | str = ".") -> list[str]:
            if isinstance(place, int) and os.fstat(place).st_ino == os.stat("/").st_ino:
                return named
            return real(place)  # type: ignore[return-value]

        monkeypatch.setattr(os, "listdir", few)
        root = site.with_job(sources=["/"], filters=Filters(["/tmp/*"]))
        assert root.backup().problems == ()
        assert contents(site, tmp_path / "out") == {b"in": b"data"}

    def test_a_pattern_lets_go(self, site: Site, tmp_path: Path) -> None:
        piped(site, b"db/a", b"1").backup()
        piped(site, b"b", b"2").backup()
        report = site.with_job(filters=Filters(["/.streams/db"])).backup()
        assert report.files == 1
        assert contents(site, tmp_path / "out") == {b"b": b"2"}

    def test_empty_input_fails_and_keeps_what_was(self, site: Site, tmp_path: Path) -> None:
        piped(site, b"in", b"data").backup()
        with pytest.raises(StreamFailedError, match="nothing came in"):
            piped(site, b"in", b"").backup()
        assert len(site.snapshots()) == 1
        assert contents(site, tmp_path / "out") == {b"in": b"data"}

    def test_a_file_becomes_a_directory_and_back(self, site: Site, tmp_path: Path) -> None:
        piped(site, b"x", b"1").backup()
        piped(site, b"x/y", b"2").backup()
        assert contents(site, tmp_path / "one") == {b"x/y": b"2"}
        piped(site, b"x", b"3").backup()
        assert contents(site, tmp_path / "two") == {b"x": b"3"}


def test_a_dry_run_names_streams_and_starts_nothing(site: Site, source: Path, tmp_path: Path) -> None:
    site = having(site, saying(b"a", "sh", "-c", f"touch {tmp_path}/ran; echo"), saying(b"b", "echo"))
    shown = [
        change
        for change in changes(site.job, site.inventory, Tally())
        if change.path.startswith(b"/.streams")
    ]
    assert shown == [Change(ChangeKind.NEW, b"/.streams/a", 0), Change(ChangeKind.NEW, b"/.streams/b", 0)]
    assert not (tmp_path / "ran").exists()
    site.backup()
    again = list(changes(site.job, site.inventory, Tally()))
    assert again == [
        Change(ChangeKind.CHANGED, b"/.streams/a", 0),
        Change(ChangeKind.CHANGED, b"/.streams/b", 0),
    ]
    alone = piped(site, b"b", b"").job
    assert list(changes(alone, site.inventory, Tally())) == [Change(ChangeKind.CHANGED, b"/.streams/b", 0)]


def test_a_stop_ends_the_command(site: Site) -> None:
    asked = iter(range(1000))
    stop: Callable[[], bool] = lambda: next(asked) > 2  # noqa: E731
    site = replace(having(site, saying(b"dump", "sleep", "600")), stop=stop)
    with pytest.raises(InterruptedRunError):
        site.backup()


class TestAStreamThatLostNearlyEverything:
    @pytest.mark.parametrize(
        ("before", "now", "is_lost"),
        [
            (640 * KIB, 64 * KIB, False),
            (640 * KIB, 64 * KIB - 1, True),
            (64 * KIB, 1, True),
            (64 * KIB - 1, 1, False),
            (640 * KIB, 0, False),  # which `allow_empty` allows
            (0, 640 * KIB, False),
        ],
    )
    def test_of_its_bytes_a_tenth_must_be_left(
        self, site: Site, before: int, now: int, is_lost: bool
    ) -> None:
        """A dump that ended well, of a database that is nearly empty: only nothing at all was noticed."""
        night(site, before)
        report = night(site, now)
        assert (report.outcome is Outcome.PARTIAL) is is_lost
        assert bool(report.shrunk) is bool(waiting(site)) is is_lost
        assert contents_size(site) == now, "it is in the snapshot all the same"

    def test_is_told_each_night_until_somebody_answers(self, site: Site) -> None:
        night(site, 640 * KIB)
        for _ in range(COMPARED + 1):
            report = night(site, 1000)
            (told,) = report.shrunk
            assert told == (
                "source /.streams/dump has lost nearly everything: it holds 1 file (1000 B), "
                "and held 1 file (640.0 KiB)"
            )
            assert f"`nightvault snapshots accept {report.snapshot[:8]}`" in report.warnings[-1]
        site.amend(accepting(site.snapshots()[-1].number))
        assert (night(site, 1000).outcome, waiting(site)) == (Outcome.DONE, [])
        assert night(site, 640 * KIB).outcome is Outcome.DONE

    def test_is_as_usual_where_the_job_may_shrink(self, site: Site) -> None:
        night(site, 640 * KIB)
        free = replace(site, job=replace(site.job, may_shrink=True))
        assert (night(free, 1000).shrunk, waiting(site)) == ((), [])
        assert not night(site, 1000).shrunk

    def test_is_compared_with_the_fullest_of_seven_nights(self, site: Site) -> None:
        for size in (640, 300, 100):
            assert not night(site, size * KIB).shrunk
        assert night(site, 63 * KIB).shrunk
        site.amend(accepting(site.snapshots()[-1].number))
        night(site, 640 * KIB)
        for _ in range(COMPARED):
            assert not night(site, 100 * KIB).shrunk
        assert not night(site, 63 * KIB).shrunk

    def test_is_compared_with_itself_only(self, site: Site, source: Path) -> None:
        (source / "file").write_text("12345")
        of = sized(b"dump", 640 * KIB), sized(b"db/dump", 640 * KIB)
        having(site, *of).backup()
        report = having(site, sized(b"list", 10), of[0], sized(b"db/dump", 9)).backup()
        (told,) = report.shrunk
        assert told.startswith("source /.streams/db/dump has")

    def test_counts_in_a_run_of_standard_input_alone(self, site: Site, source: Path) -> None:
        (source / "file").write_text("12345")
        piped(site, b"in", b"x" * 64 * KIB).backup()
        assert not site.backup().shrunk, "it is kept by a run without it"
        assert piped(site, b"in", b"x" * 100).backup().shrunk
        assert len(waiting(site)) == 1

    def test_that_failed_is_yesterday_s_and_has_lost_nothing(self, site: Site, source: Path) -> None:
        (source / "file").write_text("12345")
        night(site, 640 * KIB)
        report = having(site, saying(b"dump", "false")).backup()
        assert (len(report.problems), report.shrunk) == (1, ())

    def test_is_known_to_a_rebuilt_server(self, site: Site, tmp_path: Path) -> None:
        night(site, 640 * KIB)
        shrunk = night(site, 1000).snapshot
        machine = bare(tmp_path, site)
        machine.rebuild()
        assert waiting(machine.site()) == [shrunk]


@pytest.mark.parametrize("carried", [False, True], ids=["brought", "carried"])
@pytest.mark.parametrize("lost", ["files", "bytes"])
def test_streams_are_no_part_of_a_source_that_lost_nearly_everything(
    site: Site, source: Path, lost: str, carried: bool
) -> None:
    """In a night with a problem they were counted as files of a job's only source, which hid the loss."""
    for number in range(25):
        (source / f"{number}").write_text("1")
    (source / "large").write_bytes(bytes(50_000))
    streams = [] if carried else [sized(name, 5_000) for name in (b"a", b"b", b"c")]
    for name in (b"a", b"b", b"c") if carried else ():
        piped(site, name, bytes(5_000)).backup()
    having(site, *streams).backup()
    if lost == "files":
        for number in range(25):
            (source / f"{number}").unlink()
    else:
        (source / "large").write_text("1")
    report = having(site, saying(b"d", "false"), *streams).backup()
    assert len(report.problems) == 1
    (told,) = report.shrunk
    held = "1 file (48.8 KiB)" if lost == "files" else "26 files (26 B)"
    assert told.endswith(f"it holds {held}, and held 26 files (48.9 KiB)")


def test_streams_of_an_older_version_are_no_part_of_a_source_either(site: Site, source: Path) -> None:
    """It recorded files and bytes of the whole snapshot: a small source beside a large dump lost nothing."""
    for number in range(25):
        (source / f"{number}").write_text("1")
    having(site, sized(b"dump", 500_000)).backup()
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE snapshots SET counts = NULL, roots = NULL")
    report = having(site, sized(b"dump", 500_000)).backup()
    assert (report.outcome, report.shrunk) == (Outcome.DONE, ())


def test_a_source_beside_streams_is_compared_with_its_fullest_night(site: Site, source: Path) -> None:
    for number in range(40):
        (source / f"{number}").write_text("1")
    for left in (40, 20):
        for number in range(left, 40):
            (source / f"{number}").unlink(missing_ok=True)
        assert not having(site, sized(b"dump", 100)).backup().shrunk
    for number in range(3, 40):
        (source / f"{number}").unlink(missing_ok=True)
    (told,) = having(site, sized(b"dump", 100)).backup().shrunk
    assert told.endswith("and held 40 files (40 B)")


@given(before=st.integers(0, 10**7), now=st.integers(0, 10**7), more=st.integers(0, 10**7))
def test_a_stream_that_is_lost_was_large_and_is_small(before: int, now: int, more: int) -> None:
    is_lost = is_stream_lost(now, before)
    assert is_lost == (before >= LEAST_STREAM and 1 <= now < before / 10)
    assert not (is_stream_lost(now + more, before) and now and not is_lost), "more is never a loss"


def sized(name: bytes, size: int) -> Command:
    """A dump of so many bytes, which may be none."""
    return Command(name, ("head", "-c", str(size), "/dev/zero"), 60, allow_empty=True)


def night(site: Site, size: int) -> BackupReport:
    """A run of a job whose dump has so many bytes."""
    return having(site, sized(b"dump", size)).backup()


def waiting(site: Site) -> list[str]:
    with site.inventory.reading() as tx:
        return [wait.snapshot for wait in waits(tx)]


def contents_size(site: Site) -> int:
    """The size of `dump` in the newest snapshot."""
    newest = site.snapshot()
    with site.inventory.reading() as tx:
        found = entry_at(tx, newest.job_number, b"/.streams/dump", newest.number)
    assert found is not None
    return found.size
