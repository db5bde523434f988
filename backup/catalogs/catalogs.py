"""Catalogs: what a run changed (delta), or everything a job needs (full), written as a pack like any other.

A delta is a run's commit point. Its parent is the job's delta before it; a full catalog's parent is the
delta whose state it holds. A job's first catalog is delta and full in one, and has no parent. Each names the
archives that its entries need and that no stored catalog of the job named before (a full one: all of them).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from msgspec import Struct

from backup.catalogs.packing import Spool
from backup.catalogs.writer import CatalogWriter
from backup.errors import FormatError
from backup.format import catalog as records
from backup.format.catalog import Record
from backup.format.header import NO_FEATURE, CatalogFeature, CatalogOption
from backup.format.keys import ChunkSecret, Recipient, Signer
from backup.format.line import CatalogAddress, RecoveryLine
from backup.format.pack import NO_HASH, NO_PACK, CatalogFields, parse_header
from backup.inventory.content import archives, entries, mounts, packed
from backup.inventory.content.archives import Archive, CatalogPosition
from backup.inventory.content.entries import StagedEntry
from backup.inventory.content.lost import replacements
from backup.inventory.content.snapshots import Snapshot, has_snapshots
from backup.inventory.records import amendments, readings
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.times import micros
from backup.model import ChunkRow, FrameRow, Generation, Pack, PackId, PackKind, VaultName

_NUMBERS_A_RECORD = 100_000
_CHUNKS = StagedEntry._fields.index("chunks")  # the same in `EntryRow`
_BEFORE_CHUNKS, _AFTER_CHUNKS = slice(_CHUNKS), slice(_CHUNKS + 1, None)


class Chain(Struct, frozen=True):
    """The stored catalogs that a rebuild of a job needs: the newest full one and the deltas after it.

    `newest_delta` may be one that the vault has lost, as the next delta must still name it as its parent.
    `is_broken`: a catalog that belongs to `links` is lost or damaged. `is_new`: the job has no catalog and no
    snapshot yet, so that what its first run changes is everything.
    """

    links: tuple[Archive, ...]
    newest_delta: Archive | None
    is_broken: bool = False
    is_new: bool = False

    @property
    def parent(self) -> tuple[PackId, bytes] | None:
        """Pack id and header hash of the delta that the next delta follows.

        An inventory that was rebuilt from a full catalog alone knows it by that one's header.
        """
        if self.newest_delta is not None:
            return self.newest_delta.label.pack_id, hashlib.sha256(self.newest_delta.header).digest()
        if not self.links:
            return None
        try:
            place = parse_header(self.links[0].header).fields.catalog
        except FormatError:
            return None
        return (PackId(place.parent_pack_id), place.parent_header_hash) if place else None

    def record(self) -> records.ChainRecord:
        """The chain as a record of a catalog."""
        links = [_link(archive) for archive in self.links]
        sizes = [archive.size for archive in self.links]
        return records.ChainRecord(links, sizes, [archive.version for archive in self.links])


def _link(archive: Archive) -> tuple[int, int, bytes, bytes, str]:
    label = archive.label
    header_hash = hashlib.sha256(archive.header).digest()
    return label.number, int(label.generation or 0), label.pack_id, header_hash, archive.archive_id or ""


def read_chain(tx: Transaction, job: int, inventory: Inventory) -> Chain:
    """Read a job's present chain from the inventory."""
    stored = [archive for archive, _ in archives.stored_catalogs(tx, job, inventory.id)]
    spoiled = [archive for archive, _ in archives.spoiled_catalogs(tx, job, inventory.id)]
    deltas = [archive for archive in stored if archive.label.generation is Generation.DELTA]
    every_delta = [archive for archive in (*stored, *spoiled) if archive.is_delta]
    newest = max(every_delta, key=lambda archive: archive.label.number, default=None)
    fulls = [archive for archive in stored if archive.label.generation is Generation.FULL]
    since = fulls[-1].label.number if fulls else 0
    links = (*fulls[-1:], *(archive for archive in deltas if archive.label.number > since))
    is_new = not (stored or spoiled or has_snapshots(tx, job))
    return Chain(links, newest, any(archive.label.number > since for archive in spoiled), is_new)


def recovery_line(chain: Chain, job: JobRow, vault: VaultName) -> str:
    """Return the line that finds this state without the inventory; empty before the first catalog."""
    delta = chain.newest_delta
    if delta is None or delta.archive_id is None:
        return ""
    full = next((link for link in chain.links if link.label.generation is Generation.FULL), None)
    known = full and full.archive_id
    return RecoveryLine(
        vault=vault,
        job=job.name,
        inventory_id=parse_header(delta.header).fields.inventory_id,
        job_id=job.id,
        number=delta.label.number,
        header_hash=hashlib.sha256(delta.header).digest(),
        delta=CatalogAddress(delta.archive_id, delta.size),
        full=CatalogAddress(known, full.size) if full and known else None,
    ).to_text()


def names_after(tx: Transaction, job: int, inventory: Inventory, run: int, used: Iterable[int]) -> set[int]:
    """Return the archives that a run's delta names: its own and those `used`, without those named before.

    Lost archives are replaced by those that hold the same chunks.
    """
    own = (archive.number for archive in archives.list_archives(tx, inventory.id, run=run))
    named = archives.named_archives(tx, job)
    needed = {*own, *used}
    return (needed | replacements(tx, named | needed)) - named


def position_after(
    chain: Chain, job: JobRow, number: int, generation: Generation, names: Iterable[int]
) -> CatalogPosition:
    """Return the position of a new catalog in the chain."""
    parent = chain.parent[0] if chain.parent else None
    return CatalogPosition(job.number, number, generation, parent, sorted(names))


class WrittenCatalog(Struct, frozen=True):
    """A catalog in the spool, ready to be sent."""

    pack: Pack
    file_name: str
    position: CatalogPosition


def open_catalog(
    spool: Spool,
    *,
    job: JobRow,
    number: int,
    generation: Generation,
    chain: Chain,
    enrolments: tuple[tuple[bytes, bytes], ...],
    level: int | None,
    features: CatalogFeature = NO_FEATURE,
) -> CatalogWriter:
    """Begin a catalog that follows the chain, in the spool."""
    parent_pack_id, parent_header_hash = chain.parent or (NO_PACK, NO_HASH)
    fields = CatalogFields(
        job_id=job.id,
        number=number,
        generation=generation,
        parent_pack_id=parent_pack_id,
        parent_header_hash=parent_header_hash,
        enrolments=enrolments,
        features=features,
        options=CatalogOption.SIGNED_CONTENT,
    )
    return CatalogWriter(spool.open_pack(PackKind.CATALOG, fields), level)


# Contents.


def with_secrets(
    stream: Iterable[Record | tuple[Any, ...]],
    signer: Signer,
    secret: ChunkSecret,
    recipients: Sequence[Recipient],
) -> Iterator[Record | tuple[Any, ...]]:
    """Return the records of a job's first delta as a full catalog, with the server's keys after the Start."""
    rest = iter(stream)
    yield next(rest)
    yield secrets_record(signer, secret, recipients)
    yield from rest


def secrets_record(signer: Signer, secret: ChunkSecret, recipients: Sequence[Recipient]) -> Record:
    """Return the record of the server's keys in a full catalog."""
    return records.Secrets(signer.seed, secret.secret, [recipient.public for recipient in recipients])


def entry_records(staged: Sequence[Sequence[Any]], snapshot: int) -> Iterator[tuple[Any, ...]]:
    """Return staged entries (columns of `StagedEntry`) as a snapshot's records."""
    chunks = [chunk_list or b"" for chunk_list in staged[_CHUNKS]]
    kinds, added_in, removed_in = (
        repeat(constant, len(chunks)) for constant in (records.ENTRY, snapshot, None)
    )
    return zip(kinds, *staged[_BEFORE_CHUNKS], chunks, added_in, removed_in, strict=True)


def delta_rest(
    tx: Transaction,
    inventory: Inventory,
    *,
    job: JobRow,
    names: Sequence[int],
    chain: Chain,
    run: int,
    snapshot: records.SnapshotRecord,
    marks: Sequence[Record],
) -> Iterator[Record]:
    """The last records of what a run changes, after its entries: archives, ends of old entries, its snapshot
    and marks."""
    yield from archive_records(tx, inventory, names)
    ends = entries.staged_ends(tx, run)
    for start in range(0, len(ends), _NUMBERS_A_RECORD):
        packed = records.pack_u64(ends[start : start + _NUMBERS_A_RECORD])
        yield records.ClosedRecord(packed, snapshot.number)
    yield records.MountsRecord(records.pack_u64(mounts.mount_points_after(tx, job.number, run)))
    yield snapshot
    yield from marks
    yield chain.record()


def amending_records(
    tx: Transaction,
    inventory: Inventory,
    *,
    job: JobRow,
    position: CatalogPosition,
    chain: Chain,
    amendment: Sequence[Record],
    host: str,
    program: str,
) -> Iterator[Record]:
    """Return the records of a delta without a snapshot: a change of what was saved before."""
    yield start_record(inventory, job, position.number, position.generation, chain, host, program)
    yield from archive_records(tx, inventory, position.names)
    yield from amendment
    yield chain.record()


def marks_of(tx: Transaction, job: int, every: Sequence[Snapshot], names: Collection[int]) -> list[Record]:
    """Return the marks of snapshots and archives, and what checks have read, as records of a full catalog."""
    found: list[Record] = [*amendments.forgotten_of(every)]
    found += [marks for snapshot in every if (marks := amendments.marks_of(snapshot)) is not None]
    from backup.inventory.content.shrunk import shrunk_records  # full catalogs are rare

    found += shrunk_records(tx, job)
    return [*found, *amendments.marked_archives(tx, job, names), *readings.verified(tx, names)]


def full_records(
    tx: Transaction,
    inventory: Inventory,
    *,
    job: JobRow,
    position: CatalogPosition,
    chain: Chain,
    signer: Signer,
    secret: ChunkSecret,
    recipients: Sequence[Recipient],
    snapshots: Sequence[Record],
    host: str,
    program: str,
) -> Iterator[Record | tuple[Any, ...]]:
    """Return all records of a job as of the newest delta: snapshots with their marks, entries, archives."""
    yield start_record(inventory, job, position.number, position.generation, chain, host, program)
    yield secrets_record(signer, secret, recipients)
    yield from archive_records(tx, inventory, position.names)
    yield from _owners(tx)
    yield from (
        records.DirectoryRecord(number, path) for number, path in entries.all_directories(tx, job.number)
    )
    for row in entries.all_entries(tx, job.number):
        yield (records.ENTRY, *row[_BEFORE_CHUNKS], row[_CHUNKS] or b"", *row[_AFTER_CHUNKS])
    yield records.MountsRecord(records.pack_u64(mounts.mount_points(tx, job.number)))
    yield from snapshots
    yield chain.record()


def start_record(
    inventory: Inventory,
    job: JobRow,
    number: int,
    generation: Generation,
    chain: Chain,
    host: str,
    program: str,
) -> records.Start:
    """Return the first record of a catalog that follows the chain."""
    parent = chain.newest_delta.label.number if chain.newest_delta else 0
    return records.Start(
        records.FORMAT,
        number,
        int(generation),
        job.id,
        job.name,
        parent,
        host,
        program,
        inventory.predecessor,
        list(inventory.ancestors),
        job.made_by,
        job.nonce,
    )


class PackContents(NamedTuple):
    """The frames and chunks of a data pack; `numbers` are those of its chunks, in order."""

    frames: Sequence[FrameRow]
    numbers: Sequence[int]
    chunks: Sequence[ChunkRow]


def archive_records(
    tx: Transaction,
    inventory: Inventory,
    names: Sequence[int],
    contents: Mapping[int, PackContents] | None = None,
) -> Iterator[Record]:
    """Return the records of archives and their content, after those of their domains and vaults.

    `contents` are those that need not be read from the inventory, by the archive's number.
    """
    found = archives.get_archives(tx, names, inventory.id)
    domains = archives.domains_of(tx, names)
    vaults = {(row["vault"], row["vault_name"], row["vault_identity"]) for row in domains}
    for number, name, identity in vaults:
        yield records.VaultRecord(number, name, identity or "")
    for row in domains:
        joined = row["recipients"]
        ids = [joined[start : start + 16] for start in range(0, len(joined), 16)]
        yield records.DomainRecord(row["number"], row["id"], row["vault"], ids)
    for number in names:
        archive = found[number]
        yield records.ArchiveRecord(
            number,
            archive.domain,
            int(archive.label.kind),
            archive.label.pack_id,
            archive.header,
            archive.size,
            archive.tree_hash,
            archive.archive_id or "",
            micros(archive.stored_at or archive.submitted_at),
            archive.state,
            archive.version,
        )
        within = (contents or {}).get(number)
        if within is None:
            within = PackContents(packed.frame_rows(tx, number), *packed.chunks_of(tx, number))
        yield from records.split_frames(number, within.frames)
        yield from records.split_chunks(number, within.numbers, within.chunks)


def _owners(tx: Transaction) -> Iterator[Record]:
    for number, owner in entries.owners_by_number(tx).items():
        yield records.OwnerRecord(number, *owner)
