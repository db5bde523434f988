"""Catalogs: what a run changed (delta), or everything a job needs (full), written as a pack like any other.

A delta is a run's commit point. Its parent is the job's delta before it; a full catalog's parent is the
delta whose state it holds. A job's first catalog is delta and full in one, and has no parent. Each names the
archives that its entries need and that no stored catalog of the job named before (a full one: all of them).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from backup.catalogs.context import OpenRun
from backup.catalogs.packing import OpenPack
from backup.errors import FormatError
from backup.format import catalog as records
from backup.format.catalog import Bodies, Record
from backup.format.frame import FrameCodec
from backup.format.header import NO_FEATURE, CatalogFeature, CatalogOption
from backup.format.pack import NO_HASH, NO_PACK, CatalogFields, parse_header
from backup.inventory.content import archives, entries, mounts, packed
from backup.inventory.content.archives import Archive, ArchiveState, CatalogPosition
from backup.inventory.content.entries import StagedEntry
from backup.inventory.content.lost import replacements
from backup.inventory.content.snapshots import has_snapshots, list_snapshots
from backup.inventory.records import amendments
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.times import micros
from backup.model import MIB, ChunkRow, FrameRow, Generation, Pack, PackId, PackKind

_NUMBERS_A_RECORD = 100_000
_ARCHIVES_AT_ONCE = 500
BODY: Final = MIB
"""The most bytes of a body, of which four are held at once; the format allows 4 MiB."""
_BODIES_WAITING: Final = 1
"""Bodies that are being sealed, or wait for it; the next is filled meanwhile."""
_CHUNKS = StagedEntry._fields.index("chunks")  # the same in `EntryRow`
_BEFORE_CHUNKS, _AFTER_CHUNKS = slice(_CHUNKS), slice(_CHUNKS + 1, None)


class Chain(Struct, frozen=True):
    """The stored catalogs that a rebuild of a job from a vault needs: the newest full one, and the deltas
    after it.

    `newest_delta` may be one that the vault has lost, as the next delta must still name it as its parent.
    `is_broken`: a catalog that belongs to `links` is lost or damaged. `is_new`: the job has no catalog and no
    snapshot yet, so that what its first run changes is everything.
    """

    links: tuple[Archive, ...]
    newest_delta: Archive | None
    is_broken: bool = False
    is_new: bool = False

    @property
    def next_generation(self) -> Generation:
        """The generation of the next delta: a job's first is a full catalog, too."""
        return Generation.FULL if self.is_new else Generation.DELTA

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


def read_chain(tx: Transaction, job: int, vault: int, inventory: Inventory) -> Chain:
    """Read a job's present chain in a vault from the inventory."""
    stored = [archive for archive, _ in archives.stored_catalogs(tx, job, inventory.id, vault=vault)]
    spoiled = [archive for archive, _ in archives.spoiled_catalogs(tx, job, inventory.id, vault=vault)]
    deltas = [archive for archive in stored if archive.label.generation is Generation.DELTA]
    every_delta = [archive for archive in (*stored, *spoiled) if archive.is_delta]
    newest = max(every_delta, key=lambda archive: archive.label.number, default=None)
    fulls = [archive for archive in stored if archive.label.generation is Generation.FULL]
    since = fulls[-1].label.number if fulls else 0
    links = (*fulls[-1:], *(archive for archive in deltas if archive.label.number > since))
    is_new = not (stored or spoiled or has_snapshots(tx, job, vault))
    return Chain(links, newest, any(archive.label.number > since for archive in spoiled), is_new)


def names_after(tx: Transaction, at: OpenRun, used: Iterable[int]) -> set[int]:
    """Return the archives that a run's delta names: its own and those `used`, without those named before.

    Lost archives are replaced by those that hold the same chunks.
    """
    own = archives.list_archives(tx, at.context.inventory.id, run=at.run.number)
    named = archives.named_archives(tx, at.row.number, vault=at.vault)
    needed = {*(archive.number for archive in own), *used}
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


class CatalogWriter:
    """Writes records into a pack while they are made; another thread seals and verifies it.

    For one thread, which then calls `finish` or `discard`.
    """

    def __init__(self, pack: OpenPack, level: int | None) -> None:
        """`level` is that of the compression, None for the usual one."""
        self._pack = pack
        self._codec = FrameCodec(level)
        self._bodies = Bodies(pack.content(), BODY)
        self._frames = 0
        self._thread = ThreadPoolExecutor(1, "catalog")
        self._waiting: deque[Future[None]] = deque()

    def add(self, records: Iterable[Record | tuple[Any, ...]]) -> None:
        """Add the next records; waits while the thread is behind."""
        self._send(self._bodies.add(records))

    def finish(self) -> tuple[Pack, str]:
        """Write the end; returns the synced, verified pack and its file name in the spool."""
        try:
            self._send(self._bodies.end())
            self._settle(leave=0)
            pack = self._pack.finish()
        except BaseException:
            self.discard()
            raise
        self._thread.shutdown()
        return pack, self._pack.file_name

    def discard(self) -> None:
        """Delete the file."""
        self._thread.shutdown(cancel_futures=True)
        self._pack.discard()

    def _send(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self._settle(leave=_BODIES_WAITING - 1)
            self._waiting.append(self._thread.submit(self._write, self._frames, body))
            self._frames += 1

    def _settle(self, *, leave: int) -> None:
        while len(self._waiting) > leave:
            self._waiting.popleft().result()

    # On the thread.

    def _write(self, number: int, body: bytes) -> None:
        pack, codec = self._pack, self._codec
        row = pack.append(codec.seal(pack.keys.frame_key, pack.label.pack_id, number, [body]), [], [], [])
        pack.prove_body(codec, row, body)


def open_catalog(
    at: OpenRun, number: int, generation: Generation, chain: Chain, features: CatalogFeature = NO_FEATURE
) -> CatalogWriter:
    """Begin a catalog that follows the chain, in the spool."""
    parent_pack_id, parent_header_hash = chain.parent or (NO_PACK, NO_HASH)
    fields = CatalogFields(
        job_id=at.row.id,
        number=number,
        generation=generation,
        parent_pack_id=parent_pack_id,
        parent_header_hash=parent_header_hash,
        enrolments=at.keys.enrolments,
        features=features | CatalogFeature.FIRST_DELTA if chain.is_new else features,
        options=CatalogOption.SIGNED_CONTENT,
    )
    return CatalogWriter(at.spool.open_pack(PackKind.CATALOG, fields), at.level)


# Contents.


def entry_records(staged: Sequence[Sequence[Any]], snapshot: int) -> Iterator[tuple[Any, ...]]:
    """Return staged entries (columns of `StagedEntry`) as a snapshot's records."""
    chunks = [chunk_list or b"" for chunk_list in staged[_CHUNKS]]
    kinds, added_in, removed_in = (
        repeat(constant, len(chunks)) for constant in (records.ENTRY, snapshot, None)
    )
    return zip(kinds, *staged[_BEFORE_CHUNKS], chunks, added_in, removed_in, strict=True)


def delta_rest(
    tx: Transaction,
    at: OpenRun,
    names: Sequence[int],
    chain: Chain,
    snapshot: records.SnapshotRecord,
    marks: Sequence[Record],
) -> Iterator[Record]:
    """The last records of what a run changes, after its entries: archives, ends of old entries, its snapshot
    and marks."""
    yield from archive_records(tx, at.context.inventory, names)
    ends = entries.staged_ends(tx, at.run.number)
    for start in range(0, len(ends), _NUMBERS_A_RECORD):
        packed = records.pack_u64(ends[start : start + _NUMBERS_A_RECORD])
        yield records.ClosedRecord(packed, snapshot.number)
    yield records.MountsRecord(records.pack_u64(mounts.mount_points_after(tx, at.row.number, at.run.number)))
    yield snapshot
    yield from marks
    yield chain.record()


def amending_records(
    tx: Transaction, at: OpenRun, position: CatalogPosition, chain: Chain, amendment: Sequence[Record]
) -> Iterator[Record]:
    """Return the records of a delta without a snapshot: a change of what was saved before."""
    yield from start_records(at, position.number, position.generation, chain)
    yield from archive_records(tx, at.context.inventory, position.names)
    yield from amendment
    yield chain.record()


def snapshot_records(tx: Transaction, job: JobRow, names: Collection[int]) -> list[Record]:
    """Return a job's snapshots, with all marks, as records of a full catalog.

    Also the marks of the archives `names`, and what checks have read of them.
    """
    every = list_snapshots(tx, job=job.name, also_forgotten=True)
    found: list[Record] = [*map(amendments.record_of, every), *amendments.forgotten_of(every)]
    found += [marks for snapshot in every if (marks := amendments.marks_of(snapshot)) is not None]
    from backup.inventory.content.shrunk import shrunk_records  # full catalogs are rare
    from backup.inventory.records.verified import verified

    found += shrunk_records(tx, job.number)
    return [*found, *amendments.marked_archives(tx, job.number, names), *verified(tx, names)]


def full_records(
    tx: Transaction, at: OpenRun, position: CatalogPosition, chain: Chain, snapshots: Sequence[Record]
) -> Iterator[Record | tuple[Any, ...]]:
    """Return all records of a job as of the newest delta: snapshots with their marks, entries, archives."""
    yield from start_records(at, position.number, position.generation, chain)
    yield from state_records(tx, at.context.inventory, at.row.number, position.names, snapshots)
    yield chain.record()


def state_records(
    tx: Transaction, inventory: Inventory, job: int, names: Sequence[int], snapshots: Sequence[Record]
) -> Iterator[Record | tuple[Any, ...]]:
    """Return all that the inventory has of a job, and of the archives `names`, as records.

    By these, rebuild drills compare two inventories (`rebuilder/same_records.py`).
    """
    from backup.inventory.content import copied  # full catalogs are rare

    yield from archive_records(tx, inventory, names)
    yield from (records.OwnerRecord(number, *owner) for number, owner in entries.owners_by_number(tx).items())
    yield from (records.DirectoryRecord(number, path) for number, path in entries.all_directories(tx, job))
    for row in entries.all_entries(tx, job, without_alone=copied.has_alone(tx, job)):
        yield (records.ENTRY, *row[_BEFORE_CHUNKS], row[_CHUNKS] or b"", *row[_AFTER_CHUNKS])
    yield records.MountsRecord(records.pack_u64(mounts.mount_points(tx, job)))
    from backup.inventory.content.dumps import dump_records  # full catalogs are rare

    yield from dump_records(tx, job)
    yield from snapshots


def start_records(at: OpenRun, number: int, generation: Generation, chain: Chain) -> Iterator[Record]:
    """Yield the first records of a catalog that follows the chain; a full one has the server's keys, too."""
    yield replace(
        start_record(at.context.inventory, at.row),
        number=number,
        generation=int(generation),
        parent_number=chain.newest_delta.label.number if chain.newest_delta else 0,
        host=at.context.host,
        program=at.context.program,
    )
    if generation is Generation.FULL:
        public = [recipient.public for recipient in at.keys.recipients]
        yield records.Secrets(at.keys.signer.seed, at.keys.secret.secret, public)


def start_record(inventory: Inventory, job: JobRow) -> records.Start:
    """Return the first record of a job's catalogs, but for their place in the chain, and who writes them."""
    return records.Start(
        records.FORMAT,
        0,
        0,
        job.id,
        job.name,
        0,
        "",
        "",
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
    *,
    copied_to: int | None = None,
) -> Iterator[Record]:
    """Return the records of archives and their content, after those of their domains and vaults.

    `contents` are those that need not be read from the inventory, by the archive's number. `copied_to` is the
    number of another vault, which has copies of them: they are described as they are there.
    """
    domains = archives.domains_of(tx, names, copied_to)
    vaults = {(row["vault"], row["vault_name"], row["vault_identity"]) for row in domains}
    for number, name, identity in vaults:
        yield records.VaultRecord(number, name, identity or "")
    for row in domains:
        joined = row["recipients"]
        ids = [joined[start : start + 16] for start in range(0, len(joined), 16)]
        yield records.DomainRecord(row["number"], row["id"], row["vault"], ids)
    for archive in _archives(tx, inventory, names, copied_to):
        number = archive.number
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
        if archive.state is not ArchiveState.DELETED:  # of one that is not there only chunks' ids count
            yield from records.split_frames(number, within.frames)
        yield from records.split_chunks(number, within.numbers, within.chunks)


def _archives(
    tx: Transaction, inventory: Inventory, names: Sequence[int], copied_to: int | None
) -> Iterator[Archive]:
    """The archives of these numbers, in their order; with some hundred headers in memory."""
    for start in range(0, len(names), _ARCHIVES_AT_ONCE):
        some = names[start : start + _ARCHIVES_AT_ONCE]
        found = archives.get_archives(tx, some, inventory.id)
        if copied_to is not None:
            from backup.inventory.content import copied  # few vaults have copies

            found = copied.as_described(tx, copied_to, found)
        yield from (found[number] for number in some)
