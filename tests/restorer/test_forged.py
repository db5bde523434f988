"""Names and rows that no backup of ours wrote: nothing leads out, and only what they tell of is lost."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from backup.inventory.content import entries
from backup.kinds import Outcome
from backup.model import MIB, Problem, ProblemKind
from backup.restorer.restore import plan_restore
from backup.restorer.selection.choice import Choice
from tests.restorer.sites import BROKEN_ROWS, sql, users_of
from tests.support.backups import Site
from tests.support.trees import assert_same_tree, snapshot_of


@pytest.mark.parametrize("name", [b"..", b".", b"", b"../escaped", b"/escaped", b"a\0b"])
def test_a_forged_name_does_not_lead_out(full: Site, source: Path, out: Path, name: bytes) -> None:
    sql(full, "UPDATE entries SET name = ? WHERE name = ?", name, b"large")
    report = full.restore("latest", out)
    expected = snapshot_of(source)
    del expected[b"large"]
    assert_same_tree(expected, out)
    assert report.problems == (
        Problem(name, ProblemKind.DAMAGED, "its name leads out of the target; not restored"),
    )
    assert report.outcome is Outcome.PARTIAL
    assert not (out.parent / "escaped").exists()


def test_a_forged_directory_does_not_lead_out(full: Site, source: Path, out: Path) -> None:
    forged = os.fsencode(source) + b"/../../../escaped"
    sql(full, "UPDATE directories SET path = ? WHERE path = ?", forged, os.fsencode(source / "sub" / "deep"))
    report = full.restore("latest", out)
    assert len(report.problems) == 20
    assert {problem.kind for problem in report.problems} == {ProblemKind.DAMAGED}
    assert list((out / "sub" / "deep").iterdir()) == []


def test_a_symlink_and_a_file_behind_it(full: Site, source: Path, out: Path, tmp_path: Path) -> None:
    """An inventory that says: `link` points outside, and there is a file in the directory `link`."""
    outside = tmp_path / "outside"
    outside.mkdir()
    path = os.fsencode(source / "link")
    sql(full, "UPDATE directories SET path = ? WHERE path = ?", path, os.fsencode(source / "sub" / "deep"))
    sql(full, "UPDATE entries SET extra = NULL WHERE name = ?", b"dangling")
    report = full.restore("latest", out)
    assert not list(outside.iterdir())
    problems = {problem.path for problem in report.problems}
    assert {b"link/small-1", b"dangling"} <= problems
    assert (out / "link").is_symlink()


@pytest.mark.parametrize("first", ["directory", "symlink"])
def test_a_directory_and_a_symlink_of_one_name(
    site: Site, source: Path, out: Path, tmp_path: Path, first: str
) -> None:
    """Versions that overlap, as an intruder's catalog may have them: a way out of the target, and into it."""
    outside = tmp_path / "outside"

    def make(kind: str) -> None:
        if kind == "directory":
            (source / "way").mkdir()
            (source / "way" / "in").write_text("content")
        else:
            (source / "way").symlink_to(outside)

    outside.mkdir(mode=0o700)
    make(first)
    site.backup()
    shutil.rmtree(source / "way") if first == "directory" else (source / "way").unlink()
    make("symlink" if first == "directory" else "directory")
    site.backup()
    sql(site, "UPDATE entries SET removed_in = NULL")
    report = site.restore("latest", out)
    assert [(problem.path, problem.kind) for problem in report.problems] == [(b"way", ProblemKind.DAMAGED)]
    assert report.outcome is Outcome.PARTIAL
    assert (out / "way" / "in").read_text() == "content"
    assert list(outside.iterdir()) == []
    assert outside.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("how", ["all", "page by page", "chosen"])
def test_two_files_of_one_name(full: Site, source: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Also where a page of rows ends between them: the older one is taken, without the other's rights."""
    columns = "directory, name, kind, owner, mtime_ns, size, extra, content_id, chunks"
    if how == "page by page":
        whole = entries.pages_below
        monkeypatch.setattr(
            entries, "pages_below", lambda *of: ([row] for page in whole(*of) for row in page)
        )
    sql(full, "UPDATE entries SET added_in = 0")
    for name in (b"small-3", b"small-4"):
        twin = f"INSERT INTO entries ({columns}, mode, added_in) SELECT {columns}, 2541, 1 FROM entries"
        sql(full, f"{twin} WHERE name = ?", name)
    choice = Choice(include=("deep",)) if how == "chosen" else Choice()
    plan = plan_restore(full.snapshot(), os.fsencode(source / "sub"), full.restore_world, choice)
    told = "the inventory has another entry of that name; not restored"
    names = (b"deep/small-3", b"deep/small-4")
    assert plan.selection.problems == [Problem(name, ProblemKind.DAMAGED, told) for name in names]
    modes = {entry.name: entry.mode for entry in plan.selection.files.entries}
    assert len(modes) == len(plan.selection.files) == (20 if how == "chosen" else 22)
    assert (modes[b"small-3"], modes[b"small-4"]) == (0o4711, 0o644)


@pytest.mark.parametrize(("text", "values"), BROKEN_ROWS.values(), ids=BROKEN_ROWS.keys())
def test_a_broken_row_spoils_its_entry_only(
    full: Site, source: Path, out: Path, text: str, values: tuple[object, ...]
) -> None:
    sql(full, text, *values)
    report = full.restore("latest", out)
    expected = snapshot_of(source)
    del expected[b"large"]
    assert_same_tree(expected, out)
    assert [(problem.path, problem.kind) for problem in report.problems] == [(b"large", ProblemKind.DAMAGED)]


LOST: dict[str, tuple[str, str]] = {
    "chunk": ("DELETE FROM chunks WHERE {}", "number = (SELECT min(number) FROM chunks)"),
    "chunk moved": (
        "UPDATE chunks SET offset = offset + 1 WHERE {}",
        "number = (SELECT min(number) FROM chunks)",
    ),
    "chunk renamed": (
        "UPDATE chunks SET id = zeroblob(32) WHERE {}",
        "number = (SELECT min(number) FROM chunks)",
    ),
    "frame": ("DELETE FROM frames WHERE {}", "archive = 1 AND frame = 0"),
    "frame beyond": ("UPDATE frames SET offset = offset + 100000000 WHERE {}", "archive = 1 AND frame = 0"),
    "frame huge": ("UPDATE frames SET sealed_length = 2000000000 WHERE {}", "archive = 1 AND frame = 0"),
    "frame flags": ("UPDATE frames SET flags = 1 - flags WHERE {}", "archive = 1 AND frame = 0"),
    "frame digest": ("UPDATE frames SET digest = zeroblob(16) WHERE {}", "archive = 1 AND frame = 0"),
    "archive": ("UPDATE archives SET state = 'lost' WHERE {}", "archive = 1"),
    "archive id": ("UPDATE archives SET archive_id = NULL WHERE {}", "archive = 1"),
    "header": ("UPDATE archives SET header = zeroblob(length(header)) WHERE {}", "archive = 1"),
}


@pytest.mark.parametrize(("text", "where"), LOST.values(), ids=LOST.keys())
def test_what_the_inventory_lost_spoils_the_files_that_need_it(
    full: Site, source: Path, out: Path, text: str, where: str
) -> None:
    spoiled = users_of(full, where)
    assert spoiled
    changed = where
    if "frames" in text:
        changed = where.replace("frame =", "number =")
    elif "archives" in text:
        changed = where.replace("archive =", "number =")
    sql(full, text.format(changed))
    report = full.restore("latest", out)
    assert {os.path.basename(problem.path) for problem in report.problems} == spoiled
    assert {problem.kind for problem in report.problems} == {ProblemKind.DAMAGED}
    expected = {
        path: seen for path, seen in snapshot_of(source).items() if os.path.basename(path) not in spoiled
    }
    assert_same_tree(expected, out)
    assert report.outcome is Outcome.PARTIAL


def test_a_broken_row_gives_no_file_the_content_of_the_next(site: Site, source: Path, out: Path) -> None:
    for name in "abcd":
        (source / name).write_text(name)
    site.backup()
    sql(site, "UPDATE entries SET content_id = 'sixteen letters!' WHERE name = ?", b"b")
    report = site.restore("latest", out)
    assert [problem.path for problem in report.problems] == [b"b"]
    assert {path.name: path.read_text() for path in out.iterdir()} == {name: name for name in "acd"}


def test_large_chunks_are_compared_with_their_ids(site: Site, source: Path, out: Path) -> None:
    """Those are proven on the thread that opens their frame."""
    (source / "large").write_bytes(random.Random(1).randbytes(3 * MIB))
    (source / "small").write_bytes(b"small")
    site.backup()
    sql(site, "UPDATE chunks SET offset = offset + 1 WHERE length > 300000")
    report = site.restore("latest", out)
    assert [(problem.path, problem.detail) for problem in report.problems] == [
        (b"large", "a chunk does not match its id; not restored")
    ]
    assert [path.name for path in out.iterdir()] == ["small"]
