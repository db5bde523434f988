"""Queries for the listing of a directory in a snapshot: a page at a time, after the last name shown.

Each is a statement or two, whatever the size of the directory, by the index on its entries.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from backup.inventory.content.entry_versions import Version
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of
from backup.model import FrameRow

_COLUMNS = ", ".join(["d.path", *(f"e.{column}" for column in Version._fields[1:])])
_IN_SNAPSHOT = "e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)"
_MOST_CHUNKS = 10_000

_PAGE = f"""
SELECT {_COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number
WHERE d.job = ? AND d.path = ? AND e.name > ? AND {_IN_SNAPSHOT}
ORDER BY e.name LIMIT ?"""

_COUNT = f"""
SELECT count(*) FROM (
    SELECT 1 FROM directories d JOIN entries e ON e.directory = d.number
    WHERE d.job = ? AND d.path = ? AND {_IN_SNAPSHOT} LIMIT ?) AS some"""

_VERSIONS = f"""
SELECT {_COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number
WHERE d.job = ? AND d.path = ? AND e.name = ? ORDER BY e.added_in DESC LIMIT ?"""

_AT = f"""
SELECT {_COLUMNS} FROM directories d JOIN entries e ON e.directory = d.number
WHERE d.job = ? AND d.path = ? AND e.name = ? AND {_IN_SNAPSHOT}"""

_CHUNK_LISTS = "SELECT number, chunks FROM entries WHERE number IN (SELECT value FROM json_each(?))"

_FRAMES = """
SELECT c.number, c.archive, c.frame, f."offset", f.sealed_length, a.kind, v.name, c.length
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
WHERE d.job = ? AND (d.path = ? OR (d.path >= ? AND d.path < ?)) AND {_IN_SNAPSHOT}
LIMIT ?"""

_WANTED_FRAMES = """
SELECT c.archive, a.size, a.kind, v.name, sum(c.length),
       f.number, f."offset", f.sealed_length, f.raw_length, f.flags, f.digest
FROM json_each(?) n
CROSS JOIN chunks c ON c.number = n.value
JOIN frames f ON f.archive = c.archive AND f.number = c.frame
JOIN archives a ON a.number = c.archive
JOIN domains d ON d.number = a.domain
JOIN vaults v ON v.number = d.vault
GROUP BY c.archive, c.frame"""


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


def directory_page(
    tx: Transaction, job: int, path: bytes, snapshot: int, *, after: bytes, limit: int
) -> list[Version]:
    """Entries of a directory in a snapshot whose names come after `after`, by name."""
    values = (job, path, after, snapshot, snapshot, limit)
    return [Version._make(row) for row in raw_rows(tx, _PAGE, values)]


def count_directory(tx: Transaction, job: int, path: bytes, snapshot: int, *, most: int) -> int | None:
    """The number of entries of a directory in a snapshot; None for more than `most`."""
    count = int(row_of(tx, _COUNT, (job, path, snapshot, snapshot, most + 1))[0])
    return None if count > most else count


def version_at(tx: Transaction, job: int, path: bytes, snapshot: int) -> Version | None:
    """The version of the entry at an absolute path that a snapshot has; None if it does not have the path."""
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    row = row_of(tx, _AT, (job, parent or b"/", name, snapshot, snapshot))
    return Version._make(row) if row else None


def newest_versions(tx: Transaction, job: int, path: bytes, *, limit: int) -> list[Version]:
    """The newest versions of the entry at an absolute path, newest first."""
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    rows = raw_rows(tx, _VERSIONS, (job, parent or b"/", name, limit))
    return [Version._make(row) for row in rows]


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
    stem = path.rstrip(b"/")
    values = (job, path, stem + b"/", stem + b"0", snapshot, snapshot, limit)
    return [Below._make(row) for row in raw_rows(tx, _BELOW, values)]


def wanted_frames(tx: Transaction, chunks: Sequence[int]) -> list[WantedFrame]:
    """The frames that hold these chunks, whose number the caller bounds."""
    rows = raw_rows(tx, _WANTED_FRAMES, (json.dumps(list(chunks)),))
    return [WantedFrame._make((*row[:5], FrameRow._make(row[5:]))) for row in rows]
