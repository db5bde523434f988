"""Queries for what is asked about entries in a snapshot: how many there are, and where their chunks lie.

Each is a statement, whatever the size of the directory. Those of one tree of files (`backup/browser/`) give a
directory's entries a page at a time, with all that a status needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from backup.inventory.content.entry_versions import BELOW, IN_SNAPSHOT, bounds
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of
from backup.model import FrameRow

_MOST_CHUNKS = 10_000

_COUNT = f"""
SELECT count(*) FROM (
    SELECT 1 FROM directories d JOIN entries e ON e.directory = d.number
    WHERE d.job = ? AND d.path = ? AND {IN_SNAPSHOT} LIMIT ?) AS some"""

_CHUNK_LISTS = "SELECT number, chunks FROM entries WHERE number IN (SELECT value FROM json_each(?))"

_READ_FROM = """coalesce(CASE WHEN a.state IN ('lost', 'deleting', 'deleted') THEN (
    SELECT min(w.name) FROM copies k JOIN vaults w ON w.number = k.vault
    WHERE k.archive = a.number AND k.state IN ('stored', 'unconfirmed', 'condemned')) END, v.name)"""
_FRAMES = f"""
SELECT c.number, c.archive, c.frame, f."offset", f.sealed_length, a.kind, {_READ_FROM}, c.length
FROM json_each(?) n
CROSS JOIN chunks c ON c.number = n.value
JOIN archives a ON a.number = c.archive
JOIN domains d ON d.number = a.domain
JOIN vaults v ON v.number = d.vault
LEFT JOIN frames f ON f.archive = c.archive AND f.number = c.frame"""

_OUTPUTS = """
SELECT archive, coalesce(asked_from, start), coalesce(asked_to, "end"), until FROM retrievals
WHERE state IN ('ready', 'fetched') AND until > ? AND archive IN (SELECT value FROM json_each(?))"""


_BELOW = f"""
SELECT e.kind, e.size, e.chunks FROM directories d JOIN entries e ON e.directory = d.number
WHERE d.job = ? AND {BELOW} AND {IN_SNAPSHOT}
LIMIT ?"""

_WANTED_FRAMES = f"""
SELECT c.archive, a.size, a.kind, {_READ_FROM}, sum(c.length),
       f.number, f."offset", f.sealed_length, f.raw_length, f.flags, f.digest
FROM json_each(?) n
CROSS JOIN chunks c ON c.number = n.value
JOIN frames f ON f.archive = c.archive AND f.number = c.frame
JOIN archives a ON a.number = c.archive
JOIN domains d ON d.number = a.domain
JOIN vaults v ON v.number = d.vault
GROUP BY c.archive, c.frame"""

_CONTENT = """
SELECT e.size, e.chunks, e.content_id, e.extra FROM entries e WHERE e.number = ?"""
_PARTS = """
SELECT c.number, c.id, c.length, c.archive FROM json_each(?) n CROSS JOIN chunks c ON c.number = n.value"""
_ROWS_A_PAGE = 1_000
_STATUS = """e.name, e.number, e.kind, e.mode, e.owner, e.mtime_ns, e.size, e.extra,
       CASE WHEN e.extra IS NOT NULL THEN e.content_id END"""
_OF_DIRECTORY = f"""
SELECT {_STATUS}, e.added_in, e.removed_in FROM directories d JOIN entries e ON e.directory = d.number
WHERE d.job = ? AND d.path = ?"""
_DUMPS = f"""
SELECT s.engine, s.database, d.job, {_STATUS}, e.added_in, e.removed_in
FROM dumps s JOIN entries e ON e.number = s.entry JOIN directories d ON d.number = e.directory
ORDER BY s.engine, s.database, e.added_in, d.job"""


class Below(NamedTuple):
    """An entry below a directory, with only the columns that a quote needs."""

    kind: int
    size: int
    chunks: bytes | None


class WantedFrame(NamedTuple):
    """A frame that holds wanted chunks, of `wanted` bytes before compression, with its archive."""

    archive: int
    archive_size: int
    kind: int
    vault: str
    wanted: int
    frame: FrameRow


class Status(NamedTuple):
    """A version of an entry with what a status of it needs; `content_id` only if it has an `extra`."""

    name: bytes
    number: int
    kind: int
    mode: int
    owner: int
    mtime_ns: int
    size: int
    extra: bytes | None
    content_id: bytes | None
    added_in: int
    removed_in: int | None


class SavedContent(NamedTuple):
    """The content of a version of a file: what its bytes are put together of."""

    size: int
    chunks: bytes | None
    content_id: bytes | None
    extra: bytes | None


class HeldChunk(NamedTuple):
    """A chunk of `bytes` before compression, with the frame that holds it: `length` bytes at `offset`."""

    number: int
    archive: int
    frame: int
    offset: int | None
    length: int | None
    kind: int
    vault: str
    bytes: int


class Output(NamedTuple):
    """A range of an archive that the vault has made readable, up to `until` (microseconds)."""

    archive: int
    start: int
    end: int
    until: int


def count_directory(tx: Transaction, job: int, path: bytes, snapshot: int, *, most: int) -> int | None:
    """The number of entries of a directory in a snapshot; None for more than `most`."""
    count = int(row_of(tx, _COUNT, (job, path, snapshot, snapshot, most + 1))[0])
    return None if count > most else count


def chunk_lists(tx: Transaction, numbers: Sequence[int]) -> dict[int, bytes]:
    """The chunk lists of entries by number, of those that have content."""
    rows = raw_rows(tx, _CHUNK_LISTS, (json.dumps(list(numbers)),))
    return {number: chunks for number, chunks in rows if chunks}


def held_chunks(tx: Transaction, chunks: Sequence[int]) -> list[HeldChunk]:
    """These chunks with the frames that hold them; of more than ten thousand only the first."""
    wanted = json.dumps(list(chunks[:_MOST_CHUNKS]))
    return [HeldChunk._make(row) for row in raw_rows(tx, _FRAMES, (wanted,))]


def outputs(tx: Transaction, archives: Sequence[int], now: int) -> list[Output]:
    """The outputs of these archives that vaults have made readable and keep beyond `now` (microseconds)."""
    return [Output._make(row) for row in raw_rows(tx, _OUTPUTS, (now, json.dumps(sorted(archives))))]


def entries_below(tx: Transaction, job: int, path: bytes, snapshot: int, *, limit: int) -> list[Below]:
    """Entries below a directory in a snapshot, in no order; at most `limit`."""
    values = (job, *bounds(path), snapshot, snapshot, limit)
    return [Below._make(row) for row in raw_rows(tx, _BELOW, values)]


def wanted_frames(tx: Transaction, chunks: Sequence[int]) -> list[WantedFrame]:
    """The frames that hold these chunks, whose number the caller bounds."""
    rows = raw_rows(tx, _WANTED_FRAMES, (json.dumps(list(chunks)),))
    return [WantedFrame._make((*row[:5], FrameRow._make(row[5:]))) for row in rows]


def page_of_directory(
    tx: Transaction, job: int, path: bytes, snapshot: int, *, after: bytes = b""
) -> tuple[list[Status], bool]:
    """Entries of a directory in a snapshot whose names come after `after`, and whether there may be more."""
    sql = f"{_OF_DIRECTORY} AND e.name > ? AND {IN_SNAPSHOT} ORDER BY e.name LIMIT ?"
    return _page(tx, sql, (job, path, after, snapshot, snapshot))


def status_at(tx: Transaction, job: int, path: bytes, name: bytes, snapshot: int) -> Status | None:
    """The entry of that name of a directory in a snapshot."""
    row = row_of(
        tx, f"{_OF_DIRECTORY} AND e.name = ? AND {IN_SNAPSHOT}", (job, path, name, snapshot, snapshot)
    )
    return None if row is None else Status._make(row)


def page_of_versions(
    tx: Transaction, job: int, path: bytes, *, after: tuple[bytes, int] = (b"", 0)
) -> tuple[list[Status], bool]:
    """All versions of a directory's entries by name and age, after a name and the snapshot it came with."""
    sql = f"{_OF_DIRECTORY} AND (e.name, e.added_in) > (?, ?) ORDER BY e.name, e.added_in LIMIT ?"
    return _page(tx, sql, (job, path, *after))


def statuses_of(tx: Transaction, job: int, path: bytes, name: bytes) -> list[Status]:
    """All versions of one entry of a directory, oldest first."""
    sql = f"{_OF_DIRECTORY} AND e.name = ? ORDER BY e.added_in"
    return [Status._make(row) for row in raw_rows(tx, sql, (job, path, name))]


def dumped_databases(tx: Transaction) -> Iterator[tuple[str, str, int, Status]]:
    """All dumps of databases: engine, database, the job's number, and the version of the entry."""
    for engine, database, job, *row in raw_rows(tx, _DUMPS, ()):
        yield engine, database, job, Status._make(row)


def content_of(tx: Transaction, number: int) -> SavedContent | None:
    """The content of the version of that number."""
    row = row_of(tx, _CONTENT, (number,))
    return None if row is None else SavedContent._make(row)


def parts_of(tx: Transaction, chunks: Sequence[int]) -> dict[int, tuple[bytes, int, int]]:
    """Id, length and archive of chunks, by number."""
    rows = raw_rows(tx, _PARTS, (json.dumps(list(chunks)),))
    return {number: (id_, length, archive) for number, id_, length, archive in rows}


def _page(tx: Transaction, sql: str, values: tuple[Any, ...]) -> tuple[list[Status], bool]:
    rows = [Status._make(row) for row in raw_rows(tx, sql, (*values, _ROWS_A_PAGE))]
    return rows, len(rows) == _ROWS_A_PAGE
