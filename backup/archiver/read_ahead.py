"""The queue of files before `Contents`, in scan order; other processes read small files in batches.

These processes are started when a run has many small files to read (`readers`); all other files are read here
in their turn.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, cast

from msgspec import Struct

from backup.archiver.contents import Content, Contents
from backup.archiver.pipeline import ChunkRun
from backup.archiver.readers import Batch, Handle, Readers
from backup.format.keys import ChunkSecret
from backup.format.naming import content_id
from backup.format.rows import pack_u32
from backup.inventory.content.entries import LiveEntry
from backup.model import MIB, ChunkId, ContentId
from backup.source.attributes import NONE as NO_ATTRIBUTES
from backup.source.attributes import Attributes
from backup.source.freshness import is_fresh
from backup.source.read import FileUnreadableError
from backup.source.scanned import ScannedDirectory, ScannedEntry, StatusColumns
from backup.source.small import FEW_FILES, MOST_DIRECTORIES, MOST_FILES, ReadBatch, is_small

_MOST_BYTES: Final = 2 * MIB  # in a batch
_BATCHES_OF_FEW: Final = 32  # the first ones
MOST_WAITING: Final = 64  # files to read here, waiting for their turn
_MOST_OPEN: Final = 4 * MOST_DIRECTORIES  # handles of directories with waiting files

Then = Callable[[Content], None]
Failed = Callable[[FileUnreadableError], None]


class SmallFiles(Struct, frozen=True):
    """New small files that were read, in columns; `rows` are their indexes in the columns of the scan.

    `chunks` holds each file's chunk number as `pack_u32` has it, no bytes for an empty file; `content_ids`
    are 16 bytes each. `directories` are paths, and `at` is the index of a file's directory among them.
    `looked_at` is a moment before any of them was opened, in ns. `directories`, `at`, `found` and `lives`
    are the scan's.
    """

    rows: Sequence[int]
    chunks: Sequence[bytes]
    content_ids: Sequence[ContentId]
    attributes: Mapping[int, Attributes]
    looked_at: int
    directories: Sequence[bytes]
    at: Sequence[int]
    found: StatusColumns
    lives: Sequence[LiveEntry | None]

    def path(self, row: int) -> bytes:
        """The absolute path of the file in this row."""
        return self.directories[self.at[row]].rstrip(b"/") + b"/" + self.found.names[row]

    def content(self, index: int) -> Content:
        """Return the content of the file at `index` of `rows`, as if it had been read alone."""
        row = self.rows[index]
        found = self.found.status(row)
        return Content(
            found,
            found.st_size,
            b"",
            self.content_ids[index],
            self.chunks[index],
            changed=False,
            is_fresh=is_fresh(found, self.looked_at, self.looked_at),
            attributes=self.attributes.get(row, NO_ATTRIBUTES),
        )


class Taker(Protocol):
    """The receiver of files whose chunks have numbers."""

    def file_read(self, path: bytes, live: LiveEntry | None, content: Content) -> None:
        """Take a file that was read; `live` is its entry in the newest snapshot."""

    def file_lost(self, path: bytes, error: FileUnreadableError) -> None:
        """Take a file that could not be read."""

    def small_read(self, files: SmallFiles) -> None:
        """Take small files that were read together."""


class _WaitingFile(NamedTuple):
    """A file whose turn has not come."""

    handle: Handle
    name: bytes
    live: LiveEntry | None


class ReadAhead:
    """The queue of files to read, for the run's own thread; `drain` it, and always `close` it."""

    def __init__(
        self,
        contents: Contents,
        taker: Taker,
        secret: ChunkSecret,
        stamps: Callable[[], int],
        batch_bytes: int = _MOST_BYTES,
        *,
        readers: int = 1,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """At most so many `readers` (processes) are started; `warn` gets a sentence if none can be."""
        self._contents = contents
        self._taker = taker
        self._secret = secret
        self._stamps = stamps
        self._most_bytes = batch_bytes
        self._readers = Readers(secret, batch_bytes, most=readers, warn=warn)
        self._handle: Handle | None = None
        self._queue: deque[Batch | _WaitingFile] = deque()
        self._asked: deque[Batch] = deque()  # in the order of their answers
        self._batches = 0
        self._waiting = 0
        self._open = 0

    def read(self, directory: ScannedDirectory, scanned: ScannedEntry, live: LiveEntry | None) -> None:
        """Read a file in its turn: the taker is called in the order of these calls."""
        small = is_small(scanned.stat) and self._readers.for_one_more()
        if not small and not self._queue:
            self._read_now(directory.handle, directory.path, scanned.name, live)
            return
        try:
            handle = self._handle_of(directory)
        except OSError:  # no more handles available
            self.drain()
            self._read_now(directory.handle, directory.path, scanned.name, live)
            return
        if small:
            self._gather(handle, scanned, live)
        else:
            self._ask_last()  # keeps the order: this batch before what comes after this file
            self._queue.append(_WaitingFile(handle, scanned.name, live))
            handle.users += 1
            self._waiting += 1
        self._keep_bounds()

    def read_new(self, directory: ScannedDirectory, columns: StatusColumns, files: range) -> None:
        """Read new small files (`small_runs`) of a directory, as `read` would, one after the other."""
        while files:
            handle = self._handle_to_wait(directory) if self._readers.are_there else None
            if handle is None:
                self.read(directory, directory.entries[files[0]], None)
                files = files[1:]
                continue
            batch = self._filling_batch()
            files = files[batch.add_new(handle, columns, files) :]
            if batch.is_full:
                self._ask(batch)
            self._keep_bounds()

    def _handle_to_wait(self, directory: ScannedDirectory) -> Handle | None:
        try:
            return self._handle_of(directory)
        except OSError:  # no more handles available: `read` does what can be done then
            return None

    def _keep_bounds(self) -> None:
        while self._asked and not self._readers.have_room:
            self._take_turn()
        while self._waiting > MOST_WAITING or self._open > _MOST_OPEN:
            self._take_turn()

    def drain(self) -> None:
        """Read all waiting files."""
        while self._queue:
            self._take_turn()

    def close(self) -> None:
        """End the processes and drop all waiting files."""
        for queued in self._queue:
            self._release(queued.handles if isinstance(queued, Batch) else [queued.handle])
        self._queue.clear()
        self._readers.close()

    def _filling_batch(self) -> Batch:
        """The batch at the end of the queue that takes more files."""
        last = self._queue[-1] if self._queue else None
        if not isinstance(last, Batch) or last.is_asked:
            self._batches += 1
            most_files = FEW_FILES if self._batches <= _BATCHES_OF_FEW else MOST_FILES
            last = Batch(self._stamps(), self._most_bytes, most_files)
            self._queue.append(last)
        return last

    def _gather(self, handle: Handle, scanned: ScannedEntry, live: LiveEntry | None) -> None:
        last = self._filling_batch()
        last.add(handle, scanned, live)
        if last.is_full:
            self._ask(last)

    def _ask_last(self) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Batch) and not last.is_asked:
            self._ask(last)

    def _ask(self, batch: Batch) -> None:
        batch.is_asked = True
        self._asked.append(batch)
        self._readers.ask(batch)

    def _take_turn(self) -> None:
        item = self._queue[0]
        if isinstance(item, Batch):
            if not item.is_asked:
                self._ask(item)
            if self._asked.popleft() is not item:
                raise AssertionError("files would be given the contents of others")
            self._queue.popleft()
            self._take(item)
            return
        self._queue.popleft()
        self._waiting -= 1
        try:
            self._read_now(item.handle.number, item.handle.path, item.name, item.live)
        finally:
            self._release([item.handle])

    def _take(self, batch: Batch) -> None:
        """Hand on the files of a batch that a process read, and read the rest here."""
        try:
            answer = self._readers.answer()
            left: Iterable[int] = range(len(batch.at))
            if answer is not None:
                files = self._taken(batch, answer)
                self._taker.small_read(files)
                left = set(left).difference(files.rows)
            for row in sorted(left):
                handle = batch.handles[batch.at[row]]
                self._read_now(handle.number, handle.path, batch.found.names[row], batch.lives[row])
        finally:
            self._release(batch.handles)

    def _taken(self, batch: Batch, answer: ReadBatch) -> SmallFiles:
        """Give the chunks that were read to `contents`; returns the files with their numbers."""
        empty, loose, dense, ids, named, attributes = answer.read
        rows = [*empty, *loose, *dense]
        sizes = list(map(batch.found.sizes.__getitem__, rows[len(empty) :]))
        chunks = cast("list[ChunkId]", [ids[start : start + 32] for start in range(0, len(ids), 32)])
        middle = len(loose)
        numbers = self._contents.take_small(
            [
                ChunkRun(chunks[:middle], sizes[:middle], answer.loose, is_dense=False),
                ChunkRun(chunks[middle:], sizes[middle:], answer.dense, is_dense=True),
            ],
            len(rows),
        )
        packed = pack_u32(numbers)
        nothing = content_id(self._secret.content_key, [], [])
        content_ids = [named[start : start + 16] for start in range(0, len(named), 16)]
        return SmallFiles(
            rows=rows,
            chunks=[b""] * len(empty) + [packed[start : start + 4] for start in range(0, len(packed), 4)],
            content_ids=cast("list[ContentId]", [nothing] * len(empty) + content_ids),
            attributes=attributes,
            looked_at=batch.looked_at,
            directories=[handle.path for handle in batch.handles],
            at=batch.at,
            found=batch.found,
            lives=batch.lives,
        )

    def _read_now(self, handle: int, directory: bytes, name: bytes, live: LiveEntry | None) -> None:
        path = directory.rstrip(b"/") + b"/" + name
        then = partial(self._taker.file_read, path, live)
        before = live.chunks if live is not None else None
        self.read_now(handle, name, then, partial(self._taker.file_lost, path), before)

    def read_now(
        self, handle: int, name: bytes, then: Then, failed: Failed, before: bytes | None = None
    ) -> os.stat_result | None:
        """Read a file in the open directory `handle` before all waiting ones; returns its status when opened.

        `before` are the chunks of its earlier version.
        """
        try:
            return self._contents.read(handle, name, then, before)
        except FileUnreadableError as error:
            failed(error)
            return None

    def _handle_of(self, directory: ScannedDirectory) -> Handle:
        """Our own handle of the directory being walked: the walk closes its own when it moves on."""
        handle = self._handle
        if handle is None or handle.path != directory.path or not handle.users:
            handle = self._handle = Handle(os.dup(directory.handle), directory.path)
            self._open += 1
        return handle

    def _release(self, handles: Iterable[Handle]) -> None:
        """Count down the waiting files of each handle; the last one closes it."""
        for handle in handles:
            handle.users -= 1
            if not handle.users:
                self._open -= 1
                os.close(handle.number)
