"""Applies records of domains, archives and their content to tables; values out of range are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Final

from backup.errors import FormatError
from backup.format import records
from backup.format.catalog import unpack_chunks, unpack_frames, unpack_u32
from backup.inventory.content.archives import ArchiveState
from backup.inventory.rebuilt.building import Builder
from backup.inventory.store import schema
from backup.inventory.store.times import micros
from backup.rebuilder import record_ranges

VAULT: Final = 1
"""The number of the only vault that a rebuilt inventory has."""

_STATES: Final = frozenset(map(str, ArchiveState))
_MOST_VERIFIED: Final = 1_000_000


class ArchiveApplier:
    """The part of an `Applier` that deals with archives; `begin` it with each catalog."""

    def __init__(self, builder: Builder, archive_ids: Mapping[bytes, str], odd: Counter[str]) -> None:
        """`archive_ids` are the listing's, by pack id; `odd` counts what was left out."""
        self._builder = builder
        self._archive_ids = archive_ids
        self._odd = odd
        self.packs: dict[int, bytes] = {}  # archive number: pack id
        self._sizes: dict[bytes, tuple[int, int]] = {}  # pack id: archive number and size
        self._condemned: list[int] = []  # archives that a catalog says are condemned, by whatever job
        self._verified: dict[tuple[bytes, bytes, int, int], tuple[records.VerifiedRecord, int]] = {}
        self.names: list[int] = []  # the archives that this catalog names
        self._pack_ids: set[bytes] = set()
        self._job = 0
        self._domains: dict[int, records.DomainRecord] = {}  # by the number that this job's catalogs give
        self._domain_numbers: dict[bytes, int] = {}  # by id: the number here
        self._taken: dict[int, int] = {}  # archives that this catalog brought, with their sizes
        self.condemned: dict[bytes, tuple[bytes, int]] = {}  # of which no record tells: older catalogs
        self._skipping: set[int] = set()  # brought by another catalog already, or left out
        self.accepted_at = datetime.fromtimestamp(0, UTC)  # when the vault took this catalog

    def knows(self, pack_id: bytes) -> bool:
        """Whether a record described that pack."""
        return pack_id in self._pack_ids

    def note_condemned(self, record: records.Record, job_id: bytes) -> None:
        """Remember condemned packs that no record describes, by id: the job that says so, and when."""
        if isinstance(record, records.CondemnedRecord):
            unknown = (pack_id for pack_id in record.packs if not self.knows(pack_id))
            self.condemned = dict.fromkeys(unknown, (job_id, record.at)) | self.condemned
        elif isinstance(record, records.TakenUpRecord):
            for pack in record.packs:
                self.condemned.pop(pack, None)

    def begin(self, job: int, accepted_at: datetime) -> None:
        """Begin the next catalog, of that job, which the vault accepted at that time.

        The catalogs of another job may number the domains otherwise: those of a vault with copies are from
        before a rebuild until something new of their job is copied.
        """
        if job != self._job:
            self._job, self._domains = job, {}
        self.accepted_at = accepted_at
        self.names, self._skipping, self._taken = [], set(), {}

    def domain(self, domain: records.DomainRecord) -> None:
        """Apply a record of a dedup domain."""
        if self._domains.get(domain.number) == domain:
            return
        in_range = 1 <= domain.number < record_ranges.MOST_SMALL_NUMBERS
        is_twice = any(known.id == domain.id for known in self._domains.values())
        if not in_range or domain.number in self._domains or is_twice:
            self._odd["a domain's number"] += 1
            return
        self._domains[domain.number] = domain
        if domain.id in self._domain_numbers:
            return
        given = self._domain_numbers.values()
        free = (number for number in count(1) if number not in given)
        number = next(free) if domain.number in given else domain.number
        self._domain_numbers[domain.id] = number
        row = (number, domain.id, VAULT, b"".join(domain.recipients), 0)
        self._builder.insert_new(schema.domains, [row])

    def archive(self, record: records.ArchiveRecord) -> None:
        """Apply a record of an archive; its state here is what can be known of it."""
        known = self.packs.get(record.number)
        is_other = record.pack_id in self._pack_ids if known is None else known != record.pack_id
        fault = record_ranges.archive_fault(record) or ("its pack" if is_other else "")
        if fault or record.domain not in self._domains:
            self._odd[f"an archive: {fault or 'its domain'}"] += 1
            self._skipping.add(record.number)
            return
        self.names.append(record.number)
        if known is not None:
            if self._was_sent_again(record):
                self._taken[record.number] = record.size
            else:
                self._skipping.add(record.number)
            return
        self.packs[record.number] = record.pack_id
        self._pack_ids.add(record.pack_id)
        self._taken[record.number] = record.size
        self._sizes[record.pack_id] = (record.number, record.size)
        archive_id = record.archive_id or self._archive_ids.get(record.pack_id) or None
        # A state of a later version: whatever it means, good to restore from, and nothing is built upon it.
        state = ArchiveState(record.state) if record.state in _STATES else ArchiveState.CONDEMNED
        # The catalog does not tell when it was taken up: not later than it was written.
        taken_up_at = micros(self.accepted_at) if state is ArchiveState.UNCONFIRMED else None
        if state in {ArchiveState.STORED, ArchiveState.SUBMITTED}:
            state = ArchiveState.UNCONFIRMED if archive_id else ArchiveState.LOST
        elif record.state == ArchiveState.CONDEMNED:
            self._condemned.append(record.number)
        domain = self._domain_numbers[self._domains[record.domain].id]
        place = (record.number, domain, None, record.kind, str(state), record.pack_id, record.header)
        row = (*place, record.size, record.tree_hash, archive_id, record.stored_at, record.stored_at)
        self._builder.insert(schema.archives, [(*row, taken_up_at, record.version or None)])

    def _was_sent_again(self, record: records.ArchiveRecord) -> bool:
        """Whether a pack lies where this record says, and not where one before did; then that is recorded.

        Copies that their vault had lost are sent again.
        """
        is_there = record.state in {ArchiveState.STORED, ArchiveState.UNCONFIRMED}
        archive_id = record.archive_id
        if not is_there or not archive_id or self._archive_ids.get(record.pack_id) != archive_id:
            return False
        return self._builder.sent_again(record.number, archive_id, record.stored_at, record.version)

    def _of_archive(self, number: int) -> int | None:
        """The size of the archive that a record is of; None if there is nothing to take."""
        if number in self._taken:
            return self._taken[number]
        if number not in self._skipping:
            self._odd["what lies in an archive that is not there"] += 1
        return None

    def _unusable(self, archive: int) -> None:
        self._odd["what lies in an archive"] += 1
        self._builder.lose_archive(archive)
        self._skipping.add(archive)
        del self._taken[archive]

    def verified(self, record: records.VerifiedRecord) -> None:
        """Apply what a check has read of an archive; every job's catalogs may have such a record."""
        if record.pack not in self._sizes:
            return
        number, size = self._sizes[record.pack]
        if record_ranges.verified_fault(record, size) or len(self._verified) >= _MOST_VERIFIED:
            self._odd["what a check has read"] += 1
            return
        self._verified[record.pack, record.pieces, record.grade, record.at] = record, number

    def finish(self) -> None:
        """Record what checks have read, and which archives no job condemns now; once after the last job."""
        self._builder.readings(list(self._verified.values()))
        self._builder.take_up(self._condemned, self.accepted_at)

    def frames(self, frames: records.FramesRecord) -> None:
        """Apply a record of an archive's frames."""
        size = self._of_archive(frames.archive)
        if size is None:
            return
        try:
            rows = unpack_frames(frames.rows)
        except FormatError:
            rows = []
        if rows and all(row.offset + row.sealed_length <= size for row in rows):
            self._builder.frames(frames.archive, rows)
        else:
            self._unusable(frames.archive)

    def chunks(self, chunks: records.ChunksRecord) -> None:
        """Apply a record of an archive's chunks."""
        if self._of_archive(chunks.archive) is None:
            return
        try:
            numbers, rows = unpack_u32(chunks.numbers), unpack_chunks(chunks.rows)
        except FormatError:
            numbers, rows = [], []
        if numbers and len(numbers) == len(rows) and max(numbers) < record_ranges.MOST_CHUNKS:
            self._builder.chunks(chunks.archive, numbers, rows)
        else:
            self._unusable(chunks.archive)
