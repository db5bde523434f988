"""Streams in snapshots: whole or as they were before, kept by every run that does not bring them anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver.dryrun import Change, ChangeKind, changes
from backup.archiver.report import Tally
from backup.archiver.streams import StreamFailedError
from backup.errors import InterruptedRunError, UsageError
from backup.inventory import runs
from backup.inventory.runs import Outcome
from backup.model import ProblemKind
from backup.source.filters import Filters
from backup.source.streams import Command, StandardInput, Stream
from tests.support.backups import Site
from tests.support.trees import snapshot_of
from tests.support.wholeness import assert_nothing_left_over, assert_stored, list_now


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
    assert [(one.path, one.kind) for one in report.problems] == [(b"/.streams/dump", ProblemKind.UNREADABLE)]
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
    ((path, kind, detail),) = [(one.path, one.kind, one.detail) for one in report.problems]
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
    shown = [one for one in changes(site.job, site.inventory, Tally()) if one.path.startswith(b"/.streams")]
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
