"""A job's catalogs in a vault with copies: what it has of the job, as of the newest snapshot that is copied.

The first is full, and a delta in one, as a job's first always is. Then each copy stores a delta with its new
snapshots; where one of them is older than what the vault has, a full one after it holds that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

from msgspec import Struct

from backup.catalogs import catalogs
from backup.catalogs.sending import CatalogSender
from backup.format import catalog as records
from backup.format.catalog import Record
from backup.format.header import NO_FEATURE, CatalogFeature
from backup.inventory.content import archives, copied, entries, entry_versions, mounts
from backup.inventory.content.archives import Archive, ArchiveState, CatalogPosition
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.dumps import dump_records
from backup.inventory.content.entries import EntryRow
from backup.inventory.content.need import archives_with, chunks_held
from backup.inventory.content.snapshots import list_snapshots
from backup.inventory.records import amendments
from backup.inventory.records.copied_amendments import records_there
from backup.inventory.store.connections import Transaction
from backup.model import Generation

_CHUNKS = EntryRow._fields.index("chunks")
_ADDED, _REMOVED = EntryRow._fields.index("added_in"), EntryRow._fields.index("removed_in")
_NUMBERS_A_RECORD = 100_000


class CopiedState(Struct, frozen=True):
    """The snapshots of a job that a vault has, or gets, by number, rising; those up to `before` it has.

    `is_left`: the newest that its catalogs had is gone. They say nothing of the ends of what only that had:
    a full one has to come before another delta with snapshots.
    """

    numbers: tuple[int, ...]
    before: int = 0
    is_left: bool = False

    @classmethod
    def recorded(cls, tx: Transaction, vault: int, job: int) -> Self:
        """The state that the job's catalogs there have."""
        there = copied.kept_there(tx, vault, job)
        numbers = tuple(number for number, state in there.items() if state in copied.TOLD)
        newest = max(numbers, default=0)
        gone = max((number for number, state in there.items() if state is KeptThere.DROPPED), default=0)
        return cls(numbers, newest, gone > newest)

    @property
    def newest(self) -> int:
        """The newest of them; 0 if there is none."""
        return max(self.numbers, default=0)

    def is_newer(self, number: int) -> bool:
        """Whether a delta can say that this snapshot is there, too."""
        return number > self.newest and not self.is_left

    def entries(self, rows: Iterable[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
        """The versions that one of them holds, as records; what ended after the newest is live."""
        for row in rows:
            added, removed = row[_ADDED], row[_REMOVED]
            if removed is not None and removed > self.newest:
                removed = None
            first = bisect_left(self.numbers, added)
            if first < len(self.numbers) and (removed is None or self.numbers[first] < removed):
                chunks = row[_CHUNKS] or b""
                yield (records.ENTRY, *row[:_CHUNKS], chunks, *row[_CHUNKS + 1 : _ADDED], added, removed)


class CopySender(CatalogSender):
    """Writes the catalogs of one job in a vault with copies."""

    def first(self, state: CopiedState, names: set[int]) -> Archive:
        """Store the job's first catalog there, which names these archives."""
        return self._full(state, names)

    def delta_of_copy(self, state: CopiedState, names: set[int], amendment: Sequence[Record] = ()) -> Archive:
        """Store a delta with the snapshots after `state.before`; `names` are the archives that they need."""
        return self._delta(state, names, amendment)

    def delta_of_amendment(self, amendment: Sequence[Record]) -> Archive:
        """Store a delta that forgets, condemns or takes up what the vault has."""
        at = self._at
        with at.context.inventory.reading() as tx:
            state = CopiedState.recorded(tx, at.vault, at.row.number)
        return self._delta(state, set(), amendment)

    def full(self, new: Sequence[int] = ()) -> Archive:
        """Store a full catalog of what the vault has of the job, and of these snapshots."""
        at, where = self._at, self._at.row.number
        with at.context.inventory.reading() as tx:
            had = CopiedState.recorded(tx, at.vault, where).numbers
            state = CopiedState(tuple(sorted({*had, *new})))
            named = archives.named_archives(tx, where, vault=at.vault, also_spoiled=True)
            names = _described(tx, at.vault, where, state.numbers, named)
        return self._full(state, names)

    def _delta(self, state: CopiedState, names: set[int], amendment: Sequence[Record]) -> Archive:
        at, inventory = self._at, self._at.context.inventory
        number = self._allot()
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, at.row.number, at.vault, inventory)
            names = names - archives.named_archives(tx, at.row.number, vault=at.vault)
            position = catalogs.position_after(chain, at.row, number, Generation.DELTA, names)
            new = [number for number in state.numbers if number > state.before]
            told = [*self._snapshots(tx, new, marked=state.numbers if new else ()), *amendment]
            stream = self._stream(tx, position, chain, names, state, told)
            written = self._write(stream, position, chain, _features(told))
        return self._send(written)

    def _full(self, state: CopiedState, names: set[int]) -> Archive:
        at, inventory = self._at, self._at.context.inventory
        number = self._allot()
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, at.row.number, at.vault, inventory)
            position = catalogs.position_after(chain, at.row, number, Generation.FULL, names)
            told = self._snapshots(tx, state.numbers, marked=state.numbers)
            told += records_there(tx, at.row.number, at.vault)
            stream = self._stream(tx, position, chain, names, state, told)
            written = self._write(stream, position, chain, _features(told))
        return self._send(written)

    def _snapshots(self, tx: Transaction, numbers: Sequence[int], *, marked: Collection[int]) -> list[Record]:
        """These snapshots, and tags and pins of those `marked`: they may be newer than what was told of them.

        What is forgotten at the source is not forgotten here.
        """
        every = list_snapshots(tx, job=self._at.row.name, also_forgotten=True, also_alone=True)
        some = [snapshot for snapshot in every if snapshot.number in numbers]
        found: list[Record] = list(map(amendments.record_of, some))
        told = [snapshot for snapshot in every if snapshot.number in marked]
        return found + [marks for snapshot in told if (marks := amendments.marks_of(snapshot)) is not None]

    def _stream(
        self,
        tx: Transaction,
        position: CatalogPosition,
        chain: catalogs.Chain,
        names: Collection[int],
        state: CopiedState,
        told: Sequence[Record],
    ) -> Iterator[Record | tuple[Any, ...]]:
        """The records of a catalog: a full one has all entries, a delta what is new since `state.before`."""
        at, job, generation = self._at, self._at.row.number, position.generation
        yield from catalogs.start_records(at, position.number, generation, chain)
        yield from catalogs.archive_records(tx, at.context.inventory, sorted(names), copied_to=at.vault)
        is_full = generation is Generation.FULL
        if is_full or state.newest > state.before:
            yield from _owners_and_directories(tx, job)
            if is_full:
                yield from state.entries(entries.all_entries(tx, job))
            else:
                yield from state.entries(entry_versions.entries_since(tx, job, state.before))
                yield from self._ends(tx, state)
            yield records.MountsRecord(records.pack_u64(mounts.mount_points(tx, job)))
            yield from dump_records(tx, job)
        yield from told
        yield chain.record()

    def _ends(self, tx: Transaction, state: CopiedState) -> Iterator[Record]:
        """The ends of versions that the vault has, by the snapshot in which each is gone."""
        rows = entry_versions.ended_since(tx, self._at.row.number, state.before, state.newest)
        for removed_in, ended in groupby(rows, key=itemgetter(1)):
            numbers = [number for number, _ in ended]
            for start in range(0, len(numbers), _NUMBERS_A_RECORD):
                some = records.pack_u64(numbers[start : start + _NUMBERS_A_RECORD])
                yield records.ClosedRecord(some, removed_in)


def _described(
    tx: Transaction, vault: int, job: int, numbers: Sequence[int], named: Collection[int]
) -> set[int]:
    """Of the archives that were named those that the vault has, and all that entries of snapshots name.

    The latter may be gone there: their chunks lie in others, too, and are found by their ids.
    """
    there = {copy.archive: copy.state for copy in copied.list_copies(tx, vault)}
    held = archives_with(tx, chunks_held(tx, {job: numbers}))
    gone = ArchiveState.DELETED, ArchiveState.LOST
    return {archive for archive, state in there.items() if archive in named and state not in gone} | {
        archive for archive, _ in held if archive in there
    }


def _features(told: Sequence[Record]) -> CatalogFeature:
    return CatalogFeature.MARKS if amendments.needs_marks(told) else NO_FEATURE


def _owners_and_directories(tx: Transaction, job: int) -> Iterator[Record]:
    """All owners, and all directories of a job: what entries name by number."""
    for number, owner in entries.owners_by_number(tx).items():
        yield records.OwnerRecord(number, *owner)
    for number, path in entries.all_directories(tx, job):
        yield records.DirectoryRecord(number, path)
