"""Lost and damaged archives: the chunks that are lost with them, and copies in other archives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from operator import itemgetter
from typing import Final

from msgspec import Struct

from backup.format.rows import unpack_u32
from backup.inventory.content.archives import IN_VAULTS, SOUND, ArchiveState
from backup.inventory.content.packed import ChunkLocation, chunk_prefix, largest_chunk
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, marks, numerals, raw_rows
from backup.model import VaultName

_BATCH = 500
_SPOILED = (ArchiveState.LOST, ArchiveState.DAMAGED)
_GOING = (ArchiveState.DELETING, ArchiveState.DELETED)
_TWINS = (ArchiveState.STORED, ArchiveState.UNCONFIRMED, ArchiveState.RETIRED)
_NOT_RELIED_ON = (*_SPOILED, *_GOING, ArchiveState.RETIRED, ArchiveState.CONDEMNED)


def mark(tx: Transaction, numbers: Collection[int], state: ArchiveState) -> None:
    """Set the state of these archives, except of those whose deletion was decided."""
    ordered = sorted(numbers)
    for start in range(0, len(ordered), _BATCH):
        some = ordered[start : start + _BATCH]
        sql = f"""UPDATE archives SET state = ?
                  WHERE number IN ({marks(some)}) AND state NOT IN ({marks(_GOING)})"""
        changed(tx, sql, (state, *some, *_GOING))


class LostChunks(Struct, frozen=True):
    """Chunks that cannot be restored any more: one byte for each chunk number given out; empty if none."""

    marks: bytes | bytearray = b""
    archives: frozenset[int] = frozenset()  # the archives that held them

    def spoil(self, chunks: bytes | None) -> bool:
        """Whether an entry with these (packed) chunk numbers needs one of the lost chunks."""
        if not self.marks or not chunks:
            return False
        try:
            return any(map(self.marks.__getitem__, unpack_u32(chunks)))
        except IndexError:  # an impossible number: the entry is incomplete
            return True


NOTHING_LOST = LostChunks()


def spoiled_archives(tx: Transaction, vault: VaultName | None = None) -> dict[int, ArchiveState]:
    """Archives of a vault (or of all) that were stored, and later found lost or damaged."""
    sql = f"SELECT a.number, a.state FROM {IN_VAULTS} WHERE a.state IN ({marks(_SPOILED)})"
    sql += " AND a.archive_id IS NOT NULL" + ("" if vault is None else " AND v.name = ?")
    values = (*_SPOILED, *(() if vault is None else (vault,)))
    rows = raw_rows(tx, f"{sql} ORDER BY a.number", values)
    return {number: ArchiveState(state) for number, state in rows}


def lost_chunks(
    tx: Transaction,
    vault: VaultName | None = None,
    *,
    bad_frames: Mapping[int, Collection[int]] | None = None,
) -> LostChunks:
    """The chunks of a vault's (or all) lost, damaged and deleted archives without a copy in their domain.

    Of an archive in `bad_frames` only those in these frames.
    """
    numbers = [*spoiled_archives(tx, vault), *_numbers(tx, vault, _GOING)]
    return _without_copy(tx, numbers, SOUND, bad_frames)


_WHOLE: Final = (*SOUND, ArchiveState.CONDEMNED)
_AT: Final = f"""
SELECT a.number FROM {IN_VAULTS} WHERE v.name = ? AND a.state IN ({marks(_WHOLE)})
UNION ALL SELECT k.archive FROM copies k JOIN vaults w ON w.number = k.vault
WHERE w.name = ? AND k.state IN ({marks(_WHOLE)})"""


def lost_copies(tx: Transaction, vault: VaultName) -> LostChunks:
    """The chunks of a vault's copies that are not sound there, and not in another archive there."""
    sql = f"""SELECT k.archive FROM copies k JOIN vaults v ON v.number = k.vault
              WHERE v.name = ? AND k.state NOT IN ({marks(_WHOLE)}) ORDER BY k.archive"""
    return _lacking(tx, vault, [number for (number,) in raw_rows(tx, sql, (vault, *_WHOLE))])


def lacking_in(tx: Transaction, vault: VaultName, lost: LostChunks) -> LostChunks:
    """Of lost chunks those that another vault does not have, either."""
    found = _lacking(tx, vault, sorted(lost.archives))
    return LostChunks(bytes(map(int.__and__, found.marks, lost.marks)), found.archives)


def _lacking(tx: Transaction, vault: VaultName, numbers: Sequence[int]) -> LostChunks:
    """The chunks of these archives that no sound archive in a vault has."""
    if not numbers:
        return NOTHING_LOST
    there = {number for (number,) in raw_rows(tx, _AT, (vault, *_WHOLE, vault, *_WHOLE))}
    marks, held = bytearray(largest_chunk(tx) + 1), set[int]()
    absent = [number for number in numbers if number not in there]
    for start in range(0, len(absent), _BATCH):
        some = numerals(absent[start : start + _BATCH])
        sql = f"""
        SELECT c.number, c.archive, b.number FROM chunks c JOIN archives a ON a.number = c.archive
        LEFT JOIN chunk_prefixes p ON p.prefix = c.prefix
        LEFT JOIN chunks o ON o.number = p.chunk AND o.id = c.id AND o.archive <> c.archive
        LEFT JOIN archives b ON b.number = o.archive AND b.domain = a.domain
        WHERE c.archive IN ({some}) ORDER BY c.archive, c.number"""
        for (number, archive), rows in groupby(raw_rows(tx, sql, ()), key=itemgetter(0, 1)):
            if there.isdisjoint(other for _, _, other in rows):
                marks[number] = 1
                held.add(archive)
    return LostChunks(marks, frozenset(held)) if held else NOTHING_LOST


def needed_losses(
    tx: Transaction,
    bad_frames: Mapping[int, Collection[int]],
    is_kept: Callable[[int, int, int | None], bool],
) -> dict[VaultName, int]:
    """Count, for each vault, the lost or damaged archives that kept snapshots need.

    A chunk that another archive holds, too, is not lost; of an archive in `bad_frames` only those frames are.
    Entries are read only if there is such an archive, up to the first of each vault that needs it and
    `is_kept`, which gets its job, its first snapshot's number and that of the first without it.
    """
    vaults = [name for (name,) in raw_rows(tx, "SELECT name FROM vaults ORDER BY name", ())]
    by_vault = {
        vault: _without_copy(tx, [*spoiled_archives(tx, vault)], SOUND, bad_frames) for vault in vaults
    }
    left = {vault: lost for vault, lost in by_vault.items() if lost.archives}
    found: dict[VaultName, int] = {}
    sql = """SELECT d.job, e.chunks, e.added_in, e.removed_in
             FROM entries e JOIN directories d ON d.number = e.directory WHERE e.chunks IS NOT NULL"""
    for job, chunks, added_in, removed_in in raw_rows(tx, sql, ()) if left else ():
        needs = [vault for vault, lost in left.items() if lost.spoil(chunks)]
        if needs and is_kept(job, added_in, removed_in):
            found.update((vault, len(left.pop(vault).archives)) for vault in needs)
        if not left:
            break
    return found


def to_store_anew(tx: Transaction, vault: VaultName) -> LostChunks:
    """The chunks that a backup stores again when it reads them: lost ones, and those of retired archives.

    Chunks that another stored archive of the domain holds are left out.
    """
    given_up = _numbers(tx, vault, (*_GOING, ArchiveState.RETIRED))
    relied_on = (ArchiveState.STORED, ArchiveState.UNCONFIRMED)
    return _without_copy(tx, [*spoiled_archives(tx, vault), *given_up], relied_on)


def _numbers(tx: Transaction, vault: VaultName | None, states: Sequence[ArchiveState]) -> list[int]:
    """The archives of a vault, or of all, in one of the states."""
    sql = f"SELECT a.number FROM {IN_VAULTS} WHERE a.state IN ({marks(states)})"
    sql += " AND length(a.header) > 0" + ("" if vault is None else " AND v.name = ?")
    values = (*states, *(() if vault is None else (vault,)))
    return [row[0] for row in raw_rows(tx, f"{sql} ORDER BY a.number", values)]


def directories_with(tx: Transaction, job: int, chunks: LostChunks) -> frozenset[bytes]:
    """The paths of directories in which a live file of the job needs one of the chunks."""
    if not chunks.marks:
        return frozenset()
    sql = """SELECT d.path, e.chunks FROM directories d JOIN entries e ON e.directory = d.number
             WHERE d.job = ? AND e.removed_in IS NULL AND e.chunks IS NOT NULL"""
    found: set[bytes] = set()
    for path, packed in raw_rows(tx, sql, (job,)):
        if path not in found and chunks.spoil(packed):
            found.add(path)
    return frozenset(found)


def _without_copy(
    tx: Transaction,
    numbers: Sequence[int],
    relied_on: Sequence[ArchiveState],
    bad_frames: Mapping[int, Collection[int]] | None = None,
) -> LostChunks:
    """The chunks of these archives that no other of the domain holds that is in one of the states."""
    if not numbers:
        return NOTHING_LOST
    states = ", ".join(f"'{state}'" for state in relied_on)
    marks, held = bytearray(largest_chunk(tx) + 1), set[int]()
    for start in range(0, len(numbers), _BATCH):
        some = numerals(numbers[start : start + _BATCH])
        sql = f"""
        SELECT c.number, c.archive, c.frame FROM chunks c JOIN archives a ON a.number = c.archive
        WHERE c.archive IN ({some}) AND NOT EXISTS (
            SELECT 1 FROM chunk_prefixes p JOIN chunks o ON o.number = p.chunk
            JOIN archives b ON b.number = o.archive
            WHERE p.prefix = c.prefix AND o.id = c.id AND b.domain = a.domain
              AND o.archive <> c.archive AND b.state IN ({states}))"""
        for number, archive, frame in raw_rows(tx, sql, ()):
            if bad_frames is None or archive not in bad_frames or frame in bad_frames[archive]:
                marks[number] = 1
                held.add(archive)
    return LostChunks(marks, frozenset(held)) if held else NOTHING_LOST


def sound_locations(
    tx: Transaction,
    held_by: Collection[int],
    locations: Mapping[int, ChunkLocation],
    *,
    gone: Collection[int] = (),
    may_be: Callable[[ChunkLocation], bool] = lambda _: True,
) -> Iterator[ChunkLocation]:
    """Locations in sound archives for chunks whose own archives are not relied on, or are in `gone`.

    A retired or condemned archive is read only if there is no other: a keeper may delete it meanwhile.
    `held_by` are the archives of those `locations` (by number), which are read only if one is not sound. A
    chunk in several archives that no listing has shown yet is taken from the newest: it was stored again
    because the older copies were in doubt. Only locations that `may_be` accepts are returned.
    """
    yield from (location for location in _doubtful(tx, held_by, may_be) if location.number in locations)
    spoiled = _among(tx, held_by, _NOT_RELIED_ON) | _among(
        tx, {*gone}.intersection(held_by), tuple(ArchiveState)
    )
    if not spoiled:
        return
    to_find = [location for location in locations.values() if location.archive in spoiled]
    for start in range(0, len(to_find), _BATCH):
        some = to_find[start : start + _BATCH]
        others = {
            (domain, location.id): location
            for domain, location in _others(tx, some, last_resort=True)
            if location.archive not in gone and may_be(location)
        }
        for location in some:
            other = others.get((spoiled[location.archive], location.id))
            if other is not None and other.length == location.length:
                yield other._replace(number=location.number)


def not_stored(tx: Transaction, among: Collection[int]) -> set[int]:
    """The archives among these that are in any other state than stored in their own vault."""
    return {*_among(tx, among, tuple(state for state in ArchiveState if state is not ArchiveState.STORED))}


def twins(
    tx: Transaction,
    gone: Sequence[ChunkLocation],
    sound: Callable[[Collection[int]], Collection[int]],
    *,
    may_be: Callable[[ChunkLocation], bool] = lambda _: True,
) -> Iterator[ChunkLocation]:
    """Locations of these chunks in other archives of their domains, whatever state those are in.

    Only in those of which `sound` returns the numbers: another vault may have what the job's own has not any
    more. Only locations that `may_be` accepts are returned.
    """
    for start in range(0, len(gone), _BATCH):
        some = gone[start : start + _BATCH]
        domains = _among(tx, {location.archive for location in some}, tuple(ArchiveState))
        prefixes = [chunk_prefix(location.id) for location in some]
        others = [*_lying(tx, prefixes, states=tuple(ArchiveState))]
        there = sound({location.archive for _, location in others})
        found = {(of, other.id): other for of, other in others if other.archive in there and may_be(other)}
        for location in some:
            other = found.get((domains.get(location.archive, 0), location.id))
            if other is not None and other.length == location.length:
                yield other._replace(number=location.number)


def replacements(tx: Transaction, named: AbstractSet[int]) -> set[int]:
    """Sound archives that are not `named` and hold copies of chunks from `named` ones not relied on any more.

    Those are lost, damaged, retired, condemned or deleted. A job whose catalogs name an archive needs all of
    it: if any job stored its chunks again, the catalogs must name that archive, too. One copy of each is
    enough: the newest. Chunks are queried only if there is such an archive.
    """
    spoiled = sorted(_among(tx, named, _NOT_RELIED_ON))
    found: set[int] = set()
    for start in range(0, len(spoiled), _BATCH):
        for _, rows in groupby(_copies(tx, spoiled[start : start + _BATCH]), key=itemgetter(0)):
            copies = {archive for _, archive in rows}
            if copies.isdisjoint(named) and copies.isdisjoint(found):
                found.add(max(copies))
    return found


def _copies(tx: Transaction, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Chunks of these archives, by number, and each other archive of their domain that is sound and has them.

    Retired ones only where there is no other: they go as soon as they can.
    """
    some = numerals(numbers)
    sql = f"""
    SELECT c.number, o.archive, b.state FROM chunks c JOIN archives a ON a.number = c.archive
    JOIN chunk_prefixes p ON p.prefix = c.prefix JOIN chunks o ON o.number = p.chunk AND o.id = c.id
    JOIN archives b ON b.number = o.archive
    WHERE c.archive IN ({some}) AND o.archive <> c.archive AND b.domain = a.domain
      AND b.state IN ('stored', 'unconfirmed', 'retired')
    ORDER BY c.archive, c.number"""
    for chunk, rows in groupby(raw_rows(tx, sql, ()), key=itemgetter(0)):
        found = [(archive, state != ArchiveState.RETIRED) for _, archive, state in rows]
        relied_on = any(is_relied_on for _, is_relied_on in found)
        yield from ((chunk, archive) for archive, is_relied_on in found if is_relied_on or not relied_on)


def unnamed_copies(tx: Transaction, locations: Sequence[ChunkLocation], named: Collection[int]) -> set[int]:
    """The chunks (by number) with copies in sound archives of their domain, but in none of `named`."""
    domain = _among(tx, {location.archive for location in locations}, _SPOILED)
    found: set[int] = set()
    for start in range(0, len(locations), _BATCH):
        some = locations[start : start + _BATCH]
        by_key: dict[tuple[int, bytes], set[int]] = {}
        for number, location in _others(tx, some):
            by_key.setdefault((number, location.id), set()).add(location.archive)
        for location in some:
            copies = by_key.get((domain.get(location.archive, 0), location.id), set())
            if copies and copies.isdisjoint(named):
                found.add(location.number)
    return found


def _doubtful(
    tx: Transaction, held_by: Collection[int], may_be: Callable[[ChunkLocation], bool]
) -> Iterator[ChunkLocation]:
    """Better locations for chunks of unconfirmed archives: stored ones, else the newest."""
    doubtful = _among(tx, held_by, (ArchiveState.UNCONFIRMED,))
    if not doubtful:
        return
    sql = "SELECT prefix FROM chunk_prefixes GROUP BY prefix HAVING count(*) > 1"
    prefixes = [prefix for (prefix,) in raw_rows(tx, sql, ())]
    for start in range(0, len(prefixes), _BATCH):
        best: dict[tuple[int, bytes], ChunkLocation] = {}
        worse: list[tuple[int, ChunkLocation]] = []
        for domain, location in _lying(tx, prefixes[start : start + _BATCH]):
            if may_be(location):
                best[domain, location.id] = location
            if location.archive in doubtful:
                worse.append((domain, location))
        for domain, location in worse:
            other = best.get((domain, location.id), location)
            if other.archive != location.archive and other.length == location.length:
                yield other._replace(number=location.number)


def _among(tx: Transaction, numbers: Collection[int], states: Sequence[ArchiveState]) -> dict[int, int]:
    """The archives among `numbers` that are in one of the states, with their domains."""
    ordered = sorted(numbers)
    found: dict[int, int] = {}
    for start in range(0, len(ordered), _BATCH):
        some = ordered[start : start + _BATCH]
        sql = f"""SELECT number, domain FROM archives
                  WHERE number IN ({marks(some)}) AND state IN ({marks(states)})"""
        found.update(raw_rows(tx, sql, (*some, *states)))
    return found


def _others(
    tx: Transaction, gone: Sequence[ChunkLocation], *, last_resort: bool = False
) -> Iterator[tuple[int, ChunkLocation]]:
    """Locations of these chunks in sound archives, with the domain; of several the best comes last.

    As a `last_resort` also in condemned archives, which the vault still holds.
    """
    prefixes = [chunk_prefix(location.id) for location in gone]
    return _lying(tx, prefixes, states=(*_TWINS, *((ArchiveState.CONDEMNED,) if last_resort else ())))


def _lying(
    tx: Transaction, prefixes: Sequence[int], *, states: Sequence[ArchiveState] = _TWINS
) -> Iterator[tuple[int, ChunkLocation]]:
    """Locations of chunks in archives in these states, with the domain: the newest stored one last."""
    sql = f"""
    SELECT a.domain, c.number, c.id, c.archive, c.frame, c."offset", c.length
    FROM chunk_prefixes p JOIN chunks c ON c.number = p.chunk JOIN archives a ON a.number = c.archive
    WHERE p.prefix IN ({numerals(prefixes)}) AND a.state IN ({marks(states)})
    ORDER BY a.state <> 'condemned', a.state = 'stored', c.archive"""
    for domain, *row in raw_rows(tx, sql, tuple(states)):
        yield domain, ChunkLocation._make(row)
