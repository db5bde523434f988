"""What goes wrong while a backup reads: named in the report, carried over, never followed, never silent."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.archiver import contents
from backup.errors import InterruptedRunError, LockedError
from backup.format.chunker import Chunker
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import Entry, ProblemKind
from backup.source import metadata
from backup.source.attributes import Attributes
from backup.source.metadata import read_entry
from backup.source.read import Span, Take, open_file, read_chunks
from backup.source.scanned import ScannedEntry
from tests.support.backup_results import ages, below, kinds, restored
from tests.support.backups import Site
from tests.support.integrity import assert_nothing_left_over, assert_stored, list_now
from tests.support.trees import assert_same_tree, snapshot_of


class TestWhatGoesWrong:
    def test_a_source_that_is_not_there_is_kept_as_it_was(self, site: Site, source: Path) -> None:
        (source / "file").write_text("precious")
        beside = source.parent / "beside"
        beside.mkdir()
        site = site.with_job(sources=[source, beside])
        site.backup()
        tree = snapshot_of(source)
        source.rename(source.parent / "away")
        report = site.backup()
        assert report.outcome is Outcome.PARTIAL
        assert kinds(report.problems) == {b"source": ProblemKind.UNREADABLE}
        assert site.snapshot().problems == report.problems
        assert_same_tree(tree, restored(site, source))
        (source.parent / "away").rename(source)
        assert site.backup().outcome is Outcome.DONE

    def test_one_source_of_two_missing(self, site: Site, source: Path) -> None:
        (source / "here").mkdir()
        report = site.with_job(sources=[source / "here", source / "nowhere" / "deep"]).backup()
        assert report.outcome is Outcome.PARTIAL
        assert kinds(report.problems) == {b"nowhere": ProblemKind.UNREADABLE}

    def test_a_file_that_changes_once_is_read_again(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changing(source / "log", monkeypatch, times=1)
        report = site.backup()
        assert report.problems == ()
        assert report.outcome is Outcome.DONE
        assert_same_tree(source, restored(site, source))
        assert site.backup().files_read == 0

    def test_a_file_that_changes_twice_is_kept_with_a_warning(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changing(source / "log", monkeypatch, times=2)
        report = site.backup()
        assert kinds(report.problems) == {b"log": ProblemKind.CHANGED}
        assert report.outcome is Outcome.DONE
        monkeypatch.undo()
        again = site.backup()
        assert again.files_read == 1, "what is not sure must be read again"
        assert again.problems == ()
        assert_same_tree(source, restored(site, source))

    def test_a_file_that_vanishes_before_it_is_opened(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (source / "a").write_text("stays")
        (source / "gone").write_text("goes")
        before_opening(monkeypatch, b"gone", (source / "gone").unlink)
        report = site.backup()
        assert kinds(report.problems) == {b"gone": ProblemKind.VANISHED}
        assert below(site) == {b"a"}

    def test_a_symlink_that_is_gone_or_replaced_before_it_is_read(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("gone", "replaced", "kept"):
            (source / name).symlink_to("somewhere")

        def reading(
            directory: bytes, handle: int, scanned: ScannedEntry, *, link: int = 0, place: bytes = b""
        ) -> tuple[Entry, str]:
            if scanned.name in {b"gone", b"replaced"}:
                (source / os.fsdecode(scanned.name)).unlink()
            if scanned.name == b"replaced":
                (source / "replaced").touch()
            return read_entry(directory, handle, scanned, link=link, place=place)

        monkeypatch.setattr("backup.archiver.entry_stager.read_entry", reading)
        report = site.backup()
        assert kinds(report.problems) == {b"gone": ProblemKind.VANISHED, b"replaced": ProblemKind.VANISHED}
        assert below(site) == {b"kept"}

    def test_what_hangs_on_a_file_and_could_not_be_read_is_tried_again(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (source / "file").write_text("content")
        (source / "link").symlink_to("somewhere")
        for module in (contents, metadata):
            monkeypatch.setattr(
                module, "read_attributes", lambda *_, **__: Attributes(trouble="extended attributes: EIO")
            )
        report = site.backup()
        assert {b"file", b"link"} <= {os.path.basename(problem.path) for problem in report.problems}
        assert report.outcome is Outcome.PARTIAL
        assert site.backup().outcome is Outcome.PARTIAL, "it is not forgotten, though nothing changed"
        monkeypatch.undo()
        assert site.backup().outcome is Outcome.DONE
        assert site.backup().files_read == 0
        assert_same_tree(source, restored(site, source))

    def test_a_symlink_put_in_a_file_s_place_is_not_followed(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (source / "file").write_text("harmless")
        secret = source.parent / "secret"
        secret.write_text("secret")

        def swap() -> None:
            (source / "file").unlink()
            (source / "file").symlink_to(secret)

        before_opening(monkeypatch, b"file", swap)
        report = site.backup()
        assert kinds(report.problems) == {b"file": ProblemKind.VANISHED}
        assert report.bytes_read == 0

    def test_a_disk_that_fails_while_a_file_is_read(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (source / "bad").write_bytes(os.urandom(10_000_000))
        (source / "good").write_text("x")
        site.backup()
        tree = snapshot_of(source)
        ages(source / "bad")
        real = os.readv

        def failing(handle: int, buffers: list[memoryview]) -> int:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "readv", failing)
        report = site.backup()
        monkeypatch.setattr(os, "readv", real)
        assert kinds(report.problems) == {b"bad": ProblemKind.UNREADABLE}
        assert report.outcome is Outcome.PARTIAL
        assert_same_tree(tree, restored(site, source))

    def test_sockets_are_named_and_skipped(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(source)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
            report = site.backup()
        assert kinds(report.problems) == {b"socket": ProblemKind.SKIPPED}
        assert report.outcome is Outcome.DONE
        assert below(site) == set()

    def test_a_second_backup_at_the_same_time_is_refused(self, site: Site) -> None:
        with site.inventory.locked("backup"), pytest.raises(LockedError, match="another backup"):
            site.backup()

    def test_a_stop_leaves_nothing_half_done(self, site: Site, source: Path) -> None:
        (source / "large").write_bytes(os.urandom(9 * 1024 * 1024))
        (source / "z").write_text("never reached")
        site.stop = lambda: site.progress.files >= 1
        with pytest.raises(InterruptedRunError):
            site.backup()
        with site.inventory.reading() as tx:
            assert runs.list_runs(tx)[0].outcome is Outcome.INTERRUPTED
        assert site.snapshots() == []
        site = site.reopen()
        site.backup()
        assert_nothing_left_over(site)
        assert_stored(site, list_now(site.vault))

    def test_a_stop_is_heeded_within_a_large_file(self, site: Site, source: Path) -> None:
        (source / "large").write_bytes(os.urandom(40 * 1024 * 1024))
        asked = iter(range(1000))
        site.stop = lambda: next(asked) > 3
        with pytest.raises(InterruptedRunError):
            site.backup()


def changing(path: Path, monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Make a file that grows each time it has been read, so many times."""
    path.write_text("line\n")
    left = iter(range(times))
    real = read_chunks

    def growing(opened: int, size: int, chunker: Chunker, take: Take) -> Iterator[Span]:
        yield from real(opened, size, chunker, take)
        if next(left, None) is not None:
            with open(path, "a") as file:
                file.write("another line\n")

    monkeypatch.setattr(contents, "read_chunks", growing)


def before_opening(monkeypatch: pytest.MonkeyPatch, name: bytes, action: Callable[[], object]) -> None:
    """Do something just before the file of that name is opened."""
    real = open_file

    def opening(handle: int, wanted: bytes) -> int:
        if wanted == name:
            action()
        return real(handle, wanted)

    monkeypatch.setattr(contents, "open_file", opening)


def test_a_directory_with_files_that_became_a_symlink_is_named(
    site: Site, source: Path, tmp_path: Path
) -> None:
    for name in ("full", "empty"):
        (source / name).mkdir()
    (source / "full" / "file").write_text("one")
    site.backup()
    (source / "full").rename(tmp_path / "moved")
    (source / "empty").rmdir()
    for name in ("full", "empty"):
        (source / name).symlink_to(tmp_path / "moved")
    (warning,) = site.backup().warnings
    assert warning.startswith(f"{source / 'full'}: it was a directory with content")
    assert site.backup().warnings == ()
