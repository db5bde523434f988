"""Records of a chain of catalogs into the tables of an inventory that is being built, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from backup.checker.chain import Chain, Member
from backup.checker.opened import CatalogFile
from backup.errors import ConfigError, FormatError
from backup.format import records
from backup.format.catalog import Record, unpack_chunks, unpack_frames, unpack_u32, unpack_u64
from backup.format.header import Header
from backup.format.keys import ChunkSecret, Recipient, RecoveryKey, Signer, domain_id_of
from backup.inventory import schema
from backup.inventory.archives import ArchiveState
from backup.inventory.building import Builder
from backup.model import PackKind, VaultIdentity, VaultName

_ROWS_A_BATCH: Final = 20_000


@dataclass(slots=True)
class JobState:
    """One job as its chain has it, once it was applied."""

    number: int
    id: bytes
    name: str = ""
    host: str = ""
    last_snapshot: int = 0
    next_snapshot: int = 1
    next_catalog: int = 1


class Applier:
    """Applies the chains of one inventory's jobs, one after the other. Use a new one for each building."""

    def __init__(
        self,
        builder: Builder,
        recovery_keys: Sequence[RecoveryKey],
        vault: VaultName,
        *,
        advance: Callable[[int], None],
        archive_ids: Mapping[bytes, str],
        identity: VaultIdentity | None = None,
    ) -> None:
        """`advance` is told of rows; `archive_ids` are the listing's, by pack id, `identity` the vault's."""
        self._builder = builder
        self._recovery_keys = recovery_keys
        self._vault = vault
        self._advance = advance
        self._archive_ids = archive_ids
        self._identity = identity
        self.written_into = ""  # what the vault was known by when the newest catalog was written, if told
        self._packs: dict[int, bytes] = {}  # archive number: pack id
        self._entries: list[tuple[Any, ...]] = []
        self._named: list[tuple[Member, CatalogFile, int, list[int]]] = []
        self._skipping: set[int] = set()  # archives that another job's catalogs brought already
        self._handlers: dict[type, Callable[[Any], None]] = {
            records.Start: self._start,
            records.Secrets: self._secrets,
            records.VaultRecord: self._vault_record,
            records.DomainRecord: self._domain,
            records.SnapshotRecord: self._snapshot,
            records.OwnerRecord: self._owner,
            records.DirectoryRecord: self._directory,
            records.EntryRecord: self._entry,
            records.ClosedRecord: self._closed,
            records.ArchiveRecord: self._archive,
            records.FramesRecord: self._frames,
            records.ChunksRecord: self._chunks,
            records.ForgottenRecord: self._forgotten,
            records.CondemnedRecord: self._condemned,
            records.ChainRecord: lambda _: None,
            records.MountsRecord: self._take_mounts,
        }
        self.secrets: records.Secrets | None = None
        self.recipients: dict[bytes, bytes] = {}  # all public keys that any full catalog carries, by id
        self._job = JobState(0, b"")
        self._member: Member | None = None
        self._names: list[int] = []
        self._mounts: Sequence[int] = ()

    def apply(self, job: JobState, chain: Chain, files: Mapping[bytes, CatalogFile]) -> None:
        """A job's chain; `files` by header hash. `FormatError` when a catalog is not what it should be."""
        self._job, self._mounts = job, ()
        for member in chain.members:
            self._member, self._names, self._skipping = member, [], set()
            file = files[member.header.hash]
            self._all(file.records(self._recovery_keys))
            self._named.append((member, file, job.number, self._names))
        self._builder.mount_points(job.number, self._mounts)

    @property
    def newest_header(self) -> Header:
        """Of the newest catalog of the job whose newest snapshot was finished last."""
        last = {job: member.header for member, _, job, _ in self._named}
        return last[max(last, key=self._builder.snapshot_time)]

    def finish(self, jobs: Sequence[JobState]) -> None:
        """The catalogs themselves as archives, and each job's next numbers; once after the last job."""
        first = max(self._packs, default=0) + 1
        for number, (member, file, job, names) in enumerate(self._named, first):
            self._catalog(number, member, file, job, names)
        for one in jobs:
            self._builder.next_numbers(one.id, snapshot=one.next_snapshot, catalog=one.next_catalog)

    def _all(self, stream: Iterable[Record]) -> None:
        entry, handlers = self._entry, self._handlers
        for record in stream:
            if type(record) is records.EntryRecord:
                entry(record)
            else:
                handlers[type(record)](record)
        self._flush()

    def _flush(self) -> None:
        if self._entries:
            self._builder.entries(self._entries)
            self._advance(len(self._entries))
            self._entries = []

    # One record each.

    def _start(self, start: records.Start) -> None:
        if not self._job.name:
            vault = self._vault_number()
            self._builder.insert(schema.jobs, [(self._job.number, start.job_id, start.job_name, vault, 1, 1)])
        self._job.name, self._job.host = start.job_name, start.host

    def _secrets(self, secrets: records.Secrets) -> None:
        signer = self._member.header.fields.signer_public if self._member else b""
        if Signer(secrets.signer_seed).public != signer:
            raise FormatError("a full catalog carries another signing key than the one it was signed with")
        self.secrets = secrets
        self.recipients.update((Recipient(one).id, one) for one in secrets.recipients)

    def _vault_record(self, vault: records.VaultRecord) -> None:
        if vault.name != self._vault:
            raise ConfigError(
                f"what is in this vault was stored under the name {vault.name}, not {self._vault}",
                advice=f'write name = "{vault.name}" in its [[vault]], then run it again',
            )

        self.written_into = vault.identity or self.written_into

    def _domain(self, domain: records.DomainRecord) -> None:
        row = (domain.number, domain.id, self._vault_number(), b"".join(domain.recipients), 0)
        self._builder.insert_new(schema.domains, [row])

    def _snapshot(self, one: records.SnapshotRecord) -> None:
        values = (one.started_at, one.finished_at, one.host)
        packed = msgspec.msgpack.encode(one.sources), msgspec.msgpack.encode(one.problems)
        row = (one.id, self._job.number, one.number, None, *values, *packed, one.files, one.bytes)
        self._builder.insert(schema.snapshots, [row])
        self._job.last_snapshot = max(self._job.last_snapshot, one.number)

    def _owner(self, owner: records.OwnerRecord) -> None:
        self._builder.insert_new(schema.owners, [msgspec.structs.astuple(owner)])

    def _directory(self, directory: records.DirectoryRecord) -> None:
        self._builder.directory(directory.number, self._job.number, directory.path)

    def _entry(self, entry: records.EntryRecord) -> None:
        row = msgspec.structs.astuple(entry)
        self._entries.append(row if entry.content_id is not None else (*row[:10], None, *row[11:]))
        if len(self._entries) >= _ROWS_A_BATCH:
            self._flush()

    def _closed(self, closed: records.ClosedRecord) -> None:
        self._flush()
        self._builder.close_entries(unpack_u64(closed.entries), closed.removed_in)

    def _archive(self, one: records.ArchiveRecord) -> None:
        self._names.append(one.number)
        known = self._packs.setdefault(one.number, one.pack_id)
        if known != one.pack_id:
            raise FormatError(f"two catalogs give the number {one.number} to different archives")
        if self._builder.has_archive(one.number):
            self._skipping.add(one.number)
            return
        archive_id = one.archive_id or self._archive_ids.get(one.pack_id) or None
        state = one.state
        if state in {ArchiveState.STORED, ArchiveState.SUBMITTED}:
            state = ArchiveState.UNCONFIRMED if archive_id else ArchiveState.LOST
        self._builder.insert(
            schema.archives,
            [
                (
                    one.number,
                    one.domain,
                    None,
                    one.kind,
                    str(state),
                    one.pack_id,
                    one.header,
                    one.size,
                    one.tree_hash,
                    archive_id,
                    one.stored_at,
                    one.stored_at,
                )
            ],
        )

    def _frames(self, frames: records.FramesRecord) -> None:
        if frames.archive not in self._skipping:
            self._builder.frames(frames.archive, unpack_frames(frames.rows))

    def _chunks(self, chunks: records.ChunksRecord) -> None:
        if chunks.archive not in self._skipping:
            numbers = unpack_u32(chunks.numbers)
            self._builder.chunks(chunks.archive, numbers, unpack_chunks(chunks.rows))

    def _forgotten(self, forgotten: records.ForgottenRecord) -> None:
        self._flush()
        self._builder.forget(self._job.number, forgotten.snapshots)
        self._builder.drop_unneeded(self._job.number)

    def _condemned(self, condemned: records.CondemnedRecord) -> None:
        self._builder.condemn(condemned.packs)

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
            *(file.size, file.tree_hash, member.archive_id, written, written),
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
        self._builder.insert_new(schema.vaults, [(1, self._vault, self._identity)])
        return 1
