"""Sparse files, from the disk through the vault to the disk: every byte, and every hole where it was."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.archiver import dryrun
from backup.catalogs.report import Tally
from backup.format.records import MOST
from backup.inventory.content import entries
from backup.inventory.content.entries import EntryRow
from backup.inventory.content.shrunk import count_below
from backup.inventory.questions import changes, stats
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import ProblemKind
from backup.source import scan, scanned
from tests.support.backup_results import ages, kinds
from tests.support.backups import Site
from tests.support.trees import assert_same_tree

KIB, MIB, TIB = 1024, 1024**2, 1024**4


def holes_of(path: Path) -> list[tuple[int, int]]:
    """Offset and end of each hole, asked of the system."""
    found, place = [], 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start, end in _data(file.fileno(), size):
            if start > place:
                found.append((place, start))
            place = end
    return [*found, (place, size)] if place < size else found


def _data(handle: int, size: int) -> Iterator[tuple[int, int]]:
    place = 0
    while place < size:
        try:
            start = os.lseek(handle, place, os.SEEK_DATA)
        except OSError:
            return
        place = os.lseek(handle, start, os.SEEK_HOLE)
        yield start, place


def make(path: Path, size: int, *pieces: tuple[int, bytes]) -> None:
    with open(path, "wb") as file:
        for place, data in pieces:
            os.pwrite(file.fileno(), data, place)
        file.truncate(size)


def test_come_back_with_their_holes(site: Site, source: Path, tmp_path: Path) -> None:
    random = os.urandom(6 * MIB)
    make(source / "ends in a hole", 9 * MIB, (0, random[:MIB]))
    make(source / "begins with one", 9 * MIB, (8 * MIB, random[:MIB]))
    make(source / "between", 30 * MIB, (MIB, random), (20 * MIB, random), (29 * MIB, b"end"))
    make(source / "nothing else", 5 * MIB)
    make(source / "odd end", 5 * MIB + 3, (128 * KIB, b"x"))
    make(source / "zeros are no hole", 2 * MIB, (0, bytes(2 * MIB)))
    make(source / "one block", 4096)
    report = site.backup()
    assert report.problems == ()
    site.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    for path in sorted(source.iterdir()):
        assert holes_of(tmp_path / "out" / path.name) == holes_of(path), path.name
    assert holes_of(tmp_path / "out" / "zeros are no hole") == []
    assert site.backup().files_read == 0


def test_a_tebibyte_with_a_mebibyte_of_data(site: Site, source: Path, tmp_path: Path) -> None:
    data = os.urandom(MIB // 2)
    make(source / "disk.img", TIB, (TIB // 4, data), (TIB - MIB, data[::-1]))
    began = time.monotonic()
    report = site.backup()
    assert report.bytes_read == MIB
    assert report.bytes == TIB
    site.restore("latest", tmp_path / "out")
    assert time.monotonic() - began < 20
    restored = tmp_path / "out" / "disk.img"
    assert restored.stat().st_size == TIB
    assert restored.stat().st_blocks * 512 < 2 * MIB
    assert holes_of(restored) == holes_of(source / "disk.img")
    with open(source / "disk.img", "rb") as one, open(restored, "rb") as other:
        for start, end in _data(one.fileno(), TIB):
            assert os.pread(one.fileno(), end - start, start) == os.pread(other.fileno(), end - start, start)
    with site.inventory.reading() as tx:
        assert sum(len(EntryRow._make(row).chunks or b"") for row in entries.all_entries(tx, 1)) <= 4 * 16


def test_a_hole_alone_stores_nothing(site: Site, source: Path) -> None:
    (source / "first").write_text("x")
    site.backup()
    for name, size in (("a", MIB), ("b", MIB), ("c", 3 * MIB)):
        make(source / name, size)
    report = site.backup()
    assert (report.bytes_new, report.bytes_read, report.files_read) == (0, 0, 3)


def test_the_same_data_elsewhere_is_another_version_and_no_new_data(
    site: Site, source: Path, tmp_path: Path
) -> None:
    data = os.urandom(MIB)
    make(source / "file", 8 * MIB, (0, data))
    site.backup()
    made = os.stat(source / "file")
    make(source / "file", 8 * MIB, (4 * MIB, data))
    os.utime(source / "file", ns=(made.st_mtime_ns, made.st_mtime_ns))
    report = site.backup()
    assert report.entries_added == 1, "neither size, time nor chunks differ: the holes do"
    assert report.bytes_new == 0
    for words, place in (("latest~1", 0), ("latest", 4 * MIB)):
        site.restore(words, tmp_path / words)
        with open(tmp_path / words / "file", "rb") as file:
            assert os.pread(file.fileno(), MIB, place) == data
    assert_same_tree(source, tmp_path / "latest")


def test_a_disk_that_fails_between_two_holes(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(source / "bad", 20 * MIB, (0, os.urandom(MIB)), (10 * MIB, os.urandom(MIB)))
    site.backup()
    site.restore("latest", tmp_path / "before")
    ages(source / "bad")
    real = os.preadv

    def failing(handle: int, buffers: list[memoryview], place: int) -> int:
        if place >= 10 * MIB:
            raise OSError(5, "Input/output error")
        return real(handle, buffers, place)

    monkeypatch.setattr(os, "preadv", failing)
    report = site.backup()
    assert kinds(report.problems) == {b"bad": ProblemKind.UNREADABLE}
    assert report.outcome is Outcome.PARTIAL
    monkeypatch.undo()
    site.restore("latest", tmp_path / "after")
    assert_same_tree(tmp_path / "before", tmp_path / "after")


def test_a_file_that_grows_and_shrinks_while_it_is_read(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice, so that it is saved as read: its size is then that of its data and holes together."""
    make(source / "file", 20 * MIB, (0, os.urandom(MIB)), (10 * MIB, os.urandom(5 * MIB)))
    sizes = iter((12 * MIB, 11 * MIB))
    real = os.preadv

    def cutting(handle: int, buffers: list[memoryview], place: int) -> int:
        if place == 10 * MIB and (size := next(sizes, None)):
            os.truncate(source / "file", size)
        return real(handle, buffers, place)

    monkeypatch.setattr(os, "preadv", cutting)
    report = site.backup()
    assert kinds(report.problems) == {b"file": ProblemKind.CHANGED}
    site.restore("latest", tmp_path / "out")
    saved = (tmp_path / "out" / "file").read_bytes()
    assert saved == (source / "file").read_bytes()[: len(saved)]
    assert len(saved) == 11 * MIB


def test_a_damaged_list_of_holes_spoils_its_file_alone(site: Site, source: Path, tmp_path: Path) -> None:
    make(source / "good", 3 * MIB, (MIB, b"x"))
    make(source / "bad", 3 * MIB, (MIB, b"x"))
    site.backup()
    with site.inventory.writing() as tx:
        (extra,) = tx.connection.execute("SELECT extra FROM entries WHERE name = ?", (b"bad",)).fetchone()
        turned = bytes(extra).replace((MIB).to_bytes(8, "little"), (2 * MIB).to_bytes(8, "little"))
        assert turned != extra
        tx.connection.execute("UPDATE entries SET extra = ? WHERE name = ?", (turned, b"bad"))
    report = site.restore("latest", tmp_path / "out")
    assert kinds(report.problems) == {b"bad": ProblemKind.DAMAGED}
    assert sorted(os.listdir(tmp_path / "out")) == ["good"]


@pytest.fixture
def wide(site: Site) -> Iterator[tuple[Site, Path]]:
    """A site whose source lies where a file may claim any size, as in XFS, and a small one there."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no tmpfs to write to")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        (Path(place) / "small").write_bytes(b"small")
        yield site.with_job(sources=[Path(place)]), Path(place)


@pytest.mark.parametrize("also", ["", "directory"], ids=["files", "and a directory"])
def test_one_that_claims_more_than_can_be_counted_is_named_and_the_rest_saved(
    wide: tuple[Site, Path], also: str
) -> None:
    site, place = wide
    (place / "huge").write_bytes(b"not yet")
    site.backup()
    if also:
        (place / also).mkdir()  # then names are looked at one by one
    make(place / "huge", 2**63 - 1, (0, b"head"))
    tally = Tally()
    found = list(dryrun.changes(site.job, site.inventory, tally))
    assert os.fsencode(place / "huge") not in [change.path for change in found]
    assert [(problem.path, problem.kind) for problem in tally.problems] == [
        (os.fsencode(place / "huge"), "unreadable")
    ]
    report = site.backup()
    assert report.outcome is Outcome.PARTIAL
    assert report.problems == tuple(tally.problems)
    assert (report.files, report.bytes) == (2, 12), "it stays as it was"
    (place / "huge").unlink()
    assert site.backup().outcome is Outcome.DONE


def test_one_that_grew_too_large_before_it_was_opened_is_named(
    wide: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, place = wide
    make(place / "huge", 2**63 - 1)
    monkeypatch.setattr(scan, "LARGEST_FILE", 2**63)  # the scan saw it when it was small
    (problem,) = site.backup().problems
    assert (problem.path, problem.detail) == (os.fsencode(place / "huge"), scanned.TOO_LARGE)


@pytest.mark.parametrize("trouble", [False, True], ids=["whole", "with a problem"])
def test_together_they_may_claim_more_than_a_number_holds(wide: tuple[Site, Path], trouble: bool) -> None:
    site, place = wide
    if trouble:
        os.mkfifo(place / "pipe")
        make(place / "huge", 2**63 - 1)
    for number in range(9):
        make(place / f"{number}", 2**60)
    assert site.backup().bytes == MOST
    (snapshot,) = site.snapshots()
    assert (snapshot.bytes, snapshot.counts) == (MOST, ((10 + trouble, MOST),))
    for number in range(9):
        make(place / f"{number}", 2**60 - 1)
    site.backup()
    with site.inventory.reading() as tx:
        (job,) = runs.list_jobs(tx, site.vault.name)
        assert entries.count_live(tx, job.number) == (10 + trouble, MOST)
        assert [contents.bytes for contents in (*stats.snapshots(tx), *stats.versions(tx))] == [MOST, MOST]
        assert count_below(tx, job.number, os.fsencode(place)) == (10 + trouble, MOST)
    for number in range(9):
        (place / f"{number}").unlink()
    site.backup()
    first, _, last = site.snapshots()
    with site.inventory.reading() as tx:
        between = changes.Between(job.number, first.number, last.number, os.fsencode(place))
        assert changes.count_changes(tx, between).bytes_less == MOST
