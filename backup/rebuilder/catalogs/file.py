"""A catalog in a file: opened with recovery keys, verified frame by frame, read as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from msgspec import Struct

from backup.errors import FormatError, SpoolError
from backup.format.catalog import Record, prove_content, unpack_records
from backup.format.content import SignedContent
from backup.format.frame import FrameCodec
from backup.format.header import HEADER_PREFIX_LENGTH, Header, header_length
from backup.format.keys import RecoveryKey
from backup.format.pack import (
    TRAILER_SIZE,
    PackKeys,
    derive_keys,
    open_directory,
    open_with,
    parse_trailer,
    read_header,
)
from backup.format.records import Start
from backup.format.treehash import TreeHasher
from backup.model import MIB, FrameRow, TreeHash


class CatalogFile(Struct, frozen=True):
    """A catalog's pack in a file; it is read with one frame at a time in memory."""

    path: str
    size: int
    tree_hash: TreeHash
    header: Header

    def records(self, keys: Sequence[RecoveryKey]) -> Iterator[Record]:
        """Yield its records. `FormatError` if a frame does not open, also in the middle."""
        pack_keys, rows = self._directory(keys)
        return unpack_records(self._bodies(pack_keys, rows), SignedContent(self.header))

    def frames(self, keys: Sequence[RecoveryKey]) -> list[FrameRow]:
        """Return its frames, as rows of the inventory."""
        return self._directory(keys)[1]

    def prove(self, keys: Sequence[RecoveryKey]) -> Start:
        """Open every frame, verify the content's signature, read the first record.

        `FormatError`, `RecoveryKeyError`.
        """
        pack_keys, rows = self._directory(keys)
        prove_content(self._bodies(pack_keys, rows), SignedContent(self.header))
        start = next(unpack_records(self._bodies(pack_keys, rows)), None)
        if not isinstance(start, Start):
            raise FormatError("the catalog does not begin with its Start")
        self._check(start)
        return start

    def _check(self, start: Start) -> None:
        """The sealed record must say what the signed header says."""
        place = self.header.fields.catalog
        if place is None or (place.job_id, place.number, place.generation) != (
            start.job_id,
            start.number,
            start.generation,
        ):
            raise FormatError("the catalog's first record does not fit its header")

    def _directory(self, keys: Sequence[RecoveryKey]) -> tuple[PackKeys, list[FrameRow]]:
        pack_keys = derive_keys(open_with(self.header, keys), self.header.raw)
        with open(self.path, "rb") as file:
            file.seek(self.size - TRAILER_SIZE)
            offset, length = parse_trailer(file.read(TRAILER_SIZE))
            if offset + length + TRAILER_SIZE != self.size:
                raise FormatError("the pack's trailer does not fit its size")
            file.seek(offset)
            rows, chunks = open_directory(pack_keys, self.header.fields.pack_id, file.read(length))
        if chunks:
            raise FormatError("a catalog has no chunks")
        return pack_keys, rows

    def _bodies(self, keys: PackKeys, rows: list[FrameRow]) -> Iterator[bytes]:
        codec = FrameCodec()
        with open(self.path, "rb") as file:
            for row in rows:
                file.seek(row.offset)
                sealed = file.read(row.sealed_length)
                yield codec.open(keys.frame_key, self.header.fields.pack_id, row, sealed)


def read_catalog_file(path: str) -> CatalogFile:
    """Return its header, unverified and possibly of a later version, and its hash.

    `FormatError`: not a pack.
    """
    try:
        with open(path, "rb") as file:
            prefix = file.read(HEADER_PREFIX_LENGTH)
            header = read_header(prefix + file.read(header_length(prefix) - len(prefix)))
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror}") from error
    return CatalogFile(path, size, tree_hash_of_file(path), header)


def tree_hash_of_file(path: str) -> TreeHash:
    """Return the tree hash of all its bytes. `SpoolError`."""
    hasher = TreeHasher()
    try:
        with open(path, "rb") as file:
            while block := file.read(MIB):
                hasher.update(block)
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror}") from error
    return hasher.digest()
