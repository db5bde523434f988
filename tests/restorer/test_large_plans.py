"""A plan by columns, or in files, is the plan that is made row by row in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from backup.errors import InterruptedRunError
from backup.inventory.content.entries import EntryRow
from backup.kinds import Outcome
from backup.restorer.restore import RestorePlan, plan_restore
from backup.restorer.selection.choice import Choice
from backup.restorer.selection.column import MOST_IN_MEMORY
from backup.restorer.selection.files import Files
from backup.restorer.selection.select import ALL
from tests.restorer.sites import BROKEN_ROWS, leftovers, sql
from tests.support.backups import Site
from tests.support.trees import assert_same_tree, snapshot_of

ROW_BY_ROW = Choice(exclude=("there-is-none",))  # everything, by the way that looks at each row
TINY = 64


def shown(plan: RestorePlan) -> dict[str, Any]:
    """All that a plan says."""
    selection = plan.selection
    return {
        "directories": list(selection.directories),
        "specials": list(selection.specials),
        "files": [(file.entry, list(file.chunks), file.data_size) for file in selection.files],
        "locations": list(selection.locations.values()),
        "problems": sorted(selection.problems),
        "ranges": plan.ranges,
        "archives": sorted(plan.archives),
        "bytes": (selection.names, selection.bytes, selection.data_bytes),
    }


def planned(site: Site, choice: Choice = ALL, *, column: int = MOST_IN_MEMORY) -> dict[str, Any]:
    site.column = column
    return shown(plan_restore(site.snapshot(), site.job.sources[0], site.restore_world, choice))


def vary(source: Path) -> None:
    """Files in long rows, with some between them that are not plain."""
    folder = source / "sub" / "deep"
    for number in range(40):
        (folder / f"row-{number:02}").write_bytes(b"%d" % (number // 3) * 50)
    os.link(folder / "row-11", folder / "row-11-again")
    os.link(folder / "row-12", source / "linked-elsewhere")
    os.setxattr(folder / "row-20", "user.note", b"not plain")
    (folder / "row-25-empty").write_bytes(b"")
    with (folder / "row-30-sparse").open("wb") as sparse:
        sparse.write(b"begins")
        sparse.truncate(1 << 20)


def test_by_columns_as_row_by_row(full: Site, source: Path) -> None:
    vary(source)
    full.backup()
    expected = planned(full, ROW_BY_ROW)
    assert planned(full) == expected
    assert planned(full, column=TINY) == expected
    assert planned(full, ROW_BY_ROW, column=TINY) == expected
    assert expected["bytes"][0] > 60


def test_files_in_a_row_are_taken_together(full: Site, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vary(source)
    full.backup()
    singly: list[bytes] = []
    add = Files.add

    def counted(files: Files, directory: bytes, row: EntryRow) -> None:
        singly.append(row.name)
        add(files, directory, row)

    monkeypatch.setattr(Files, "add", counted)
    assert len(planned(full)["files"]) > 60
    alone = [name for name in singly if name.startswith((b"row-", b"small-"))]
    assert alone == [b"row-11", b"row-11-again", b"row-12", b"row-20", b"row-30-sparse"]


@pytest.mark.parametrize(("text", "values"), BROKEN_ROWS.values(), ids=BROKEN_ROWS.keys())
def test_a_broken_row_among_many(full: Site, source: Path, text: str, values: tuple[object, ...]) -> None:
    vary(source)
    full.backup()
    sql(full, text, *(b"row-15" if value == b"large" else value for value in values))
    expected = planned(full, ROW_BY_ROW)
    assert planned(full) == expected
    if "substr" not in text:  # the order of one chunk cannot be wrong
        assert [problem.path for problem in expected["problems"]] == [b"sub/deep/row-15"]


@pytest.mark.parametrize("name", [b"..", b"", b"a/b", b"a\0b"])
def test_a_forged_name_among_many(full: Site, source: Path, name: bytes) -> None:
    vary(source)
    full.backup()
    sql(full, "UPDATE entries SET name = ? WHERE name = ?", name, b"row-15")
    expected = planned(full, ROW_BY_ROW)
    assert planned(full) == expected
    assert len(expected["problems"]) == 1


def test_a_restore_by_a_plan_in_files(full: Site, source: Path, out: Path) -> None:
    vary(source)
    full.backup()
    full.column = TINY
    report = full.restore("latest", out)
    assert report.outcome is Outcome.DONE
    assert_same_tree(snapshot_of(source), out)
    assert leftovers(out) == []
    assert [
        path.name for path in (full.folder / "restores").iterdir() if not path.name.endswith(".lock")
    ] == []


def test_stopped_again_and_again_it_comes_to_the_same(full: Site, source: Path, out: Path) -> None:
    vary(source)
    full.backup()
    full.column, full.checkpoint, full.stop = TINY, 1, lambda: True
    for _ in range(100):
        try:
            report = full.restore("latest", out)
        except InterruptedRunError:
            continue
        break
    assert report.outcome is Outcome.DONE
    assert_same_tree(snapshot_of(source), out)
