"""Queries for what is asked about entries in a snapshot: how many there are, and where their chunks lie.

Each is a statement, whatever the size of the directory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

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
WHERE d.job = ? AND {BELOW} AND {IN_SNAPSHOT}
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
