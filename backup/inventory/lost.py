"""Archives that a check found lost or damaged: which chunks are gone with them, which lie elsewhere, too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from backup.format.rows import unpack_u32
from backup.inventory.archives import ArchiveState
from backup.inventory.database import Transaction
from backup.inventory.packed import ChunkPlace, chunk_prefix, largest_chunk
from backup.inventory.schema import archives, domains, vaults
from backup.model import VaultName

_BATCH = 500
_SPOILED = (ArchiveState.LOST, ArchiveState.DAMAGED)


def mark(tx: Transaction, numbers: Collection[int], state: ArchiveState) -> None:
    """What the vault has of these archives is another state from now on."""
    wanted = sorted(numbers)
    for start in range(0, len(wanted), _BATCH):
        chosen = archives.c.number.in_(wanted[start : start + _BATCH])
        tx.execute(update(archives).where(chosen).values(state=state))


@dataclass(frozen=True, slots=True)
class LostChunks:
    """Chunks that cannot be had any more: one byte for each chunk number that was ever given out, or none."""

    marks: bytes | bytearray = b""
    archives: frozenset[int] = frozenset()  # those that held them

    def spoil(self, chunks: bytes | None) -> bool:
        """Whether an entry of these packed chunk numbers needs one of them."""
        if not self.marks or not chunks:
            return False
        try:
            return any(map(self.marks.__getitem__, unpack_u32(chunks)))
        except IndexError:  # a number that no chunk has: what needs it is not whole
            return True


NOTHING_LOST = LostChunks()


def spoiled_archives(tx: Transaction, vault: VaultName | None = None) -> dict[int, ArchiveState]:
    """Archives of a vault (or of all) that were stored, and then found lost or damaged."""
    query = (
        select(archives.c.number, archives.c.state)
        .select_from(archives.join(domains).join(vaults))
        .where(archives.c.state.in_(_SPOILED), archives.c.archive_id.is_not(None))
        .order_by(archives.c.number)
    )
    if vault is not None:
        query = query.where(vaults.c.name == vault)
    return {row.number: ArchiveState(row.state) for row in tx.execute(query)}


def lost_chunks(
    tx: Transaction,
    vault: VaultName | None = None,
    *,
    bad_frames: Mapping[int, Collection[int]] | None = None,
) -> LostChunks:
    """The chunks of a vault's (or all) lost and damaged archives that lie nowhere else in their domain.

    Of an archive in `bad_frames` only those in these frames.
    """
    spoiled = spoiled_archives(tx, vault)
    if not spoiled:
        return NOTHING_LOST
    marks, held = bytearray(largest_chunk(tx) + 1), set[int]()
    numbers = list(spoiled)
    for start in range(0, len(numbers), _BATCH):
        some = ",".join(map(str, numbers[start : start + _BATCH]))
        sql = f"""
        SELECT c.number, c.archive, c.frame FROM chunks c JOIN archives a ON a.number = c.archive
        WHERE c.archive IN ({some}) AND NOT EXISTS (
            SELECT 1 FROM chunks o JOIN archives b ON b.number = o.archive
            WHERE o.prefix = c.prefix AND o.id = c.id AND b.domain = a.domain
              AND b.state IN ('stored', 'unconfirmed'))"""  # noqa: S608
        for number, archive, frame in tx.exec_driver_sql(sql):
            if bad_frames is None or archive not in bad_frames or frame in bad_frames[archive]:
                marks[number] = 1
                held.add(archive)
    return LostChunks(marks, frozenset(held)) if held else NOTHING_LOST


def elsewhere(
    tx: Transaction, held_by: Collection[int], places: Callable[[], Iterable[ChunkPlace]]
) -> Iterator[ChunkPlace]:
    """Where chunks lie in sound archives that were thought to lie in lost or damaged ones.

    `held_by` are the archives of those `places`, which are asked for only if one of them is not sound.
    """
    spoiled = _spoiled_among(tx, held_by)
    if not spoiled:
        return
    gone = [place for place in places() if place.archive in spoiled]
    for start in range(0, len(gone), _BATCH):
        some = gone[start : start + _BATCH]
        others = _others(tx, some)
        for place in some:
            other = others.get((spoiled[place.archive], place.id))
            if other is not None and other.length == place.length:
                yield other._replace(number=place.number)


def _spoiled_among(tx: Transaction, numbers: Collection[int]) -> dict[int, int]:
    """Those of the archives that are lost or damaged, with their domains."""
    wanted = sorted(numbers)
    found: dict[int, int] = {}
    for start in range(0, len(wanted), _BATCH):
        query = select(archives.c.number, archives.c.domain).where(
            archives.c.number.in_(wanted[start : start + _BATCH]), archives.c.state.in_(_SPOILED)
        )
        found.update((row.number, row.domain) for row in tx.execute(query))
    return found


def _others(tx: Transaction, gone: Sequence[ChunkPlace]) -> dict[tuple[int, bytes], ChunkPlace]:
    """Where these chunks lie in sound archives, by domain and id."""
    prefixes = ",".join(str(chunk_prefix(place.id)) for place in gone)
    sql = f"""
    SELECT a.domain, c.number, c.id, c.archive, c.frame, c."offset", c.length
    FROM chunks c JOIN archives a ON a.number = c.archive
    WHERE c.prefix IN ({prefixes}) AND a.state IN ('stored', 'unconfirmed')"""  # noqa: S608
    rows = tx.exec_driver_sql(sql)
    return {(domain, place.id): place for domain, *row in rows for place in [ChunkPlace._make(row)]}
