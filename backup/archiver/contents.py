"""Reads files, cuts them into chunks, computes chunk ids, and passes batches of chunks to the pipeline."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from typing import Final, NamedTuple

from msgspec import Struct, field

from backup.archiver.pipeline import ChunkRun, Pipeline
from backup.archiver.predicted_cuts import LEAST_CHUNKS, MOST_CHUNKS, EarlierChunks, PredictedCuts
from backup.format.chunker import MINIMUM, Chunker
from backup.format.frame import FRAME_SIZE
from backup.format.keys import ChunkSecret
from backup.format.naming import chunk_id, content_id
from backup.format.rows import pack_u32, unpack_u32
from backup.model import MIB, ChunkId, ContentId
from backup.source.attributes import NONE as NO_ATTRIBUTES
from backup.source.attributes import Attributes, read_attributes
from backup.source.freshness import is_fresh, stamp_clock
from backup.source.holes import find_holes
from backup.source.read import (
    Cutter,
    FileUnreadableError,
    Span,
    Windows,
    cut_chunks,
    open_file,
    read_chunks,
    same_version,
)
from backup.source.scanned import LARGEST_FILE, TOO_LARGE
from backup.source.streams import OpenStream

_NO_FILE: Final = os.stat_result([0] * 10)
_BATCH_BYTES: Final = 8 * MIB
_BATCH_CHUNKS: Final = 1024


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


class _Run(Struct):
    """Chunks that follow each other in a window, from `start` to `end`."""

    window: memoryview
    start: int
    end: int
    names: list[Future[ChunkId] | ChunkId] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def is_before(self, span: Span) -> bool:
        """Whether the span directly follows."""
        return self.window is span.window and self.end == span.start

    def named(self) -> ChunkRun:
        """Return the run of chunks once all ids are computed; small windows may be kept without a copy."""
        names = [name.result() if isinstance(name, Future) else name for name in self.names]
        return ChunkRun(
            names,
            self.lengths,
            self.window[self.start : self.end],
            is_dense=False,
            may_be_kept=len(self.window) <= FRAME_SIZE,
        )


class _WaitingChunks(Struct):
    """Chunks that wait for their numbers, in order."""

    runs: list[_Run] = field(default_factory=list)
    owners: list[_File] = field(default_factory=list)  # whose they are, in order
    files: list[_File] = field(default_factory=list)  # complete once these chunks have numbers
    size: int = 0


class Contents:
    """Reads one file after the other; `then` is called for each once all its chunks have numbers.

    For one thread; it has some of its own, which `close` ends. Two batches wait here: one fills while the ids
    of the one before are computed. A batch of at least a quarter of `batch_bytes` ends with its read window.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        secret: ChunkSecret,
        stamps: Callable[[], int] = stamp_clock,
        batch_bytes: int = _BATCH_BYTES,
        *,
        earlier: Callable[[Sequence[int]], EarlierChunks | None] = lambda _: None,
        workers: int = 2,
    ) -> None:
        """`earlier` gives the chunks of those numbers, None unless all are known; `workers` compute ids."""
        self._earlier = earlier
        self._workers = workers
        self._pipeline = pipeline
        self._stamps = stamps
        self._most_bytes = batch_bytes // 2
        self._chunk_key = secret.chunk_key
        self._content_key = secret.content_key
        self._seed = secret.chunker_seed
        self._naming = ThreadPoolExecutor(workers, "name")
        self._windows = Windows(pipeline.buffers)
        self._older, self._filling = _WaitingChunks(), _WaitingChunks()
        self.bytes_read = 0
        self.files_read = 0
        self.left = 0  # unread bytes of the current file; negative: bytes read of a stream

    @cached_property
    def _cutter(self) -> Chunker:
        """The chunker of this run, made when the first file is read."""
        return Chunker(self._seed)

    def close(self) -> None:
        """Drop what was not flushed, and the buffers, as reference cycles may keep this object alive."""
        self._naming.shutdown(wait=True, cancel_futures=True)
        self._older, self._filling = _WaitingChunks(), _WaitingChunks()
        self._windows.close()

    def read(
        self, handle: int, name: bytes, then: Callable[[Content], None], before: bytes | None = None
    ) -> os.stat_result:
        """Read the file `name` in the open directory `handle`; returns its status when opened.

        `before` are the chunks of its earlier version, which save most of the cutting if most are unchanged.
        A file that changes while it is read is read once more, then kept as read, `changed`.
        `FileUnreadableError` if it cannot be read whole; then it has no content.
        """
        opened = open_file(handle, name)
        try:
            file = self._read_once(opened, then, before)
            if file.changed:
                os.lseek(opened, 0, os.SEEK_SET)
                file = self._read_once(opened, then, before)
        finally:
            os.close(opened)
            self.left = 0
        self._keep(file)
        return file.found

    def _keep(self, file: _File) -> None:
        file.is_whole = True
        self._filling.files.append(file)
        self.files_read += 1
        if len(self._filling.files) >= _BATCH_CHUNKS:
            self._begin_batch()

    def read_stream(
        self, stream: OpenStream, then: Callable[[Content], None], before: bytes | None = None
    ) -> None:
        """Read a stream to its end; its `finish` must confirm that this was the whole.

        `before` are the chunks of its earlier version.
        """
        file = _File(_NO_FILE, then, is_fresh=True)
        begun_at = self.bytes_read
        cutter, names = self._cutter_of(before)
        self._take(file, cut_chunks(stream.fill, stream.size, cutter, take=self._window), names)
        self.left = 0
        file.size = self.bytes_read - begun_at
        stream.finish()
        self._keep(file)

    def take_small(self, runs: Sequence[ChunkRun], files: int) -> list[int]:
        """Add the chunks of `files` read elsewhere, at most one each; returns their numbers in order.

        Everything read before is flushed first.
        """
        self.flush()
        self.bytes_read += sum(len(run.data) for run in runs)
        self.files_read += files
        return self._pipeline.put(runs)

    def flush(self) -> None:
        """Pass all chunks to the pipeline, and hand on the files that are complete."""
        self._begin_batch()
        self._begin_batch()

    def _begin_batch(self) -> None:
        """Let the next batch fill: that before the last goes to the pipeline."""
        ready, self._older, self._filling = self._older, self._filling, _WaitingChunks()
        if ready.runs:
            runs = [run.named() for run in ready.runs]
            numbers = self._pipeline.put(runs)
            names = chain.from_iterable(run.ids for run in runs)
            for file, name, number in zip(ready.owners, names, numbers, strict=True):
                file.ids.append(name)
                file.numbers.append(number)
        for file in ready.files:
            file.then(self._content(file))

    def _window(self, size: int) -> memoryview:
        """Room for the next window; before a third large one, the chunks of the first are handed on."""
        if size > FRAME_SIZE:
            self._begin_batch()
        return self._windows.take(size)

    def _read_once(self, opened: int, then: Callable[[Content], None], before: bytes | None) -> _File:
        looked_at = self._stamps()
        found = os.fstat(opened)
        if found.st_size > LARGEST_FILE:
            raise FileUnreadableError(TOO_LARGE)
        file = _File(found, then, is_fresh=is_fresh(found, looked_at, looked_at))
        self.left = found.st_size
        sparse = find_holes(opened, found)
        cutter, names = self._cutter_of(before)
        if sparse is None:
            self._take(file, read_chunks(opened, found.st_size, cutter, self._window), names)
            file.size = sum(file.lengths)
        else:
            self._take(file, sparse.chunks(cutter, self._window), names)
            file.size, file.holes = sparse.size, sparse.holes
        file.attributes = read_attributes(opened)  # a change of these also changes the file's ctime
        file.changed = not same_version(found, os.fstat(opened))
        return file

    def _cutter_of(self, before: bytes | None) -> tuple[Cutter, deque[ChunkId | None]]:
        """The cutter for a file that had these chunks, and the queue that it fills with the names known."""
        if before is not None and len(before) >= LEAST_CHUNKS * 4:
            earlier = self._earlier(unpack_u32(before[: MOST_CHUNKS * 4]))
            if earlier is not None:
                cuts = PredictedCuts(self._cutter, earlier, self._begin_name, self._workers + 1)
                return cuts, cuts.names
        return self._cutter, deque()

    def _take(self, file: _File, spans: Iterator[Span], names: deque[ChunkId | None]) -> None:
        for span in spans:
            name = names.popleft() if names else None
            length = span.end - span.start
            file.lengths.append(length)
            run = self._run_for(span)
            run.names.append(name or self._name(span.view))
            run.lengths.append(length)
            run.end = span.end
            self._filling.owners.append(file)
            self._filling.size += length
            self.bytes_read += length
            self.left -= length

    def _run_for(self, span: Span) -> _Run:
        """The run that the span continues, or a new one, in a new batch if there is enough in this."""
        batch = self._filling
        run = batch.runs[-1] if batch.runs else None
        # A small window is in memory until its end anyway.
        may_grow = len(span.window) <= FRAME_SIZE or batch.size < self._most_bytes
        if run is not None and may_grow and run.is_before(span):
            return run
        if batch.size >= self._most_bytes // 2 or len(batch.owners) >= _BATCH_CHUNKS:
            self._begin_batch()
        self._filling.runs.append(run := _Run(span.window, span.start, span.start))
        return run

    def _name(self, chunk: memoryview) -> Future[ChunkId] | ChunkId:
        """Compute a chunk's id; for a large one, on the thread beside the reading of the next."""
        if len(chunk) < MINIMUM:
            return chunk_id(self._chunk_key, chunk)
        return self._begin_name(chunk)

    def _begin_name(self, chunk: memoryview) -> Future[ChunkId]:
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
