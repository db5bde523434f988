"""Writes frames into packs in the spool, computes their tree hashes, and verifies them before they are sent.

    spool.open_pack(kind, catalog) -> OpenPack; pack.append(frame, chunks) ...; pack.finish() -> Pack

What is written is read back and opened again: a pack is sent only if every chunk is as it was.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from itertools import accumulate, islice, repeat

from msgspec import Struct

from backup.errors import FormatError, IntegrityError, ProofError
from backup.files import spool_errors, sync_directory
from backup.format.content import Content
from backup.format.frame import FrameCodec, SealedFrame
from backup.format.keys import Recipient, Signer
from backup.format.naming import ids_of_pieces
from backup.format.pack import (
    TRAILER_SIZE,
    CatalogFields,
    HeaderFields,
    PackKeys,
    derive_keys,
    open_directory,
    parse_header,
    parse_trailer,
    seal_directory,
    seal_header,
    verify_header,
)
from backup.format.rows import ChunkColumns
from backup.format.treehash import PackHasher
from backup.model import (
    MIB,
    ArchiveLabel,
    ChunkId,
    FileStamp,
    FrameRow,
    InventoryId,
    Pack,
    PackId,
    PackKind,
)
from backup.page_cache import forget
from backup.safe_paths import held_folder

_SUFFIX = ".pack"
_STEP = 16 * MIB  # what is written to the disk at once of a pack that is not read again
_MOST_BEHIND = 1  # frame that is written and not yet hashed, beside the one that is being hashed


class Spool(Struct, frozen=True):
    """The directory where packs are written, for one inventory, signer and set of recipients.

    `is_read_again`: packs stay in the page cache, as they are read again for sending; `part_size`: the size
    of their parts, if the vault wants a SHA-256 of each.
    """

    directory: str
    inventory_id: InventoryId
    signer: Signer
    recipients: Sequence[Recipient]
    chunk_key: bytes
    is_read_again: bool = True
    part_size: int | None = None

    def open_pack(self, kind: PackKind, catalog: CatalogFields | None = None) -> OpenPack:
        """Make a new, empty pack under fresh random keys."""
        pack_id = PackId(os.urandom(16))
        fields = HeaderFields(kind, pack_id, self.inventory_id, self.signer.public, catalog)
        pack_key = os.urandom(32)
        header = seal_header(fields, pack_key=pack_key, recipients=self.recipients, signer=self.signer)
        number, generation = (catalog.number, catalog.generation) if catalog else (0, None)
        job_id = catalog.job_id if catalog else None
        label = ArchiveLabel(kind, pack_id, self.inventory_id, number, generation, job_id)
        path = os.path.join(self.directory, pack_id.hex() + _SUFFIX)
        keys = derive_keys(pack_key, header)
        return OpenPack(self, path, label, header, keys)

    def sweep(self, keep: frozenset[str]) -> None:
        """Delete packs that were never submitted: all files but those to `keep`."""
        place = os.path.join(self.directory, _SUFFIX)
        with spool_errors(self.directory, "swept"), held_folder(place) as (folder, _):
            for name in os.listdir(folder):
                if name.endswith(_SUFFIX) and name not in keep:
                    os.unlink(name, dir_fd=folder)


class OpenPack:
    """A pack that is being written. For one thread, but for `prove_frame`, which any thread may call."""

    def __init__(self, spool: Spool, path: str, label: ArchiveLabel, header: bytes, keys: PackKeys) -> None:
        self.path = path
        self.label = label
        self.keys = keys
        self._header = header
        self._spool = spool
        self._let_go = self._being_written = 0
        self._hasher = PackHasher(spool.part_size)
        self._frames: list[FrameRow] = []
        self._ids: list[ChunkId] = []
        self._locations = array("I"), array("I"), array("I")  # frames, offsets, lengths
        self.numbers: list[int] = []
        self.size = 0
        self._hashing: deque[Future[None]] = deque()
        with spool_errors(path, "written"), held_folder(path) as (folder, name):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(name, flags, 0o600, dir_fd=folder)
            self._folder = os.dup(folder)
        try:
            self._write(header)
        except BaseException:
            self.discard()
            raise

    @property
    def file_name(self) -> str:
        """Its file name in the spool."""
        return os.path.basename(self.path)

    def content(self) -> Content:
        """The content record of a catalog, to be signed at its end."""
        return Content(self._spool.signer, hashlib.sha256(self._header).digest())

    @property
    def frames(self) -> int:
        """Number of frames written."""
        return len(self._frames)

    def append(
        self,
        frame: SealedFrame,
        ids: Sequence[ChunkId],
        lengths: Sequence[int],
        numbers: Sequence[int],
        beside: Executor | None = None,
    ) -> FrameRow:
        """Write a sealed frame; `ids`, `lengths` and `numbers` are columns of the chunks in it, in order.

        If an executor is given, it hashes the frame `beside` the writing, and may go on a little longer.
        """
        row = frame.row(self.size)
        self._write(frame.data, beside)
        self._frames.append(row)
        self._ids.extend(ids)
        frames, offsets, all_lengths = self._locations
        frames.extend(repeat(frame.number, len(ids)))
        offsets.extend(islice(accumulate(lengths, initial=0), len(ids)))
        all_lengths.extend(lengths)
        self.numbers.extend(numbers)
        return row

    def prove_frame(
        self, codec: FrameCodec, row: FrameRow, ids: Sequence[ChunkId], lengths: Sequence[int]
    ) -> None:
        """Read a frame back, open it, and check every chunk id. `ProofError` if one differs."""
        with self._disproving(row):
            pieces = codec.pieces(self.keys.frame_key, self.label.pack_id, row, self._read)
            if ids_of_pieces(self._spool.chunk_key, pieces, lengths) != list(ids):
                raise ProofError(_disproved(self.path, f"a chunk of frame {row.number}"))

    def let_go(self, end: int) -> None:
        """Record that all before `end` is verified, and drop it from the page cache unless it is read again.

        Later writes then reuse the freed pages, and a sync has less to do. The first call for some bytes
        starts writing them to disk, a later one drops them.
        """
        if not self._spool.is_read_again and end - self._being_written >= _STEP:
            forget(self._file, self._let_go, end - self._let_go)
            self._let_go, self._being_written = self._being_written, end

    def prove_body(self, codec: FrameCodec, row: FrameRow, body: bytes) -> None:
        """Read a frame without chunks back, open it, and compare it. `ProofError` if it differs."""
        with self._disproving(row):
            sealed = self._read(row.sealed_length, row.offset)
            if codec.open(self.keys.frame_key, self.label.pack_id, row, sealed) != body:
                raise ProofError(_disproved(self.path, f"the content of frame {row.number}"))

    @contextmanager
    def _disproving(self, row: FrameRow) -> Iterator[None]:
        try:
            yield
        except (FormatError, IntegrityError) as error:
            raise ProofError(_disproved(self.path, f"frame {row.number}")) from error

    def finish(self) -> Pack:
        """End the pack, sync it, and prove header and directory by reading them back."""
        self.end()
        return self.settle()

    def end(self) -> None:
        """Write directory and trailer; nothing may be appended after that."""
        end = self.size
        self._write(
            seal_directory(self.keys, self.label.pack_id, self._frames, self._chunks, end_of_frames=end)
        )

    def settle(self) -> Pack:
        """Sync an ended pack and verify its header and directory; on any thread, as another is written."""
        chunks = self._chunks
        with spool_errors(self.path, "written"):
            os.fsync(self._file)
            sync_directory(self._folder)
            stamp = FileStamp.of(os.fstat(self._file))
        self._prove_ends(chunks)
        self._close()
        return Pack(
            label=self.label,
            header=self._header,
            size=self.size,
            tree_hash=self._hasher.tree.digest(),
            frames=self._frames,
            chunks=chunks,
            leaves=self._hasher.tree.digests,
            stamp=stamp,
            part_size=self._spool.part_size,
            part_hashes=self._hasher.parts,
        )

    @property
    def _chunks(self) -> ChunkColumns:
        return ChunkColumns(self._ids, *self._locations)

    def discard(self) -> None:
        """Delete the pack, finished or not; a failure is left to the next run's sweep."""
        self._close()
        with suppress(OSError), held_folder(self.path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def _close(self) -> None:
        handle, self._file = self._file, -1
        if handle >= 0:
            os.close(handle)
            os.close(self._folder)

    def _prove_ends(self, chunks: ChunkColumns) -> None:
        try:
            header = parse_header(self._read(len(self._header), 0))
            verify_header(header, header.fields.signer_public)
            offset, length = parse_trailer(self._read(TRAILER_SIZE, self.size - TRAILER_SIZE))
            sealed = self._read(length, offset)
            found = open_directory(self.keys, self.label.pack_id, sealed)
        except FormatError as error:
            raise ProofError(_disproved(self.path, "its header or directory")) from error
        if header.raw != self._header or found != (self._frames, chunks):
            raise ProofError(_disproved(self.path, "its header or directory"))

    def _read(self, length: int, offset: int) -> bytes:
        with spool_errors(self.path, "read back"):
            return os.pread(self._file, length, offset)

    def _write(self, data: bytes | memoryview, beside: Executor | None = None) -> None:
        self._hash(data, beside)
        with spool_errors(self.path, "written"):
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        self.size += len(data)

    def _hash(self, data: bytes | memoryview, beside: Executor | None) -> None:
        """Hash what is written next, `beside` that if there is an executor: it may fall behind a little."""
        most = _MOST_BEHIND if beside is not None else 0
        while len(self._hashing) > most:
            self._hashing.popleft().result()
        if beside is not None:
            self._hashing.append(beside.submit(self._hasher.update, data))
        else:
            self._hasher.update(data)


def _disproved(path: str, what: str) -> str:
    return (
        f"the pack {os.path.basename(path)} did not read back as written ({what}): "
        "memory or disk of this machine may be failing; nothing of it was sent"
    )
