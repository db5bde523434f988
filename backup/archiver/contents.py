"""Reads files, cuts them into chunks, computes their ids, and gives them to the pipeline in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Final, NamedTuple

from msgspec import Struct, field

from backup.archiver.pipeline import ChunkRun, Pipeline
from backup.format.chunker import MINIMUM, Chunker
from backup.format.keys import ChunkSecret
from backup.format.naming import chunk_id, content_id
from backup.format.rows import pack_u32
from backup.model import MIB, Buffer, ChunkId, ContentId
from backup.source.attributes import NONE as NO_ATTRIBUTES
from backup.source.attributes import Attributes, read_attributes
from backup.source.freshness import is_fresh, stamp_clock
from backup.source.holes import find_holes
from backup.source.read import Windows, cut_chunks, open_file, read_chunks, same_version
from backup.source.streams import OpenStream

_NO_FILE: Final = os.stat_result([0] * 10)
_BATCH_BYTES: Final = 8 * MIB
_BATCH_CHUNKS: Final = 2048


class Content(NamedTuple):
    """The content read from a file: `found` is its status when opened, `size` includes holes."""

    found: os.stat_result
    size: int
    holes: bytes
    content_id: ContentId
    chunks: bytes
    changed: bool
    is_fresh: bool
    attributes: Attributes = NO_ATTRIBUTES


class _File(Struct):
    """A file whose chunks do not all have numbers yet."""

    found: os.stat_result
    then: Callable[[Content], None]
    ids: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    holes: bytes = b""
    size: int = 0
    is_whole: bool = False
    changed: bool = False
    is_fresh: bool = False
    attributes: Attributes = NO_ATTRIBUTES


class Contents:
    """Reads one file after the other; `then` is called for each once its chunks have numbers.

    For one thread; it has one of its own, which `close` ends. At most one batch (`batch_bytes` and one chunk)
    waits here.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        secret: ChunkSecret,
        stamps: Callable[[], int] = stamp_clock,
        batch_bytes: int = _BATCH_BYTES,
    ) -> None:
        self._pipeline = pipeline
        self._stamps = stamps
        self._most_bytes = batch_bytes
        self._chunk_key = secret.chunk_key
        self._content_key = secret.content_key
        self._seed = secret.chunker_seed
        self._naming = ThreadPoolExecutor(1, "name")
        self._windows = Windows(self.flush)
        self._batch: list[tuple[Future[ChunkId] | ChunkId, Buffer]] = []
        self._batch_bytes = 0
        self._owners: list[_File] = []  # the files of the batch's chunks, in order
        self._waiting: list[_File] = []  # complete files that wait for the batch
        self.bytes_read = 0
        self.files_read = 0
        self.left = 0  # unread bytes of the current file; negative: bytes read of a stream

    @cached_property
    def _cutter(self) -> Chunker:
        """The chunker of this run, made when the first file is read."""
        return Chunker(self._seed)

    def close(self) -> None:
        """Drop what was not flushed, and the buffers: cycles may keep this alive for long."""
        self._naming.shutdown(wait=True, cancel_futures=True)
        self._batch.clear()
        self._windows.close()

    def read(self, handle: int, name: bytes, then: Callable[[Content], None]) -> os.stat_result:
        """Read the file `name` in the open directory `handle`; returns its status when opened.

        A file that changes while it is read is read once more, then kept as read, `changed`.
        `FileUnreadableError` if it cannot be read whole; then it has no content.
        """
        opened = open_file(handle, name)
        try:
            file = self._read_once(opened, then)
            if file.changed:
                os.lseek(opened, 0, os.SEEK_SET)
                file = self._read_once(opened, then)
        finally:
            os.close(opened)
            self.left = 0
        self._keep(file)
        return file.found

    def _keep(self, file: _File) -> None:
        file.is_whole = True
        self._waiting.append(file)
        self.files_read += 1
        if len(self._waiting) >= _BATCH_CHUNKS:
            self.flush()

    def read_stream(self, stream: OpenStream, then: Callable[[Content], None]) -> None:
        """Read a stream to its end; its `finish` must confirm that this was the whole."""
        file = _File(_NO_FILE, then, is_fresh=True)
        before = self.bytes_read
        self._take(file, cut_chunks(stream.fill, stream.size, self._cutter, take=self._windows.take))
        self.left = 0
        file.size = self.bytes_read - before
        stream.finish()
        self._keep(file)

    def take_small(self, runs: Sequence[ChunkRun], files: int) -> list[int]:
        """Take the chunks of `files` that were read elsewhere, at most one each; their numbers in order.

        What was read before them is flushed first.
        """
        self.flush()
        numbers: list[int] = []
        for run in runs:
            numbers.extend(self._pipeline.put_run(run))
            self.bytes_read += len(run.data)
        self.files_read += files
        return numbers

    def flush(self) -> None:
        """Give the batch to the pipeline, and hand on the files that are complete."""
        if self._batch:
            batch = [
                (name.result() if isinstance(name, Future) else name, chunk) for name, chunk in self._batch
            ]
            numbers = self._pipeline.put(batch)
            for file, (chunk_name, _), number in zip(self._owners, batch, numbers, strict=True):
                file.ids.append(chunk_name)
                file.numbers.append(number)
            self._batch, self._owners, self._batch_bytes = [], [], 0
        self._windows.are_free()
        waiting, self._waiting = self._waiting, []
        for file in waiting:
            file.then(self._content(file))

    def _read_once(self, opened: int, then: Callable[[Content], None]) -> _File:
        looked_at = self._stamps()
        found = os.fstat(opened)
        file = _File(found, then, is_fresh=is_fresh(found, looked_at, looked_at))
        self.left = found.st_size
        sparse = find_holes(opened, found)
        if sparse is None:
            self._take(file, read_chunks(opened, found.st_size, self._cutter, self._windows.take))
            file.size = sum(file.lengths)
        else:
            self._take(file, sparse.chunks(self._cutter))
            file.size, file.holes = sparse.size, sparse.holes
        file.attributes = read_attributes(opened)  # a change of these also changes the file's ctime
        file.changed = not same_version(found, os.fstat(opened))
        return file

    def _take(self, file: _File, chunks: Iterator[memoryview]) -> None:
        for chunk in chunks:
            file.lengths.append(len(chunk))
            self._batch.append((self._name(chunk), chunk))
            self._owners.append(file)
            self._batch_bytes += len(chunk)
            self.bytes_read += len(chunk)
            self.left -= len(chunk)
            if self._batch_bytes >= self._most_bytes or len(self._batch) >= _BATCH_CHUNKS:
                self.flush()

    def _name(self, chunk: memoryview) -> Future[ChunkId] | ChunkId:
        """Compute a chunk's id; for a large one, on the thread beside the reading of the next."""
        if len(chunk) < MINIMUM:
            return chunk_id(self._chunk_key, chunk)
        return self._naming.submit(chunk_id, self._chunk_key, chunk)

    def _content(self, file: _File) -> Content:
        if len(file.numbers) != len(file.lengths):
            raise AssertionError("a file was handed on before its chunks were numbered")
        identity = content_id(self._content_key, file.ids, file.lengths, file.holes)
        return Content(
            found=file.found,
            size=file.size,
            holes=file.holes,
            content_id=identity,
            chunks=pack_u32(file.numbers),
            changed=file.changed,
            is_fresh=file.is_fresh,
            attributes=file.attributes,
        )
