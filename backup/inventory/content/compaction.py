"""Queries for a compaction: how much of each archive is live, and how long the rest is needed."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.format.rows import unpack_u32
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.packed import largest_chunk
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.times import moment
from backup.model import PackKind, VaultName

NEVER = 65_535
"""A number of days after which nothing is needed: nobody knows when."""


class ChunkUses(Struct, frozen=True):
    """For each chunk number whether a file on the disk has it, and for how many days a snapshot needs it.

    `days` is 0 for a chunk that no closed entry of a kept snapshot needs, `NEVER` if it is not known.
    """

    live: bytearray
    days: array[int]


class PartlyUsed(Struct, frozen=True):
    """An archive of which a part is live: lengths before compression, days until the rest is not needed."""

    number: int
    pack_id: bytes
    size: int
    stored_at: datetime
    length: int
    live: int
    days: int


def chunk_uses(
    tx: Transaction, ends: Mapping[int, Sequence[tuple[int, int]]], active: Collection[int]
) -> ChunkUses:
    """The uses of every chunk. `ends`: by job, (number, days until it goes) of its kept snapshots, rising.

    Files of a job that is not `active` (not backed up any more) are taken as not on the disk.
    """
    size = largest_chunk(tx) + 1
    live, days = bytearray(size), array("H", bytes(2 * size))
    sql = """SELECT d.job, e.added_in, e.removed_in, e.chunks
             FROM entries e JOIN directories d ON d.number = e.directory WHERE e.chunks IS NOT NULL"""
    numbers = {job: [number for number, _ in of_job] for job, of_job in ends.items()}
    for job, added, removed, packed in raw_rows(tx, sql, ()):
        if removed is None and job in active:
            for number in unpack_u32(packed):
                if number < size:
                    live[number] = 1
            continue
        until = (
            NEVER if removed is None else _last_need(numbers.get(job, ()), ends.get(job, ()), added, removed)
        )
        if until:
            for number in unpack_u32(packed):
                if number < size and days[number] < until:
                    days[number] = until
    return ChunkUses(live, days)


def _last_need(numbers: Sequence[int], ends: Sequence[tuple[int, int]], added: int, removed: int) -> int:
    """For how many days a kept snapshot from `added` up to, not including, `removed` will be there."""
    first, last = bisect_left(numbers, added), bisect_left(numbers, removed)
    return max((until for _, until in ends[first:last]), default=0)


def partly_used(tx: Transaction, vault: VaultName, uses: ChunkUses) -> Iterator[PartlyUsed]:
    """The stored data archives of a vault that are not wholly live, by number."""
    sql = """SELECT a.number, a.pack_id, a.size, a.stored_at, c.held, c.first, c.last
             FROM archives a JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
             JOIN (SELECT archive, count(*) AS held, min(number) AS first, max(number) AS last
                   FROM chunks GROUP BY archive) c ON c.archive = a.number
             WHERE v.name = ? AND a.kind = ? AND a.state = ? ORDER BY a.number"""
    values = (vault, int(PackKind.DATA), ArchiveState.STORED)
    for number, pack_id, size, stored_at, held, first, last in list(raw_rows(tx, sql, values)):
        in_order = last - first + 1 == held
        if in_order and uses.live.count(1, first, last + 1) in {0, held}:
            continue  # wholly live, or nothing of it: then a prune's business
        length = live = days = 0
        for chunk, size_of_chunk in raw_rows(
            tx, "SELECT number, length FROM chunks WHERE archive = ?", (number,)
        ):
            length += size_of_chunk
            if uses.live[chunk]:
                live += size_of_chunk
            else:
                days = max(days, uses.days[chunk])
        if 0 < live < length:
            yield PartlyUsed(number, pack_id, size, moment(stored_at), length, live, days)
