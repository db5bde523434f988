"""Queries for the contents of archives: frames and chunks, and the chunks that need not be sent again."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from backup.format.rows import ChunkColumns
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_columns,
    marks,
    numerals,
    pages,
    raw_rows,
    row_of,
    run_many,
    value_of,
)
from backup.model import ChunkRow, FrameRow

_BATCH = 512
_CHUNK_COLUMNS = ("number", "prefix", "id", "frame", "offset", "length")
_KNOWN = """SELECT c.id, c.number, c.archive FROM chunk_prefixes p JOIN chunks c ON c.number = p.chunk
            JOIN archives a ON a.number = c.archive
            WHERE a.domain = ? AND (a.state = 'stored' OR (a.state = 'submitted' AND a.run = ?))
              AND p.prefix IN ({marks})"""
_INDEX_PACK = """INSERT INTO chunk_prefixes SELECT prefix, number FROM chunks WHERE archive = ?
                 ORDER BY prefix, number"""
_INDEX_MANY = """INSERT OR IGNORE INTO chunk_prefixes SELECT prefix, number FROM chunks
                 WHERE number BETWEEN ? AND ? ORDER BY prefix, number"""
_MANY = 2**20  # sorted in memory
_FORGET_GONE = """DELETE FROM chunk_prefixes WHERE NOT EXISTS (
    SELECT 1 FROM chunks c WHERE c.number = chunk_prefixes.chunk AND c.prefix = chunk_prefixes.prefix)"""
_COUNTS_DIFFER = "SELECT (SELECT count(*) FROM chunks) <> (SELECT count(*) FROM chunk_prefixes)"


class ChunkLocation(NamedTuple):
    """A chunk's location: `length` bytes at `offset` of frame `frame` of archive `archive`."""

    number: int
    id: bytes
    archive: int
    frame: int
    offset: int
    length: int


class KnownChunk(NamedTuple):
    """A chunk that need not be sent again."""

    number: int
    archive: int


def chunk_prefix(chunk_id: bytes) -> int:
    """The signed integer under which a chunk is indexed: its id's first 8 bytes."""
    return int.from_bytes(chunk_id[:8], "little", signed=True)


def chunk_prefixes(ids: Sequence[bytes]) -> Sequence[int]:
    """Same as `chunk_prefix`, for many ids."""
    words = array("q", b"".join(ids))
    if sys.byteorder == "big":
        words.byteswap()
    return words[::4]


def known_chunks(tx: Transaction, domain: int, run: int, ids: Iterable[bytes]) -> dict[bytes, KnownChunk]:
    """The chunks among `ids` that are stored in the domain, or submitted by this very run."""
    found: dict[bytes, KnownChunk] = {}
    if row_of(tx, "SELECT 1 FROM archives WHERE domain = ? LIMIT 1", (domain,)) is None:
        return found  # the domain is empty: saves a first run all look-ups
    asked = set(ids)
    prefixes = chunk_prefixes(list(asked))
    for start in range(0, len(prefixes), _BATCH):
        some = tuple(prefixes[start : start + _BATCH])
        size = 1 << (len(some) - 1).bit_length()  # few texts, which the driver keeps prepared
        filled = some + some[:1] * (size - len(some))
        sql = _KNOWN.format(marks=marks(filled))
        for chunk_id, number, archive in raw_rows(tx, sql, (domain, run, *filled)):
            if chunk_id in asked:
                found[chunk_id] = KnownChunk(number, archive)
    return found


def insert_chunks(tx: Transaction, archive: int, numbers: Sequence[int], rows: Sequence[ChunkRow]) -> None:
    """Insert all chunks of a new archive, with their numbers in the same order; they are found by id."""
    _insert(tx, archive, numbers, rows, only_new=False)
    changed(tx, _INDEX_PACK, (archive,))


def insert_missing_chunks(
    tx: Transaction, archive: int, numbers: Sequence[int], rows: Sequence[ChunkRow]
) -> None:
    """Insert chunks of an archive; numbers that exist stay as they are. Found by id after `index_chunks`."""
    _insert(tx, archive, numbers, rows, only_new=True)


def _insert(
    tx: Transaction, archive: int, numbers: Sequence[int], rows: Sequence[ChunkRow], *, only_new: bool
) -> None:
    some = ChunkColumns.of(rows)
    columns = numbers, chunk_prefixes(some.ids), some.ids, some.frames, some.offsets, some.lengths
    insert_columns(tx, "chunks", _CHUNK_COLUMNS, columns, same={"archive": archive}, only_new=only_new)


def index_chunks(tx: Transaction) -> None:
    """Rebuild the index by which chunks are found by their ids; quick if it is complete already."""
    if value_of(tx, _COUNTS_DIFFER, ()):
        for start in range(0, largest_chunk(tx) + 1, _MANY):
            changed(tx, _INDEX_MANY, (start, start + _MANY - 1))
        if value_of(tx, _COUNTS_DIFFER, ()):
            changed(tx, _FORGET_GONE, ())


def delete_chunks(tx: Transaction, chunks: Sequence[tuple[int, int]]) -> None:
    """Delete chunks, given as prefix and number."""
    run_many(tx, "DELETE FROM chunk_prefixes WHERE prefix = ? AND chunk = ?", chunks)
    run_many(tx, "DELETE FROM chunks WHERE prefix = ? AND number = ?", chunks)


def chunk_locations(tx: Transaction, numbers: Sequence[int]) -> Iterator[ChunkLocation]:
    """Locations of the chunks of those numbers, in any order; unknown numbers are skipped."""
    for start in range(0, len(numbers), _BATCH):
        some = numerals(numbers[start : start + _BATCH])
        sql = f'SELECT number, id, archive, frame, "offset", length FROM chunks WHERE number IN ({some})'
        yield from map(ChunkLocation._make, raw_rows(tx, sql, ()))


def chunk_locations_between(tx: Transaction, least: int, most: int) -> list[tuple[Any, ...]]:
    """Locations of the chunks of all numbers from `least` to `most`, in order: fields of `ChunkLocation`."""
    sql = """SELECT number, id, archive, frame, "offset", length FROM chunks
             WHERE number BETWEEN ? AND ? ORDER BY number"""
    return list(raw_rows(tx, sql, (least, most)))


def largest_chunk(tx: Transaction) -> int:
    """The largest chunk number; 0 if there are none."""
    return value_of(tx, "SELECT max(number) FROM chunks", ()) or 0


def frame_rows(tx: Transaction, archive: int) -> list[FrameRow]:
    """The frames of an archive, in order."""
    sql = """SELECT number, "offset", sealed_length, raw_length, flags, digest FROM frames
             WHERE archive = ? ORDER BY number"""
    return list(map(FrameRow._make, raw_rows(tx, sql, (archive,))))


def chunk_frames(tx: Transaction, archive: int) -> Iterator[tuple[int, int, int]]:
    """Each chunk of an archive: its number, its frame, and where that frame begins."""
    sql = """SELECT c.number, c.frame, f."offset" FROM chunks c
             JOIN frames f ON f.archive = c.archive AND f.number = c.frame WHERE c.archive = ?"""
    return raw_rows(tx, sql, (archive,))


def chunks_of(tx: Transaction, archive: int) -> tuple[list[int], Sequence[ChunkRow]]:
    """The numbers of an archive's chunks in order, and their rows."""
    sql = 'SELECT number, id, frame, "offset", length FROM chunks WHERE archive = ? ORDER BY number'
    numbers: list[int] = []
    ids: list[bytes] = []
    locations = array("I"), array("I"), array("I")
    for rows in pages(tx, sql, (archive,)):
        some_numbers, some_ids, *columns = zip(*rows, strict=True)
        numbers.extend(some_numbers)
        ids.extend(some_ids)
        for location, column in zip(locations, columns, strict=True):
            location.extend(column)
    return numbers, ChunkColumns(ids, *locations)
