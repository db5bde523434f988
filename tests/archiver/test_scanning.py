"""Which process scans: a second one where the newest snapshot, or a look ahead, shows very many files."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backup.archiver import trees
from backup.model import Problem
from backup.source import scanner
from backup.source.filters import Filters
from backup.source.scan import scan
from backup.source.scanned import ScannedDirectory

FOLDERS, FILES = 7, 5
MOST = FOLDERS * (FILES + 2)  # each folder, its files and its socket


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The second processes that were started."""
    made: list[object] = []

    class Noted(scanner.ScannerProcess):
        def __init__(self, *some: Any) -> None:
            super().__init__(*some)
            made.append(self)

    monkeypatch.setattr(scanner, "ScannerProcess", Noted)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with a socket, which is a problem, in each folder."""
    top = tmp_path / "source"
    for folder in range(FOLDERS):
        (top / f"{folder}").mkdir(parents=True)
        for number in range(FILES):
            (top / f"{folder}" / f"{number}").write_text(f"{folder} {number}")
        os.mknod(top / f"{folder}" / "socket", 0o140600)
    return top


def seen(directory: ScannedDirectory) -> tuple[bytes, list[tuple[bytes, int, int]]]:
    """A directory with what its entries are."""
    return directory.path, [
        (entry.name, entry.stat.st_ino, entry.stat.st_mtime_ns) for entry in directory.entries
    ]


@pytest.mark.parametrize("known", [None, 0, MOST - 1, MOST])
@pytest.mark.parametrize("many", [1, FILES, MOST, MOST + 1])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_is_found_whoever_scans(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[object],
    many: int,
    known: int | None,
    workers: int,
) -> None:
    monkeypatch.setattr(trees, "MANY_FILES", many)
    job: Any = SimpleNamespace(
        sources=[os.fsencode(source)],
        filters=Filters(),
        overrides={},
        places={},
        memory=SimpleNamespace(workers=workers),
    )
    problems: list[Problem] = []
    expected: list[Problem] = []
    warnings: list[str] = []
    below = os.fsencode(source)
    alone = scan(job.sources, filters=job.filters, report=expected.append)
    wanted = [seen(directory) for directory in alone if directory.path.startswith(below)]
    with closing(trees.scan_sources(job, known, problems.append, warnings.append)) as found:
        assert [seen(directory) for directory in found if directory.path.startswith(below)] == wanted
    assert problems == expected
    assert len(problems) == FOLDERS
    assert not warnings
    is_many = many <= MOST if known is None else known >= many
    assert len(started) == (workers == 2 and is_many)
