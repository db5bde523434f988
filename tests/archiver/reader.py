"""Reads catalogs with nothing but the vault and the recovery key, and rebuilds in memory what they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from backup.format import records
from backup.format.catalog import unpack_records
from backup.format.frame import FrameCodec
from backup.format.header import CatalogFeature, Header
from backup.format.keys import RecoveryKey
from backup.format.pack import (
    TRAILER_SIZE,
    derive_keys,
    open_directory,
    open_header,
    parse_header,
    parse_trailer,
    verify_header,
)
from backup.format.rows import unpack_chunks, unpack_frames, unpack_u32, unpack_u64
from backup.model import ArchiveId, ByteRange, ChunkRow, FrameRow, Generation, ListedArchive, PackKind, Tier
from backup.protocols import Vault


class OpenedCatalog(Struct, frozen=True):
    """A catalog that was fetched and opened."""

    listed: ListedArchive
    header: Header
    records: list[Any]

    @property
    def generation(self) -> Generation:
        """Delta or full."""
        assert self.header.fields.catalog is not None
        return self.header.fields.catalog.generation

    @property
    def is_delta(self) -> bool:
        """Whether the next delta follows it: a job's first catalog is full, and a delta, too."""
        assert self.header.fields.catalog is not None
        is_first = CatalogFeature.FIRST_DELTA in self.header.fields.catalog.features
        return is_first or self.generation is Generation.DELTA


def fetch(vault: Vault, archive_id: ArchiveId, size: int) -> bytes:
    """A whole archive of a vault that retrieves at once."""
    retrieval = vault.request_retrieval(archive_id, None, Tier.STANDARD, "whole")
    return bytes(vault.fetch(retrieval, ByteRange(0, size)).data)


def open_pack(
    data: bytes, key: RecoveryKey
) -> tuple[Header, list[bytes], list[FrameRow], Sequence[ChunkRow]]:
    """Header, opened frames and rows of a pack, every signature, key and digest checked."""
    header = parse_header(data)
    verify_header(header, header.fields.signer_public)
    keys = derive_keys(open_header(header, key), header.raw)
    offset, length = parse_trailer(data[-TRAILER_SIZE:])
    frames, chunks = open_directory(keys, header.fields.pack_id, data[offset : offset + length])
    codec = FrameCodec()
    bodies = [
        codec.open(
            keys.frame_key, header.fields.pack_id, row, data[row.offset : row.offset + row.sealed_length]
        )
        for row in frames
    ]
    return header, bodies, frames, chunks


def read_catalogs(vault: Vault, key: RecoveryKey) -> list[OpenedCatalog]:
    """All catalogs of the vault by number."""
    listing = vault.fetch_listing(vault.request_listing("catalogs"))
    found = []
    for listed in listing.archives:
        assert listed.label is not None
        if listed.label.kind is PackKind.CATALOG:
            header, bodies, _, chunks = open_pack(fetch(vault, listed.archive_id, listed.size), key)
            assert chunks == []
            found.append(OpenedCatalog(listed, header, list(unpack_records(bodies))))
    return sorted(found, key=lambda catalog: catalog.listed.label.number if catalog.listed.label else 0)


@dataclass
class Rebuilt:
    """What catalogs tell of one job: tables by number."""

    entries: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    directories: dict[int, bytes] = field(default_factory=dict)
    owners: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    archives: dict[int, records.ArchiveRecord] = field(default_factory=dict)
    frames: dict[int, list[FrameRow]] = field(default_factory=dict)
    chunks: dict[int, tuple[int, ChunkRow]] = field(default_factory=dict)
    snapshot_ids: dict[int, str] = field(default_factory=dict)

    def apply(self, catalog: OpenedCatalog) -> None:
        """Take one catalog's records in."""
        for record in catalog.records:
            self._take(record)

    def _take(self, record: Any) -> None:
        match record:
            case records.EntryRecord():
                self.entries[record.number] = tuple(
                    getattr(record, name) for name in record.__struct_fields__ if name != "number"
                )
            case records.ClosedRecord():
                for number in unpack_u64(record.entries):
                    assert self.entries[number][-1] is None, "an entry was closed twice"
                    self.entries[number] = (*self.entries[number][:-1], record.removed_in)
            case records.DirectoryRecord():
                self.directories[record.number] = record.path
            case records.OwnerRecord():
                self.owners[record.number] = (record.uid, record.gid, record.user, record.group)
            case records.ArchiveRecord():
                self.archives[record.number] = record
            case records.FramesRecord():
                self.frames.setdefault(record.archive, []).extend(unpack_frames(record.rows))
            case records.ChunksRecord():
                rows = zip(unpack_u32(record.numbers), unpack_chunks(record.rows), strict=True)
                self.chunks.update((number, (record.archive, row)) for number, row in rows)
            case records.SnapshotRecord():
                self.snapshot_ids[record.number] = record.id
