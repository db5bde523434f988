"""A directory of very many entries is walked, compared and staged in pieces: what is held does not grow.

NIGHTVAULT_TEST_ENTRIES sets how many (20,000 by default; an empty file each).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.archiver.dryrun import changes
from backup.catalogs.report import Tally
from backup.inventory.content import entries
from backup.inventory.store import driver
from backup.inventory.store.connections import Transaction
from backup.source import scan as scanning
from backup.source.filters import Filters
from backup.source.scan import scan
from tests.support import campaigns
from tests.support.backups import Site

pytestmark = pytest.mark.slow

ENTRIES = campaigns.share("NIGHTVAULT_TEST_ENTRIES", 20000)


@pytest.fixture
def huge(source: Path) -> Path:
    """The directory, in the source; every 1,000th entry is a directory itself."""
    (source / "huge").mkdir()
    handle = os.open(source / "huge", os.O_RDONLY)
    for number in range(ENTRIES):
        name = f"{number * 7919 % ENTRIES:07}"
        if number % 1000 == 0:
            os.mkdir(name, dir_fd=handle)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    return source / "huge"


def test_its_pieces_are_small_and_make_the_whole(huge: Path) -> None:
    seen: list[bytes] = []
    bounds: list[tuple[bytes | None, bytes | None]] = []
    below = 0
    for directory in scan([os.fsencode(huge)], filters=Filters(), report=lambda _: None):
        if directory.path.startswith(os.fsencode(huge) + b"/"):
            below += 1
        if directory.path != os.fsencode(huge):
            continue
        names = [entry.name for entry in directory.entries]
        assert len(names) <= scanning.NAMES_A_PIECE + 1
        assert all(directory.after is None or name > directory.after for name in names)
        assert all(directory.until is None or name <= directory.until for name in names)
        seen += names
        bounds.append((directory.after, directory.until))
    assert seen == sorted(os.listdir(os.fsencode(huge)))
    assert [after for after, _ in bounds] == [None, *(until for _, until in bounds[:-1])]
    assert bounds[-1][1] is None
    assert below == len(range(0, ENTRIES, 1000)), "what lies in it is walked, too"


def test_nights_of_it(site: Site, huge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []
    staged: list[int] = []
    stage = entries.stage

    def counted_page(tx: Transaction, sql: str, values: tuple[Any, ...]) -> Iterator[Any]:
        rows = list(driver.raw_rows(tx, sql, values))
        if values[-1:] == (entries.ROWS_A_FETCH,):
            pages.append(len(rows))
        return iter(rows)

    def counted_stage(*given: object, **rows: list[object]) -> None:
        staged.append(sum(map(len, rows.values())))
        stage(*given, **rows)  # type: ignore[arg-type]

    monkeypatch.setattr(entries, "raw_rows", counted_page)
    monkeypatch.setattr(entries, "stage", counted_stage)
    assert site.backup().entries_added >= ENTRIES
    assert max(staged) <= site.job.memory.rows
    pages.clear()
    quiet = site.backup()
    assert (quiet.entries_added, quiet.entries_removed, quiet.files_read) == (0, 0, 0)
    assert max(pages) <= entries.ROWS_A_FETCH
    assert sum(pages) < ENTRIES + 200, "each row is fetched once"
    names = sorted(os.listdir(huge))
    gone = [name for name in (names[0], names[1], names[ENTRIES // 2], names[-1]) if (huge / name).is_file()]
    for name in gone:
        (huge / name).unlink()
    for name in ("", "zz", names[ENTRIES // 3] + "x"):
        (huge / f"{name}new").touch()
    tally = Tally()
    told = [
        (change.what, os.path.basename(change.path)) for change in changes(site.job, site.inventory, tally)
    ]
    assert sorted(path for what, path in told if what == "removed") == sorted(map(os.fsencode, gone))
    assert sum(what == "new" for what, _ in told) == 3
    edited = site.backup()
    assert (edited.entries_added - 1, edited.entries_removed - 1) == (3, len(gone)), "and the directory's own"
    site.restore(edited.snapshot, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out" / "huge")) == sorted(os.listdir(huge))


def test_most_of_it_goes_at_once(site: Site, huge: Path) -> None:
    site.backup()
    for name in os.listdir(huge):
        path = huge / name
        path.rmdir() if path.is_dir() else path.unlink()
    (huge / "left").touch()
    report = site.backup()
    assert (report.entries_added - 1, report.entries_removed - 1) == (1, ENTRIES)
    (huge / "left").unlink()
    huge.rmdir()
    assert site.backup().entries_removed == 3


def test_rows_are_compared_by_name_wherever_pages_end(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "NAMES_A_PIECE", 3)
    monkeypatch.setattr(entries, "ROWS_A_FETCH", 2)

    def night(names: Iterator[int]) -> tuple[int, int]:
        wanted = {f"{number:02}" for number in names}
        for name in set(os.listdir(source)) - wanted:
            (source / name).unlink()
        for name in wanted - set(os.listdir(source)):
            (source / name).touch()
        report = site.backup()
        assert sorted(os.listdir(source)) == sorted(wanted)
        return report.entries_added - 1, report.entries_removed - 1

    night(iter(range(20)))
    assert night(iter([*range(5, 9), *range(15, 31)])) == (11, 11)
    assert night(iter(range(40))) == (20, 0)
    assert night(iter([39])) == (0, 39)
