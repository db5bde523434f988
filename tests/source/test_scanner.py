"""Scanning in a second process: it finds what this one would, in that order, and its death loses nothing."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backup.errors import WorkerGoneError
from backup.model import Problem
from backup.source import scanner
from backup.source.filters import Filters, Tag
from backup.source.scan import NAMES_A_PIECE, scan
from backup.source.scanned import ScannedDirectory
from backup.source.scanner import ScannerProcess, scan_beside
from backup.workers import worker

_OF_FOLDER = ("mode", "ino", "dev", "uid", "gid")
_OF_STATUS = (*_OF_FOLDER, "nlink", "size", "mtime_ns", "ctime_ns", "blocks", "rdev")
Piece = tuple[Any, ...]


@dataclass
class Walked:
    """What a scan told: its pieces as values, problems, warnings."""

    pieces: list[Piece] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def as_values(directory: ScannedDirectory, sources: Sequence[bytes]) -> Piece:
    """A piece with all of its entries' status; the names behind its handle show that it is open.

    Of folders above the sources, in which other tests make theirs meanwhile, it has what does not change.
    """
    is_within = any((directory.path + b"/").startswith(source + b"/") for source in sources)
    members = _OF_STATUS if is_within else _OF_FOLDER
    entries = [
        (entry.name, {name: getattr(entry.stat, f"st_{name}") for name in members}, entry.leads_on)
        for entry in directory.entries
    ]
    covered = (directory.after, directory.until, directory.unread)
    inside = set(os.listdir(directory.handle))
    assert all(os.fsdecode(name) in inside for name, *_ in entries)
    return directory.path, directory.device, covered, entries, list(directory.looks())


def here(sources: Sequence[Path], filters: Filters, overrides: dict[bytes, Filters] | None = None) -> Walked:
    """What this process finds."""
    told = Walked()
    wanted = list(map(os.fsencode, sources))
    found = scan(wanted, filters=filters, overrides=overrides, report=told.problems.append)
    told.pieces += (as_values(directory, wanted) for directory in found)
    return told


def beside(
    sources: Sequence[Path], filters: Filters, overrides: dict[bytes, Filters] | None = None
) -> Walked:
    """What is found with a second process."""
    told = Walked()
    wanted = list(map(os.fsencode, sources))
    directories = scan_beside(
        wanted,
        filters=filters,
        overrides=overrides or {},
        report=told.problems.append,
        warn=told.warnings.append,
    )
    with closing(directories):
        told.pieces += (as_values(directory, wanted) for directory in directories)
    return told


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of everything that a scan treats in its own way."""
    top = tmp_path / "source"
    for place in ("a", "a/b", "a-", "a/b/c", "cache", "kept", "empty", "other"):
        (top / place).mkdir(parents=True, exist_ok=True)
        (top / place / "file").write_bytes(place.encode())
    os.rename(top / "empty" / "file", top / "cache" / "tagged")
    (top / "cache" / "CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55")
    (top / "a" / "left.tmp").write_bytes(b"")
    (top / "a" / "large").write_bytes(bytes(5000))
    os.link(top / "a" / "file", top / "kept" / "link")
    os.symlink("nowhere", top / "a" / "symlink")
    os.mkfifo(top / "a" / "fifo")
    os.mkdir(os.fsencode(top) + b"/caf\xe9")
    os.utime(top / "a" / "b" / "file", ns=(0, -5 * 10**9))
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(top / "a" / "socket"))
    return top


@pytest.fixture
def filters() -> Filters:
    return Filters(
        ["*.tmp", "!kept.tmp", "/nowhere/**/x"],
        exclude_caches=True,
        one_file_system=True,
        tags=[Tag.parse(".nobackup"), Tag.parse("tag:head")],
        larger_than=4000,
    )


def test_it_finds_what_this_process_would(tree: Path, filters: Filters) -> None:
    overrides = {os.fsencode(tree / "a" / "b"): Filters(["file"])}
    sources = [tree, tree / "a" / "b", tree / "gone"]
    expected, found = here(sources, filters, overrides), beside(sources, filters, overrides)
    assert found.pieces == expected.pieces
    assert found.problems == expected.problems
    assert {os.path.basename(problem.path) for problem in found.problems} == {b"socket", b"gone"}
    assert found.warnings == []


def test_a_time_that_fits_no_64_bits_comes_through(tree: Path) -> None:
    far = 2**40 * 10**9 * 20
    place = Path("/dev/shm") / f"nightvault-test-{os.getpid()}"
    place.mkdir()
    try:
        (place / "far").touch()
        os.utime(place / "far", ns=(far, far))
        found = beside([place], Filters())
        assert found.pieces == here([place], Filters()).pieces
        assert found.pieces[-1][3][0][1]["mtime_ns"] == os.stat(place / "far").st_mtime_ns
    finally:
        (place / "far").unlink()
        place.rmdir()


def test_a_directory_of_many_names_comes_in_pieces(tmp_path: Path) -> None:
    for number in range(2 * NAMES_A_PIECE + 10):
        (tmp_path / f"{number:06}").touch()
    expected, found = here([tmp_path], Filters()), beside([tmp_path], Filters())
    assert found.pieces == expected.pieces
    assert len([piece for piece in found.pieces if piece[0] == os.fsencode(tmp_path)]) > 2


@dataclass
class Mortal:
    """Scanners that die after so many directories."""

    lives: int

    def make(self, *some: Any) -> ScannerProcess:
        lives = self.lives

        class Dying(ScannerProcess):
            def directories(self, report: Any) -> Iterator[ScannedDirectory]:
                for number, directory in enumerate(super().directories(report)):
                    if number == lives:
                        raise WorkerGoneError("it was ended by signal 9")
                    yield directory

        return Dying(*some)


@pytest.mark.parametrize("lives", [0, 1, 4, 7, 9, 11, 1000])
def test_its_death_loses_nothing_and_tells_nothing_twice(
    tree: Path, filters: Filters, monkeypatch: pytest.MonkeyPatch, lives: int
) -> None:
    expected = here([tree, tree / "gone"], filters)
    monkeypatch.setattr(scanner, "ScannerProcess", Mortal(lives).make)
    found = beside([tree, tree / "gone"], filters)
    assert found.pieces == expected.pieces
    assert found.problems == expected.problems
    assert len(found.warnings) == (lives < len(expected.pieces))


def test_it_dies_at_any_piece_of_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece that is left begins where the one before it ends: what a piece lacks is taken for gone."""
    top = tmp_path / "many"
    top.mkdir()
    for number in range(4 * NAMES_A_PIECE + 10):
        (top / f"{number:06}").touch()
    expected = here([top], Filters())
    above = len(top.parts) - 1
    assert len(expected.pieces) == above + 5
    for lives in range(above, above + 5):
        monkeypatch.setattr(scanner, "ScannerProcess", Mortal(lives).make)
        found = beside([top], Filters())
        assert [piece[2] for piece in found.pieces] == [piece[2] for piece in expected.pieces]
        assert found.pieces == expected.pieces
        assert len(found.warnings) == 1
        monkeypatch.undo()


def test_it_dies_amid_a_directory_of_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "many"
    top.mkdir()
    for number in range(3 * NAMES_A_PIECE):
        (top / f"{number:06}").touch()
    depth = len(top.parts) - 1
    monkeypatch.setattr(scanner, "ScannerProcess", Mortal(depth + 2).make)
    chance = random.Random(3)
    met: list[bytes] = []
    directories = scan_beside(
        [os.fsencode(top)], filters=Filters(), overrides={}, report=lambda _: None, warn=lambda _: None
    )
    with closing(directories):
        for directory in directories:
            if directory.path != os.fsencode(top):
                continue
            names = [entry.name for entry in directory.entries]
            assert all(directory.after is None or name > directory.after for name in names)
            assert directory.until is None or names[-1] == directory.until
            met += names
            for _ in range(50):  # what is removed meanwhile moves the borders of pieces
                (top / f"{chance.randrange(3 * NAMES_A_PIECE):06}").unlink(missing_ok=True)
    left = set(os.listdir(os.fsencode(top)))
    assert left <= set(met)
    assert sorted(set(met)) == met, "no name comes twice, and all are in order"


def test_a_process_that_is_killed_is_told(tree: Path) -> None:
    for number in range(2 * NAMES_A_PIECE):  # more than a socket holds
        (tree / f"{number:06}").touch()
    process = ScannerProcess({os.fsencode(tree): Filters()}, {})
    with closing(process):
        found = process.directories(lambda _: None)
        next(found)
        process._process.kill()
        with pytest.raises(WorkerGoneError, match="ended by signal 9"):
            list(found)


def test_a_source_behind_a_symlink_stays_where_it_was_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way to it leads elsewhere meanwhile: one tree is saved whole, not half of each."""
    for name in ("one", "other"):
        for number in range(5):
            (tmp_path / name / "source" / str(number)).mkdir(parents=True)
    (tmp_path / "way").symlink_to("one")
    source = os.fsencode(tmp_path / "way" / "source")
    depth = len((tmp_path / "one" / "source").parts) - 1
    monkeypatch.setattr(scanner, "ScannerProcess", Mortal(depth + 3).make)
    found, warnings = [], list[str]()
    directories = scan_beside(
        [source], filters=Filters(), overrides={}, report=lambda _: None, warn=warnings.append
    )
    with closing(directories):
        for directory in directories:
            found.append(directory.path)
            if len(found) == depth + 2:
                (tmp_path / "way").unlink()
                (tmp_path / "way").symlink_to("other")
    real = os.fsencode(tmp_path / "one" / "source")
    assert found[depth:] == [real, *(real + b"/%d" % number for number in range(5))]
    assert len(warnings) == 1


def test_where_none_can_be_started_this_process_scans(
    tree: Path, filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker, "start", refuse)
    found = beside([tree], filters)
    assert found.pieces == here([tree], filters).pieces
    (warning,) = found.warnings
    assert warning.endswith("the second cannot be started: Resource temporarily unavailable")


def test_who_stops_early_leaves_no_handle_and_no_process(tree: Path) -> None:
    before = set(os.listdir("/proc/self/fd")), _children()
    directories = scan_beside(
        [os.fsencode(tree)], filters=Filters(), overrides={}, report=lambda _: None, warn=lambda _: None
    )
    next(directories)
    assert len(_children()) == len(before[1]) + 1
    directories.close()
    assert (set(os.listdir("/proc/self/fd")), _children()) == before


def _children() -> set[str]:
    """The processes that this one has started, and has not waited for (proc_pid_children(5))."""
    threads = Path("/proc/self/task").iterdir()
    return {number for thread in threads for number in (thread / "children").read_text().split()}
