"""Finds the chunks and archives that kept snapshots need; all others could be deleted.

    needed = needed_chunks(tx, kept_snapshots(tx))
    dead = [use for use in archive_uses(tx, needed) if use.is_dead]

Needed is a byte for each chunk number ever given out. If a chunk's own archive cannot be relied on
(unconfirmed, lost, damaged, retired, condemned, deleted), its copies in the same domain are needed, too: too
much is kept rather than too little.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from msgspec import Struct

from backup.format.rows import unpack_u32
from backup.inventory.content.archives import THERE, ArchiveState
from backup.inventory.content.packed import largest_chunk
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import numerals, raw_rows, row_of
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros, moment
from backup.model import PackKind, SnapshotId, VaultName

_BATCH = 500
_RELIABLE = f"'{ArchiveState.STORED}'"
_THERE = ", ".join(f"'{state}'" for state in THERE)
_REMAIN = ", ".join(f"'{state}'" for state in THERE if state is not ArchiveState.DELETING)

_NOT_BUILT_UPON = ", ".join(
    f"'{state}'"
    for state in (
        ArchiveState.RETIRED,
        ArchiveState.CONDEMNED,
        ArchiveState.DAMAGED,
        ArchiveState.DELETING,
    )
)

Kept = Mapping[int, Sequence[int]]
"""The numbers of the snapshots that are kept, rising, by job."""


class ArchiveUse(Struct, frozen=True):
    """A data archive that its vault holds, with the chunks that are known to lie in it and those needed."""

    number: int
    vault: VaultName
    state: ArchiveState
    size: int
    stored_at: datetime
    chunks: int
    needed: int

    @property
    def is_dead(self) -> bool:
        """Whether nothing in the archive is needed. If none of its chunks is known, it may hold anything."""
        return self.chunks > 0 and self.needed == 0


def kept_snapshots(
    tx: Transaction, *, without: Collection[SnapshotId] = (), forgotten_since: datetime | None = None
) -> Kept:
    """The snapshots that are not forgotten (`without` these), or that an open restore reads.

    With `forgotten_since` also those that were forgotten after that time.
    """
    sql = """SELECT s.id, s.job, s.number FROM snapshots s
             WHERE s.forgotten_at IS NULL OR s.id IN (SELECT snapshot FROM restores WHERE state = ?)
             OR s.forgotten_at > ? ORDER BY s.job, s.number"""
    kept: dict[int, list[int]] = {}
    since = None if forgotten_since is None else micros(forgotten_since)
    for snapshot, job, number in raw_rows(tx, sql, (RestoreStage.OPEN.value, since)):
        if snapshot not in without:
            kept.setdefault(job, []).append(number)
    return kept


def is_kept(kept: Kept, job: int, added_in: int, removed_in: int | None) -> bool:
    """Whether a version of an entry is live, or in one of the kept snapshots."""
    numbers = kept.get(job, ())
    first = bisect_left(numbers, added_in)
    return removed_in is None or (first < len(numbers) and numbers[first] < removed_in)


def needed_chunks(tx: Transaction, kept: Kept) -> bytearray:
    """A byte for each chunk number: 1 if a kept snapshot, a live entry or an unfinished run needs it."""
    needed = chunks_held(tx, kept, also_live=True)
    for (chunks,) in raw_rows(tx, "SELECT chunks FROM staged_entries WHERE chunks IS NOT NULL", ()):
        _mark(needed, chunks)
    mark_copies(tx, needed)
    return needed


def chunks_held(tx: Transaction, held_by: Kept, *, also_live: bool = False) -> bytearray:
    """A byte for each chunk number: 1 if an entry of these snapshots names it, or if asked a live entry."""
    found = bytearray(largest_chunk(tx) + 1)
    for chunks in _of_entries(tx, held_by, also_live=also_live):
        _mark(found, chunks)
    return found


def archive_uses(tx: Transaction, needed: bytearray, vault: VaultName | None = None) -> Iterator[ArchiveUse]:
    """How much of each data archive of a vault (or of all) is needed, by number."""
    sql = f"""
    SELECT a.number, v.name, a.state, a.size, coalesce(a.stored_at, a.submitted_at), c.held, c.first, c.last
    FROM archives a JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
    LEFT JOIN (SELECT archive, count(*) AS held, min(number) AS first, max(number) AS last
               FROM chunks GROUP BY archive) c ON c.archive = a.number
    WHERE a.kind = {int(PackKind.DATA)} AND a.state IN ({_THERE}) ORDER BY a.number"""
    for number, name, state, size, stored, held, first, last in list(raw_rows(tx, sql, ())):
        if vault is not None and name != vault:
            continue
        if held and last - first + 1 == held:  # its chunks' numbers follow each other: nearly always
            used = needed.count(1, first, last + 1)
        else:
            used = sum(needed[chunk] for (chunk,) in _chunks(tx, number))
        yield ArchiveUse(number, VaultName(name), ArchiveState(state), size, moment(stored), held or 0, used)


def has_copies(tx: Transaction) -> bool:
    """Whether any vault has copies of another's snapshots, or is to have some."""
    return row_of(tx, "SELECT 1 FROM copied_snapshots UNION SELECT 1 FROM copies LIMIT 1", ()) is not None


def archives_with(tx: Transaction, chunks: bytearray) -> Iterator[tuple[int, ArchiveState]]:
    """The archives with one of these chunks, by number; `chunks` has a byte for each chunk number."""
    sql = """SELECT a.number, a.state, min(c.number), max(c.number), count(*)
             FROM chunks c JOIN archives a ON a.number = c.archive GROUP BY a.number ORDER BY a.number"""
    for number, state, first, last, held in raw_rows(tx, sql, ()):
        if last - first + 1 == held:  # its chunks' numbers follow each other: nearly always
            is_used = chunks.find(1, first, last + 1) >= 0
        else:
            is_used = any(chunks[chunk] for (chunk,) in _chunks(tx, number))
        if is_used:
            yield number, ArchiveState(state)


def holders_of(tx: Transaction, archive: int) -> dict[int, set[int]]:
    """Of each chunk of an archive the archives of its domain that hold it, itself among them."""
    found: dict[int, set[int]] = {}
    sql = """SELECT c.number, o.archive FROM chunks c JOIN archives a ON a.number = c.archive
             JOIN chunk_prefixes p ON p.prefix = c.prefix JOIN chunks o ON o.number = p.chunk
             JOIN archives b ON b.number = o.archive
             WHERE c.archive = ? AND o.id = c.id AND b.domain = a.domain"""
    for number, other in raw_rows(tx, sql, (archive,)):
        found.setdefault(number, {archive}).add(other)
    return found


def gone_with_deletions(tx: Transaction, chunks: bytearray) -> bool:
    """Whether one of these chunks is only in an archive that was deleted or is about to be."""
    sql = f"SELECT number FROM archives WHERE state IN ('{ArchiveState.DELETING}', '{ArchiveState.DELETED}')"
    for (archive,) in list(raw_rows(tx, sql, ())):
        alone = f"""SELECT c.number FROM chunks c JOIN archives a ON a.number = c.archive
            WHERE c.archive = ? AND NOT EXISTS (
                SELECT 1 FROM chunk_prefixes p JOIN chunks o ON o.number = p.chunk
                JOIN archives b ON b.number = o.archive
                WHERE p.prefix = c.prefix AND o.id = c.id AND b.domain = a.domain
                  AND b.state IN ({_REMAIN}))"""
        if any(chunks[number] for (number,) in raw_rows(tx, alone, (archive,))):
            return True
    return False


def condemned_with(tx: Transaction, chunks: bytearray) -> dict[int, list[bytes]]:
    """The condemned packs that hold one of these chunks, by each job whose catalogs condemned them."""
    sql = """SELECT c.job, a.number, a.pack_id FROM condemnations c JOIN archives a ON a.number = c.archive
             WHERE a.state = ? ORDER BY c.job, a.number"""
    rows = list(raw_rows(tx, sql, (ArchiveState.CONDEMNED.value,)))
    used = {
        archive: any(chunks[number] for (number,) in _chunks(tx, archive))
        for archive in {row[1] for row in rows}
    }
    found: dict[int, list[bytes]] = {}
    for job, archive, pack in rows:
        if used[archive]:
            found.setdefault(job, []).append(pack)
    return found


def _of_entries(tx: Transaction, held_by: Kept, *, also_live: bool) -> Iterator[bytes]:
    """The packed chunk numbers of each entry that one of the snapshots holds, or that is live if asked."""
    sql = """SELECT d.job, e.added_in, e.removed_in, e.chunks
             FROM entries e JOIN directories d ON d.number = e.directory WHERE e.chunks IS NOT NULL"""
    for job, added, removed, chunks in raw_rows(tx, sql, ()):
        if removed is None and also_live:
            yield chunks
            continue
        numbers = held_by.get(job, ())
        first = bisect_left(numbers, added)
        if first < len(numbers) and (removed is None or numbers[first] < removed):
            yield chunks


def _mark(needed: bytearray, chunks: bytes) -> None:
    numbers = unpack_u32(chunks)
    try:
        for number in numbers:
            needed[number] = 1
    except IndexError:  # a number that was never stored: the entry is incomplete
        for number in numbers:
            if number < len(needed):
                needed[number] = 1


def mark_copies(tx: Transaction, needed: bytearray) -> None:
    """Mark the copies of needed chunks whose own archives cannot be relied on."""
    sql = f"SELECT 1 FROM archives WHERE kind = {int(PackKind.DATA)} AND state NOT IN ({_RELIABLE}) LIMIT 1"
    if row_of(tx, sql, ()) is None:
        return
    twice = "SELECT prefix FROM chunk_prefixes GROUP BY prefix HAVING count(*) > 1"
    prefixes = [str(row[0]) for row in raw_rows(tx, twice, ())]
    for start in range(0, len(prefixes), _BATCH):
        some = ",".join(prefixes[start : start + _BATCH])
        sql = f"""SELECT a.domain, c.id, c.number, a.state IN ({_RELIABLE})
                  FROM chunk_prefixes p JOIN chunks c ON c.number = p.chunk
                  JOIN archives a ON a.number = c.archive
                  WHERE p.prefix IN ({some}) ORDER BY a.domain, c.id"""
        for _, rows in groupby(raw_rows(tx, sql, ()), key=itemgetter(0, 1)):
            copies = list(rows)
            if any(needed[number] and not is_reliable for _, _, number, is_reliable in copies):
                for _, _, number, _ in copies:
                    needed[number] = 1


def stored_elsewhere(tx: Transaction, needed: bytearray) -> Counter[int]:
    """How many needed chunks of archives that are not built upon another archive of the domain keeps, too.

    By archive. If a stored archive has a chunk, that keeps it for all others; else the newest of the retired
    ones keeps it, from which a restore would read it. `needed` is a byte for each chunk number
    (`needed_chunks`).
    """
    found: Counter[int] = Counter()
    sql = f"""SELECT c.number, c.prefix FROM chunks c JOIN archives a ON a.number = c.archive
              WHERE a.state IN ({_NOT_BUILT_UPON})"""
    prefixes = array("q", {prefix for number, prefix in raw_rows(tx, sql, ()) if needed[number]})
    for start in range(0, len(prefixes), _BATCH):
        some = numerals(prefixes[start : start + _BATCH])
        sql = f"""SELECT a.domain, c.id, c.number, c.archive, a.state
                  FROM chunk_prefixes p JOIN chunks c ON c.number = p.chunk
                  JOIN archives a ON a.number = c.archive
                  WHERE p.prefix IN ({some}) ORDER BY a.domain, c.id"""
        for _, rows in groupby(raw_rows(tx, sql, ()), key=itemgetter(0, 1)):
            found.update(_kept_by_another(list(rows), needed))
    return found


def _kept_by_another(copies: Sequence[Sequence[Any]], needed: bytearray) -> Iterator[int]:
    """The archives of those copies of a chunk for which another archive keeps it."""
    is_stored = any(state == ArchiveState.STORED for *_, state in copies)
    keeper = max((archive for *_, archive, state in copies if state == ArchiveState.RETIRED), default=None)
    for *_, number, archive, state in copies:
        if is_stored:
            is_kept = state != ArchiveState.STORED
        else:  # what was taken up is to be built upon again: it stays
            is_kept = keeper not in {None, archive} and state != ArchiveState.UNCONFIRMED
        if is_kept and needed[number]:
            yield archive


def _chunks(tx: Transaction, archive: int) -> Iterator[tuple[int]]:
    return raw_rows(tx, "SELECT number FROM chunks WHERE archive = ?", (archive,))
