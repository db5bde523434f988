"""Checks the inventory's invariants: no vault is asked, nothing is changed, memory stays small.

The database checks rows by `inventory/store/invariants.py`. Here: each version's content id follows from its
chunks, these lie in stored archives, and each job's catalogs make a whole chain that names all that its
entries need.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from backup.checker.affected import affected_by
from backup.checker.report import CheckFinding, CheckReport, Invariants
from backup.errors import FormatError, StateDeniedError
from backup.format.catalog import decode_extra
from backup.format.holes import Layout
from backup.format.naming import content_id
from backup.format.rows import unpack_u32
from backup.inventory.content import archives, entries, packed, snapshots
from backup.inventory.content.archives import SOUND, Archive, ArchiveState
from backup.inventory.content.entries import ContentRow
from backup.inventory.content.lost import lost_chunks, sound_locations, unnamed_copies
from backup.inventory.content.need import is_kept, kept_snapshots
from backup.inventory.content.packed import ChunkLocation
from backup.inventory.records import runs
from backup.inventory.records.readings import bad_frames
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.invariants import INVARIANTS, Violation, database_faults, violations
from backup.inventory.store.states import StepStage
from backup.model import Generation, PackId
from backup.protocols import Clock, Progress, phase

NUMBERS_A_BATCH = 20_000
_EXAMPLES = 5
_SPOILED = {ArchiveState.LOST, ArchiveState.DAMAGED}
_GOING = {ArchiveState.DELETING, ArchiveState.DELETED}
_OF_USE = {*SOUND, ArchiveState.CONDEMNED, *_SPOILED}


def check_whole(inventory: Inventory, clock: Clock, progress: Progress) -> CheckReport:
    """Check pages, indexes and references of a database, not what its rows mean; records nothing."""
    began = clock.now()
    with phase(progress, "Checking the file"), inventory.reading() as tx:
        found = list(database_faults(tx))
    seconds = (clock.now() - began).total_seconds()
    return CheckReport(StepStage.DONE, None, findings=tuple(map(_finding, found)), seconds=seconds)


def check_invariants(
    inventory: Inventory, content_key: bytes, clock: Clock, progress: Progress
) -> CheckReport:
    """Check all invariants in one view of the inventory; recorded as a run unless the database is damaged."""
    began = clock.now()
    with phase(progress, "Checking the inventory", counts="version"), inventory.reading() as tx:
        found = list(database_faults(tx))
        is_sound = not found
        found += [
            violation for invariant in INVARIANTS if (violation := violations(tx, invariant)) is not None
        ]
        contents = _ContentPass(tx, content_key, progress)
        contents.check()
        found += contents.violations()
        found += _chains(tx, inventory, contents)
        affected = affected_by(tx, lost_chunks(tx, bad_frames=bad_frames(tx)), None)
    now = clock.now()
    report = CheckReport(
        StepStage.DONE,
        None,
        laws=Invariants(len(INVARIANTS) + len(_NAMES) + 3, contents.entries, contents.chunks),
        findings=tuple(map(_finding, found)),
        affected=affected,
        seconds=(now - began).total_seconds(),
    )
    if is_sound:
        with suppress(StateDeniedError), inventory.writing() as tx:  # a copy can be looked at, no more
            run = runs.open_check(tx, began)
            runs.finish_run(tx, run.number, report.outcome, report.summary(), now)
    return report


def _finding(violation: Violation) -> CheckFinding:
    shown = ", ".join(violation.examples)
    more = ", …" if violation.count > len(violation.examples) else ""
    return CheckFinding(
        "law", violation.invariant, f"{violation.text}: not so {violation.count} times ({shown}{more})"
    )


_NAMES = {
    "chunk-lists": "each version's chunks are known",
    "content-ids": "a version's content id follows from its chunks",
    "stored": "a version's chunks lie in archives that were stored, none of which is deleted if it is kept",
}


@dataclass(slots=True)
class _Tally:
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, what: object) -> None:
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(str(what))


class _ContentPass:
    """One pass over all versions of files, so many chunk numbers at a time."""

    def __init__(self, tx: Transaction, content_key: bytes, progress: Progress) -> None:
        self._tx = tx
        self._key = content_key
        self._progress = progress
        self._states = archives.states(tx)
        self._kept = kept_snapshots(tx)
        self._tallies: dict[str, _Tally] = defaultdict(_Tally)
        self._named: dict[int, set[int]] = {}  # job: archives
        self.needed: dict[int, set[int]] = defaultdict(set)  # job: archives
        self.unnamed: set[int] = set()  # jobs that need what was stored again, and do not name it
        self.entries = self.chunks = 0

    def check(self) -> None:
        """Check all invariants."""
        batch: list[tuple[ContentRow, list[int]]] = []
        numbers = 0
        for row in entries.content_rows(self._tx):
            try:
                wanted = unpack_u32(row.chunks)
            except FormatError:
                self._tallies["chunk-lists"].add(row.number)
                continue
            batch.append((row, wanted))
            numbers += len(wanted) + 1
            if numbers >= NUMBERS_A_BATCH:
                self._check(batch)
                batch, numbers = [], 0
        self._check(batch)

    def _check(self, batch: Sequence[tuple[ContentRow, list[int]]]) -> None:
        wanted = sorted({number for _, numbers in batch for number in numbers})
        places = {place.number: place for place in packed.chunk_locations(self._tx, wanted)}
        self._check_spoiled(batch, places)
        found = self._found_elsewhere(places)
        for row, numbers in batch:
            broken = self._violation_of(row, [places.get(number) for number in numbers], found)
            if broken:
                self._tallies[broken].add(row.number)
        self.entries += len(batch)
        self.chunks += len(places)
        self._progress.advance(files=len(batch))

    def _check_spoiled(
        self, batch: Sequence[tuple[ContentRow, list[int]]], places: Mapping[int, ChunkLocation]
    ) -> None:
        """Find jobs whose catalogs do not name the sound copies of chunks in lost or damaged archives."""
        spoiled = {number for number, place in places.items() if self._states.get(place.archive) in _SPOILED}
        if not spoiled:
            return
        needs: dict[int, set[int]] = defaultdict(set)
        for row, numbers in batch:
            needs[row.job].update(spoiled.intersection(numbers))
        for job, needed in needs.items():
            if job not in self._named:
                self._named[job] = archives.named_archives(self._tx, job, also_spoiled=True)
            if unnamed_copies(self._tx, [places[number] for number in sorted(needed)], self._named[job]):
                self.unnamed.add(job)

    def _found_elsewhere(self, places: Mapping[int, ChunkLocation]) -> set[int]:
        """The chunks of deleted archives that lie in another one, too."""
        gone = {number: place for number, place in places.items() if self._states[place.archive] in _GOING}
        held_by = {place.archive for place in gone.values()}
        return {location.number for location in sound_locations(self._tx, held_by, gone)} if gone else set()

    def _is_of_use(self, row: ContentRow, place: ChunkLocation, elsewhere: Collection[int]) -> bool:
        """Whether a chunk was stored, and is not deleted but for snapshots that are forgotten."""
        state = self._states.get(place.archive)
        if state not in _GOING or place.number in elsewhere:
            return state in _OF_USE or state in _GOING
        return not is_kept(self._kept, row.job, row.added_in, row.removed_in)

    def _violation_of(
        self, row: ContentRow, found: Sequence[ChunkLocation | None], elsewhere: Collection[int]
    ) -> str:
        places = [place for place in found if place is not None]
        if len(places) != len(found):
            return "chunk-lists"
        self.needed[row.job].update(place.archive for place in places)
        if not all(self._is_of_use(row, place, elsewhere) for place in places):
            return "stored"
        return "" if self._is_content(row, places) else "content-ids"

    def _is_content(self, row: ContentRow, places: Sequence[ChunkLocation]) -> bool:
        try:
            extra = decode_extra(row.extra)
            holes = extra.holes if extra else b""
            size = Layout(holes, row.size).data_size if holes else row.size
        except (FormatError, ValueError):
            return False
        ids, lengths = [place.id for place in places], [place.length for place in places]
        return sum(lengths) == size and content_id(self._key, ids, lengths, holes) == row.content_id

    def violations(self) -> Iterator[Violation]:
        """The invariants that do not hold."""
        for name, tally in self._tallies.items():
            yield Violation(name, _NAMES[name], tally.count, tuple(tally.examples))


# Catalogs.


def _chains(tx: Transaction, inventory: Inventory, contents: _ContentPass) -> Iterator[Violation]:
    """A rebuild needs each job's newest full catalog, all deltas after it, and what they name."""
    jobs = {
        snapshot.job_number: snapshot.job for snapshot in snapshots.list_snapshots(tx, also_forgotten=True)
    }
    broken, unnamed = _Tally(), _Tally()
    for job, name in jobs.items():
        stored = archives.stored_catalogs(tx, job, inventory.id)
        spoiled = archives.spoiled_catalogs(tx, job, inventory.id)
        if not _is_whole(stored, [archive for archive, _ in spoiled]):
            broken.add(name)
        is_named = contents.needed[job] <= archives.named_archives(tx, job, also_spoiled=True)
        if not is_named or job in contents.unnamed:
            unnamed.add(name)
    if broken.count:
        text = "a job's newest full catalog and the deltas after it make a chain"
        yield Violation("catalogs", text, broken.count, tuple(broken.examples))
    if unnamed.count:
        text = "a job's catalogs name every archive that its entries need, or what took its place"
        yield Violation("named", text, unnamed.count, tuple(unnamed.examples))


def _is_whole(stored: Collection[tuple[Archive, PackId | None]], spoiled: Iterable[Archive]) -> bool:
    ordered = sorted(stored, key=lambda catalog: catalog[0].label.number)
    fulls = [catalog for catalog in ordered if catalog[0].label.generation is Generation.FULL]
    since = fulls[-1][0].label.number if fulls else 0
    parent = fulls[-1][1] or fulls[-1][0].label.pack_id if fulls else None  # a job's first has no parent
    deltas = [
        catalog
        for catalog in ordered
        if catalog[0].label.generation is Generation.DELTA and catalog[0].label.number > since
    ]
    for archive, its_parent in deltas:
        if its_parent != parent:
            return False
        parent = archive.label.pack_id
    return bool(fulls or deltas) and not any(archive.label.number > since for archive in spoiled)
