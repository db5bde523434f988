"""Reads the directories of packs that no catalog covers, so that their chunks are not sent again.

The file names of these chunks were in a catalog that is lost: only the chunks can be recovered. If the vault
retrieves ranges and its list has tree hashes, only the beginning (header) and the end (directory, trailer) of
each are retrieved. Otherwise the whole pack is, and every frame is compared with its digest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

from msgspec import Struct

from backup.errors import FormatError, IntegrityError, RecoveryKeyError
from backup.format.frame import check_digest
from backup.format.header import Header
from backup.format.pack import (
    LARGEST_HEADER,
    TRAILER_SIZE,
    derive_keys,
    open_directory,
    open_with,
    parse_header,
    parse_trailer,
    verify_header,
)
from backup.inventory.content.archives import ArchiveState
from backup.inventory.rebuilt.building import Builder
from backup.inventory.store import schema
from backup.inventory.store.times import micros
from backup.model import (
    MIB,
    ByteRange,
    ChunkRow,
    FrameRow,
    InventoryId,
    ListedArchive,
    PackKind,
    TreeHash,
)
from backup.rebuilder.catalogs.file import tree_hash_of_file
from backup.rebuilder.catalogs.intake import WaitsError
from backup.rebuilder.context import RebuildContext
from backup.transfer.fetching.fetch import ArchiveFetcher
from backup.transfer.fetching.wants import Want

_AT_ONCE = 4
_TAIL = 2 * MIB  # a directory is some 64 KiB as a rule; a larger one is asked for in a second round

_UNREADABLE = (FormatError, IntegrityError, RecoveryKeyError, KeyError)

Suspect = Callable[[str, str, str], None]
Opened = tuple[ListedArchive, TreeHash, Header, list[FrameRow], Sequence[ChunkRow]]


class Recovered(Struct, frozen=True):
    """The numbers of packs and chunks that were recovered from uncovered packs."""

    packs: int = 0
    chunks: int = 0


def read_uncovered(
    builder: Builder,
    listed: Sequence[ListedArchive],
    inventory_id: InventoryId,
    signer_public: bytes,
    context: RebuildContext,
    bringer: ArchiveFetcher,
    suspect: Suspect,
) -> Recovered:
    """Record the chunks of the inventory's data packs that no catalog names. `WaitsError`."""
    known = builder.pack_ids()
    packs = [
        archive
        for archive in listed
        if archive.label is not None
        and archive.label.kind is PackKind.DATA
        and archive.label.inventory_id == inventory_id
        and archive.label.pack_id not in known
    ]
    if not packs:
        return Recovered()
    reading = _PackReading(context, bringer, suspect, signer_public)
    numbers = count(builder.largest(schema.chunks) + 1)
    archives = count(builder.largest(schema.archives) + 1)
    done = chunks = 0
    for archive, tree_hash, header, frames, rows in reading.read(packs):
        recipients = b"".join(sorted(stanza.recipient_id for stanza in header.stanzas))
        domain = builder.domain_of(recipients)
        if domain is None or header.fields.pack_id in known:
            suspect("not-covered", archive.archive_id, "it belongs to no domain that is known")
            continue
        known.add(header.fields.pack_id)
        number, stored = next(archives), micros(archive.created_at)
        state = ArchiveState.STORED.value
        row = (number, domain, None, int(PackKind.DATA), state, header.fields.pack_id, header.raw)
        place = archive.size, tree_hash, archive.archive_id, stored, stored
        builder.insert(schema.archives, [(*row, *place, None, None)])
        builder.frames(number, frames)
        builder.chunks(number, [next(numbers) for _ in rows], rows)
        done, chunks = done + 1, chunks + len(rows)
    return Recovered(done, chunks)


class _PackReading:
    """Reads headers and directories of packs, retrieved in one or two rounds, or as whole packs."""

    def __init__(
        self, context: RebuildContext, bringer: ArchiveFetcher, suspect: Suspect, signer: bytes
    ) -> None:
        self._context = context
        self._signer = signer
        self._bringer = bringer
        self._suspect = suspect

    def read(self, packs: Sequence[ListedArchive]) -> Iterator[Opened]:
        """Read each pack that can be read; the others are reported."""
        by_ends = self._context.vault.traits.retrieves_ranges
        some = [archive for archive in packs if by_ends and archive.tree_hash is not None]
        others = [archive for archive in packs if not by_ends or archive.tree_hash is None]
        if some:
            yield from self._read_ends(some)
        if others:
            yield from self._read_whole(others)

    def _read_ends(self, packs: Sequence[ListedArchive]) -> Iterator[Opened]:
        wants = [_part(archive, 0, MIB) for archive in packs]
        wants += [_part(archive, archive.size - _TAIL, archive.size) for archive in packs]
        paths = self._bring(wants)
        places: list[tuple[ListedArchive, int, Want]] = []
        for archive in packs:
            tail = _part(archive, archive.size - _TAIL, archive.size)
            try:
                offset = _directory_of(archive, paths[tail.name])
            except (FormatError, KeyError) as error:
                self._name(archive, error)
            else:
                reaches = offset >= tail.extent.start
                places.append((archive, offset, tail if reaches else _part(archive, offset, archive.size)))
        paths |= self._bring([want for _, _, want in places])
        for archive, offset, tail in places:
            try:
                opened = self._open(paths[_part(archive, 0, MIB).name], paths[tail.name], offset, tail)
            except _UNREADABLE as error:
                self._name(archive, error)
            else:
                if archive.tree_hash is not None:
                    yield archive, archive.tree_hash, *opened

    def _read_whole(self, packs: Sequence[ListedArchive]) -> Iterator[Opened]:
        """All are requested at once; a few at a time are on disk."""
        self._wait_for(self._bringer.ask([_part(archive, 0, archive.size) for archive in packs]))
        for start in range(0, len(packs), _AT_ONCE):
            some = packs[start : start + _AT_ONCE]
            paths = self._bring([_part(archive, 0, archive.size) for archive in some])
            for archive in some:
                yield from self._proven(archive, paths)

    def _proven(self, archive: ListedArchive, paths: Mapping[str, str]) -> Iterator[Opened]:
        """The pack, if it is whole; one that came back damaged is fetched once more."""
        want = _part(archive, 0, archive.size)
        try:
            try:
                opened = self._prove(archive, paths[want.name])
            except (FormatError, IntegrityError):
                self._bringer.forget(want)
                opened = self._prove(archive, self._bring([want])[want.name])
        except _UNREADABLE as error:
            self._name(archive, error)
        else:
            yield opened
        finally:
            self._bringer.forget(want)

    def _prove(self, archive: ListedArchive, path: str) -> Opened:
        """A whole pack in a file: signed, its directory open, each frame as the directory says."""
        found = tree_hash_of_file(path)
        if archive.tree_hash not in (None, found):
            raise IntegrityError("its content is not what the vault's list says")
        offset = _directory_of(archive, path)
        header, frames, chunks = self._open(path, path, offset, _part(archive, 0, archive.size))
        with open(path, "rb") as file:
            for row in frames:
                file.seek(row.offset)
                check_digest(row, file.read(row.sealed_length))
        return archive, found, header, frames, chunks

    def _open(
        self, head: str, tail: str, offset: int, want: Want
    ) -> tuple[Header, list[FrameRow], Sequence[ChunkRow]]:
        header = parse_header(_read(head, LARGEST_HEADER))
        verify_header(header, self._signer)
        keys = derive_keys(open_with(header, self._context.recovery_keys), header.raw)
        sealed = memoryview(_read(tail, offset - want.extent.end))[:-TRAILER_SIZE]
        frames, chunks = open_directory(keys, header.fields.pack_id, sealed)
        return header, frames, chunks

    def _bring(self, wants: Sequence[Want]) -> dict[str, str]:
        brought = self._bringer.bring(list({want.name: want for want in wants}.values()))
        self._wait_for(brought.waiting)
        return brought.paths

    def _wait_for(self, waiting: int) -> None:
        if waiting:
            raise WaitsError(f"{waiting} ranges of packs that no catalog covers")

    def _name(self, archive: ListedArchive, error: Exception) -> None:
        why = "it is not in the vault" if isinstance(error, KeyError) else str(error)
        self._suspect("not-covered", archive.archive_id, f"it cannot be read: {why}")


def _part(archive: ListedArchive, start: int, end: int) -> Want:
    """Whole MiB around these bytes."""
    first, last = max(start, 0) // MIB * MIB, min(-(-end // MIB) * MIB, archive.size)
    return Want(archive.archive_id, archive.size, ByteRange(first, last), PackKind.DATA)


def _directory_of(archive: ListedArchive, path: str) -> int:
    """The offset of a pack's directory, by the end of it that is in a file. `FormatError`."""
    offset, length = parse_trailer(_read(path, -TRAILER_SIZE))
    if offset + length + TRAILER_SIZE != archive.size:
        raise FormatError("the pack's trailer does not fit its size")
    return offset


def _read(path: str, size: int) -> bytes:
    """The first `size` bytes of a file, or its last `-size`."""
    with open(path, "rb") as file:
        if size < 0:
            file.seek(max(0, os.fstat(file.fileno()).st_size + size))
        return file.read(abs(size))
