"""Applies the records of a chain of catalogs to the tables of a new inventory, in constant memory.

A signed record may still be absurd: by a bug, from a later version, or from an intruder who had the server's
keys. So each is checked against ranges (`record_ranges.py`). A record out of range is left out and reported,
and so are the snapshots that would contain it (`spoiled_snapshots.py`); the others stay. A delta never
changes the snapshots before it, whatever it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from backup.errors import FormatError, NewerFormatError
from backup.format import records
from backup.format.catalog import Record, unpack_u64
from backup.format.header import Header
from backup.format.keys import ChunkSecret, Recipient, RecoveryKey, Signer, domain_id_of
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.snapshots import pack_counts, pack_roots
from backup.inventory.rebuilt.building import ADDED, CHUNKS, DIRECTORY, NUMBER, REMOVED, SKIPPED, Builder
from backup.inventory.store import schema
from backup.model import ArchiveId, Generation, PackKind, VaultIdentity, VaultName
from backup.rebuilder import record_ranges
from backup.rebuilder.applying.archives import VAULT, ArchiveApplier
from backup.rebuilder.applying.spoiled_snapshots import Spoiled
from backup.rebuilder.catalogs.file import CatalogFile
from backup.rebuilder.floor import Floor
from backup.rebuilder.members import Chain, Member, NewerCatalogError, OtherNameError

_ROWS_A_BATCH: Final = 20_000
_AMENDMENTS: Final = (
    records.DroppedRecord, records.CondemnedRecord, records.ForgottenRecord, records.TakenBackRecord,
    records.RetiredRecord, records.TakenUpRecord, records.MarksRecord, records.ShrunkRecord,
    records.DumpRecord,
)  # fmt: skip
_ABSURD: Final = (FormatError, ValueError, OverflowError)


class UnusableCatalogError(FormatError):
    """A full catalog that cannot be applied; an older one may be used instead."""

    def __init__(self, member: Member, why: str) -> None:
        super().__init__(why)
        self.member = member


Suspect = Callable[[str, str, str], None]  # kind, archive id, detail


@dataclass(slots=True)
class JobState:
    """The state of one job after its chain was applied."""

    number: int
    id: bytes
    name: str = ""
    host: str = ""
    last_snapshot: int = 0
    next_snapshot: int = 1
    next_catalog: int = 1


class Applier:
    """Applies the chains of one inventory's jobs, one after the other. Use a new one for each attempt."""

    def __init__(
        self,
        builder: Builder,
        recovery_keys: Sequence[RecoveryKey],
        vault: VaultName,
        *,
        advance: Callable[[int], None],
        archive_ids: Mapping[bytes, str],
        suspect: Suspect,
        identity: VaultIdentity | None = None,
        floor: Floor | None = None,
        accepted: Mapping[ArchiveId, datetime],
        now: datetime,
    ) -> None:
        """`advance` is called with numbers of rows, `suspect` with what is left out.

        `archive_ids` are the listing's, by pack id, `identity` the vault's; `accepted`: when the vault
        accepted each catalog; of one that no list shows it is `now`.
        """
        self._floor, self._accepted, self._now = floor, accepted, now
        self._builder = builder
        self._recovery_keys = recovery_keys
        self._vault = vault
        self._advance = advance
        self._identity = identity
        self.written_into = ""  # what the vault was known by when the newest catalog was written, if told
        self._entries: list[tuple[Any, ...]] = []
        self._named: list[tuple[Member, CatalogFile, int, list[int]]] = []
        self._suspect = suspect
        self._highest = self._snapshot_number = 0  # what this catalog spoke of
        self._odd: Counter[str] = Counter()  # what this catalog holds that is left out
        self._archives = ArchiveApplier(builder, archive_ids, self._odd)
        self._owners: dict[int, records.OwnerRecord] = {}
        self._owned: set[tuple[object, ...]] = set()
        self._handlers = self._handlers_by_kind()
        self.secrets: records.Secrets | None = None
        self.recipients: dict[bytes, bytes] = {}  # all public keys that any full catalog carries, by id
        self._job = JobState(0, b"")
        self._member: Member | None = None
        self._mounts: Sequence[int] = ()
        self._spoiled = Spoiled()
        self._first, self._last = 1, record_ranges.MOST_NUMBERS  # snapshots that this catalog may speak of

    def _handlers_by_kind(self) -> Mapping[type, Callable[[Any], None]]:
        """The methods that take each kind of record."""
        return {
            records.Start: self._start,
            records.Secrets: self._secrets,
            records.VaultRecord: self._vault_record,
            records.DomainRecord: self._archives.domain,
            records.SnapshotRecord: self._snapshot,
            records.OwnerRecord: self._owner,
            records.DirectoryRecord: self._directory,
            records.EntryRecord: self._entry,
            records.ClosedRecord: self._closed,
            records.ArchiveRecord: self._archives.archive,
            records.FramesRecord: self._archives.frames,
            records.ChunksRecord: self._archives.chunks,
            **dict.fromkeys(_AMENDMENTS, self._amend),
            records.VerifiedRecord: self._archives.verified,
            records.ChainRecord: lambda _: None,
            records.MountsRecord: self._take_mounts,
        }

    def apply(self, job: JobState, chain: Chain, files: Mapping[bytes, CatalogFile]) -> None:
        """Apply a job's chain and return its state; `files` by header hash.

        `NewerCatalogError`; `UnusableCatalogError` if the full catalog is at fault.
        """
        self._job, self._mounts, self._spoiled = job, (), Spoiled()
        for member in chain.members:
            self._begin(member)
            file = files[member.header.hash]
            try:
                self._all(file.records(self._recovery_keys))
            except NewerFormatError as error:
                raise NewerCatalogError(member, self._vault) from error
            except _ABSURD as error:
                self._flush()
                if not self._is_delta:
                    raise UnusableCatalogError(member, str(error)) from error
                self._odd[f"its snapshot, and all from it on: {error}"] += 1
                self._spoiled.span(self._first, None, f"catalog {member.catalog.number} before it: {error}")
                self._highest = max(self._highest, self._first)
            self._settle_numbers()
            self._tell_of_odd(member)
            self._named.append((member, file, job.number, self._archives.names))
        self._leave_out_spoiled(chain)
        self._builder.mount_points(job.number, self._mounts)

    def _begin(self, member: Member) -> None:
        self._member = member
        self._archives.begin(self._job.number, self._accepted.get(member.archive_id, self._now))
        self._first, self._last = 1, record_ranges.MOST_NUMBERS
        if self._is_delta:
            self._first = self._job.last_snapshot + 1
            self._last = self._first + record_ranges.MOST_AHEAD
        self._highest, self._snapshot_number = self._job.last_snapshot, 0
        self._odd.clear()

    def _settle_numbers(self) -> None:
        """Note the snapshot numbers that a catalog used: the next begins above. A delta has one snapshot."""
        if self._is_delta and 0 < self._snapshot_number < self._highest:
            self._builder.forget_after(self._job.number, self._snapshot_number)
            self._spoiled.span(self._snapshot_number, None, "entries of snapshots that are still to come")
            self._highest = self._snapshot_number
        self._job.last_snapshot = max(self._job.last_snapshot, self._highest)

    @property
    def _is_delta(self) -> bool:
        return self._member is not None and self._member.catalog.generation is Generation.DELTA

    def _tell_of_odd(self, member: Member) -> None:
        if self._odd:
            told = "; ".join(f"{what} ({count})" for what, count in self._odd.most_common(5))
            self._suspect("out-of-range", member.archive_id, f"left out of it: {told}")

    def _leave_out_spoiled(self, chain: Chain) -> None:
        """Name the snapshots that hold what is out of range, and take them away."""
        for first, end, number in self._builder.end_overlaps(self._job.number):
            self._spoiled.span(first, end, f"entry {number} ends after the next of its name begins")
        known = self._builder.snapshot_ids(self._job.number)
        spoiled = self._spoiled.among(list(known))
        self._builder.forget(self._job.number, list(spoiled))
        for number, why in spoiled.items():
            which = f"snapshot {known[number][:8]} (number {number} of job {self._job.name})"
            self._suspect("out-of-range", chain.members[-1].archive_id, f"{which} is left out: {why}")

    @property
    def condemned(self) -> Mapping[bytes, tuple[bytes, int]]:
        """Condemned packs that no record describes, by id: the id of the job that says so, and when."""
        return self._archives.condemned

    @property
    def newest_header(self) -> Header:
        """The header of the newest catalog of the job whose newest snapshot was finished last."""
        last = {job: member.header for member, _, job, _ in self._named}
        return last[max(last, key=self._builder.snapshot_time)]

    def finish(self, jobs: Sequence[JobState]) -> None:
        """Record the catalogs as archives, and each job's next numbers; once after the last job."""
        first = max(self._archives.packs, default=0) + 1 + SKIPPED
        for number, (member, file, job, names) in enumerate(self._named, first):
            self._catalog(number, member, file, job, names)
        self._archives.finish()
        for state in jobs:
            self._builder.next_numbers(state.id, snapshot=state.next_snapshot, catalog=state.next_catalog)

    def _all(self, stream: Iterable[Record]) -> None:
        entry, handlers = self._entry, self._handlers
        for record in stream:
            if type(record) is records.EntryRecord:
                entry(record)
            else:
                handlers[type(record)](record)
        self._flush()

    def _flush(self) -> None:
        rows, self._entries = self._entries, []
        if not rows:
            return
        known = self._builder.directories_of(self._job.number, {row[DIRECTORY] for row in rows})
        homeless = [row for row in rows if row[DIRECTORY] not in known]
        for row in homeless:
            why = f"the directory of entry {row[NUMBER]} is not there"
            self._spoiled.entry(row[NUMBER], row[ADDED], row[REMOVED], why)
        kept = [row for row in rows if row[DIRECTORY] in known] if homeless else rows
        if self._builder.entries(kept) < len(kept):
            first = min(max(row[ADDED], self._first) for row in kept)
            self._spoiled.span(first, None, "two entries have one number or name")
        self._advance(len(rows))

    # One record each.

    def _start(self, start: records.Start) -> None:
        if self._job.name:
            return
        name, vault = start.job_name, self._vault_number()
        if not (name and record_ranges.is_text(name)) or self._builder.has_job_named(name):
            name = f"job-{start.job_id.hex()[:8]}"
            self._odd[f"a job's name that cannot be: it is {name} here"] += 1
        row = (self._job.number, start.job_id, name, vault, 1, 1, start.job_inventory, start.job_nonce, None)
        self._builder.insert(schema.jobs, [row])
        self._job.name, self._job.host = name, start.host

    def _secrets(self, secrets: records.Secrets) -> None:
        if self._is_delta:
            self._odd["keys in a delta"] += 1
            return
        signer = self._member.header.fields.signer_public if self._member else b""
        if Signer(secrets.signer_seed).public != signer:
            raise FormatError("a full catalog carries another signing key than the one it was signed with")
        self.secrets = secrets
        self.recipients.update((Recipient(recipient).id, recipient) for recipient in secrets.recipients)

    def _vault_record(self, vault: records.VaultRecord) -> None:
        if vault.name != self._vault and self._is_delta:
            self._odd["another vault's name"] += 1
        elif vault.name != self._vault:
            raise OtherNameError(vault.name, self._vault)
        elif vault.identity and record_ranges.is_text(vault.identity):
            self.written_into = vault.identity

    def _snapshot(self, one: records.SnapshotRecord) -> None:
        fault = record_ranges.snapshot_fault(one)
        if not fault and not self._first <= one.number <= self._last:
            fault = "its number"
        if not fault and self._builder.has_snapshot(one.id, self._job.number, one.number):
            fault = "its id"
        if self._first <= one.number <= self._last:
            self._highest = max(self._highest, one.number)
            self._snapshot_number = one.number
        if fault:
            shown = one.id[:8] if record_ranges.is_text(one.id[:8]) else "of no id"
            self._odd[f"snapshot {shown} (number {one.number}): {fault} is out of range"] += 1
            return
        values = (one.started_at, one.finished_at, one.host)
        packed = msgspec.msgpack.encode(one.sources), msgspec.msgpack.encode(one.problems)
        first = (one.id, self._job.number, one.number, None, *values, *packed, one.files, one.bytes)
        row = (*first, *(None,) * 4, pack_counts(one.counts), None, pack_roots(one.roots))  # no marks yet
        self._builder.insert(schema.snapshots, [row])

    def _owner(self, owner: records.OwnerRecord) -> None:
        values = msgspec.structs.astuple(owner)
        if self._owners.get(owner.number) == owner:
            return
        if record_ranges.owner_fault(owner) or owner.number in self._owners or values[1:] in self._owned:
            self._odd["an owner"] += 1
            return
        self._owners[owner.number] = owner
        self._owned.add(values[1:])
        self._builder.insert_new(schema.owners, [values])

    def _directory(self, directory: records.DirectoryRecord) -> None:
        if record_ranges.directory_fault(directory):
            self._odd["a directory's path"] += 1
        else:
            self._builder.directory(directory.number, self._job.number, directory.path)

    def _entry(self, entry: records.EntryRecord) -> None:
        fault = record_ranges.entry_fault(entry)
        added, removed = entry.added_in, entry.removed_in
        if not fault and entry.owner not in self._owners:
            fault = "its owner"
        if not fault and not self._first <= added <= self._last:
            fault = "its snapshot"
        if not fault and not (removed is None or added < removed <= self._last):
            fault = "its end"
        if fault:
            self._leave_out(entry, fault)
            return
        self._highest = max(self._highest, added, removed or 0)
        row = msgspec.structs.astuple(entry)
        self._entries.append(row if entry.content_id else (*row[:CHUNKS], None, *row[CHUNKS + 1 :]))
        if len(self._entries) >= _ROWS_A_BATCH:
            self._flush()

    def _leave_out(self, entry: records.EntryRecord, fault: str) -> None:
        """An entry that is out of range spoils the snapshots that would hold it, none of before."""
        within = self._first <= entry.added_in <= self._last
        first = entry.added_in if within or not self._is_delta else self._first
        why = f"{fault} is out of range, of entry {entry.number}"
        end = entry.removed_in if entry.removed_in is not None and entry.removed_in > first else None
        self._spoiled.entry(entry.number, first, end, why)

    def _closed(self, closed: records.ClosedRecord) -> None:
        self._flush()
        numbers = unpack_u64(closed.entries)
        if not self._first <= closed.removed_in <= self._last:
            self._spoiled.span(self._first, None, "entries end in a snapshot that is out of range")
            return
        self._highest = max(self._highest, closed.removed_in)
        self._spoiled.closed(numbers, closed.removed_in)
        self._builder.close_entries(self._job.number, numbers, closed.removed_in)

    def _amend(self, record: Record) -> None:
        """Marks of snapshots and archives, as a run that saved nothing changed them."""
        self._flush()
        if fault := record_ranges.amendment_fault(record):
            self._odd[fault] += 1
            return
        timed = records.ForgottenRecord, records.CondemnedRecord
        if isinstance(record, timed) and not record_ranges.is_time(record.at):
            self._odd["a time of marks"] += 1
            record = msgspec.structs.replace(record, at=0)
        if self._floor is not None and self._member is not None:
            held = self._floor.amended(record, self._accepted.get(self._member.archive_id))
            if held is None:
                return
            record = held
        self._archives.note_condemned(record, self._job.id)
        self._builder.amend(self._job.number, record, now=self._archives.accepted_at)

    def _take_mounts(self, one: records.MountsRecord) -> None:
        self._mounts = unpack_u64(one.entries)

    # The catalogs themselves.

    def _catalog(
        self, number: int, member: Member, file: CatalogFile, job: int, names: Sequence[int]
    ) -> None:
        recipients = b"".join(sorted(stanza.recipient_id for stanza in member.header.stanzas))
        domain = self._builder.domain_of(recipients) or self._new_domain(recipients)
        place, fields = member.catalog, member.header.fields
        state = ArchiveState.UNCONFIRMED.value
        written = self._builder.snapshot_time(job)
        row = (
            *(number, domain, None, int(PackKind.CATALOG), state, fields.pack_id, member.header.raw),
            *(file.size, file.tree_hash, member.archive_id, written, written, None, None),
        )
        self._builder.insert(schema.archives, [row])
        self._builder.frames(number, file.frames(self._recovery_keys))
        parent = place.parent_pack_id if any(place.parent_pack_id) else None
        self._builder.insert(schema.catalogs, [(number, job, place.number, int(place.generation), parent)])
        self._builder.insert(schema.catalog_archives, [(number, name) for name in dict.fromkeys(names)])

    def _new_domain(self, recipients: bytes) -> int:
        """Of a job that stored nothing but catalogs."""
        if self.secrets is None:
            raise FormatError("no full catalog carries the inventory's keys")
        number = self._builder.largest(schema.domains) + 1
        ids = [recipients[start : start + 16] for start in range(0, len(recipients), 16)]
        identity = domain_id_of(self._vault, ids, ChunkSecret(self.secrets.chunk_secret))
        self._builder.insert(schema.domains, [(number, identity, self._vault_number(), recipients, 0)])
        return number

    def _vault_number(self) -> int:
        self._builder.insert_new(schema.vaults, [(VAULT, self._vault, self._identity, None)])
        return VAULT
