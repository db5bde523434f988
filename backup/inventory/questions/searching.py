"""Search for names over all snapshots: a part of the index on names at a time, so that it stays quick.

The index holds the names themselves: a million versions are looked at in a fifth of a second, and no row of
the table is read but for what is shown. Another index (of words, of three letters) would have to be kept by
each backup, and would be as large as all names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backup.inventory.content.entry_versions import COLUMNS, Version
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of

MOST_LOOKED_AT = 2_000_000
"""Versions that one search looks at; it goes on after them if it is asked to."""

_END = """
SELECT directory, name FROM entries WHERE (directory, name) > (?, ?)
ORDER BY directory, name LIMIT 1 OFFSET ?"""

_HITS = """
SELECT directory, name, max(added_in), count(*) FROM entries
WHERE (directory, name) > (?, ?) AND (directory, name) <= (?, ?)
  AND CAST(name AS TEXT) LIKE ? ESCAPE '\\' {folders}
GROUP BY directory, name ORDER BY directory, name LIMIT ?"""

_FOLDERS = """AND directory IN (SELECT number FROM directories
              WHERE {job} AND CAST(path AS TEXT) LIKE ? ESCAPE '\\')"""

_ROWS = f"""
SELECT e.directory, d.job, {COLUMNS} FROM (VALUES {{places}}) AS w
CROSS JOIN entries e ON e.directory = w.column1 AND e.name = w.column2 AND e.added_in = w.column3
JOIN directories d ON d.number = e.directory"""

_LAST = (2**62, b"")


class FoundName(NamedTuple):
    """A name that fits, with its newest version as it is in the index, and how many versions there are."""

    directory: int
    name: bytes
    added_in: int
    versions: int


def search_names(
    tx: Transaction,
    pattern: str,
    *,
    folders: str | None,
    job: int | None,
    after: tuple[int, bytes],
    limit: int,
) -> tuple[list[FoundName], tuple[int, bytes] | None]:
    """Names that fit a LIKE pattern (with a backslash as escape), by number of directory and name.

    Only in folders whose paths fit the pattern `folders`, and only of that job, if given. Also returns where
    to continue: after the last hit if there are `limit`, after the last name examined if there are more, else
    None.
    """
    row = row_of(tx, _END, (*after, MOST_LOOKED_AT))
    end = _LAST if row is None else (row[0], row[1])
    sql, more = _HITS.replace("{folders}", ""), ()
    if folders is not None or job is not None:
        where = "1 = 1" if job is None else "job = ?"
        sql = _HITS.replace("{folders}", _FOLDERS.replace("{job}", where))
        more = (*(() if job is None else (job,)), folders if folders is not None else "%")
    found = [FoundName._make(values) for values in raw_rows(tx, sql, (*after, *end, pattern, *more, limit))]
    if len(found) == limit:
        return found, (found[-1].directory, found[-1].name)
    return found, None if row is None else end


def versions_found(tx: Transaction, found: Sequence[FoundName]) -> list[tuple[int, Version]]:
    """The newest version of each name found, with its job, in the same order; for some hundred at most."""
    if not found:
        return []
    places = ", ".join(["(?, ?, ?)"] * len(found))
    values = tuple(value for hit in found for value in hit[:3])
    rows = [
        (row[0], row[1], Version._make(row[2:])) for row in raw_rows(tx, _ROWS.format(places=places), values)
    ]
    by_place = {(directory, version.name): (job, version) for directory, job, version in rows}
    return [by_place[hit.directory, hit.name] for hit in found]
