"""A damaged row among very many small files, which are looked at together, costs its own file alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.model import ProblemKind
from tests.restorer.sites import leftovers, sql
from tests.support.backups import Site

FILES = 1_100  # more than are looked at together, twice
DAMAGES = {
    "content id": "UPDATE entries SET content_id = zeroblob(16) WHERE name = ?",
    "size": "UPDATE entries SET size = size + 1 WHERE name = ?",
    "no chunk": "UPDATE entries SET chunks = NULL WHERE name = ?",
    "two chunks": "UPDATE entries SET chunks = CAST(chunks || chunks AS BLOB) WHERE name = ?",
    "another's chunk": "UPDATE entries SET chunks = (SELECT chunks FROM entries WHERE name = x'30303031')"
    " WHERE name = ?",
    "a chunk that is not there": "UPDATE entries SET chunks = x'ffffff7f' WHERE name = ?",
    "kind": "UPDATE entries SET kind = 99 WHERE name = ?",
    "mode": "UPDATE entries SET mode = 'four' WHERE name = ?",
}


@pytest.fixture
def many(site: Site, source: Path) -> Site:
    """A snapshot of many small files in one directory, of which some in the second half are empty."""
    for number in range(FILES):
        is_empty = number > 600 and number % 50 == 0
        (source / f"{number:04}").write_bytes(b"" if is_empty else b"content of %d" % number)
    site.backup()
    return site


@pytest.mark.parametrize("value", [1.5, "four", b"four"], ids=repr)
@pytest.mark.parametrize("column", ["uid", "gid"])
def test_an_owner_that_is_none_costs_its_entries_alone(
    site: Site, source: Path, out: Path, column: str, value: object
) -> None:
    (source / "file").write_bytes(b"content")
    site.backup()
    sql(site, f"UPDATE owners SET {column} = ?", value)
    report = site.restore("latest", out)
    assert {(problem.path, problem.kind) for problem in report.problems} == {(b"file", ProblemKind.DAMAGED)}
    assert [path for path in out.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_only_what_is_damaged_is_missing(many: Site, source: Path, out: Path, damage: str) -> None:
    damaged = ["0003", "0499", "0777", "1099"]
    for name in damaged:
        sql(many, DAMAGES[damage], os.fsencode(name))
    report = many.restore("latest", out)
    told = sorted(os.fsdecode(os.path.basename(problem.path)) for problem in report.problems)
    assert told == damaged
    assert {problem.kind for problem in report.problems} == {ProblemKind.DAMAGED}
    there = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert there == {path.name: path.read_bytes() for path in source.iterdir() if path.name not in damaged}
    assert leftovers(out) == []
