"""Batches of small files, and the processes that read them; more are started as there is more to read.

If one cannot be started or dies, one warning is given, and the caller reads all files itself from then on.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from itertools import accumulate, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from backup.errors import WorkerGoneError
from backup.format.keys import ChunkSecret
from backup.inventory.content.entries import LiveEntry
from backup.source.scanned import ScannedEntry, StatusColumns
from backup.source.small import MOST_DIRECTORIES, MOST_NAMES, MOST_REQUESTS, ReadBatch
from backup.workers.pool import Pool

if TYPE_CHECKING:
    from backup.source.reader import ReaderProcess

MANY_SMALL_FILES: Final = 2_000
"""From so many small files on, a process beside this one pays off."""

MANY_BATCHES: Final = 8
"""After so many requested batches for each process, one more is started."""

_ALONE: Final = "small files were read by the first process alone: the one beside it"
_LONGEST: Final = 255  # of names


class Handle(Struct):
    """An open directory handle of our own, kept while files in it wait."""

    number: int
    path: bytes
    users: int = 0


class Batch(Struct):
    """At most so many small files requested together; `looked_at` is a moment before any of them was opened.

    `at` holds each file's index in `handles`, `lives` its entry in the newest snapshot.
    """

    looked_at: int
    most_bytes: int
    most_files: int
    handles: list[Handle] = field(default_factory=list)
    at: array[int] = field(default_factory=lambda: array("H"))
    found: StatusColumns = field(default_factory=StatusColumns.new)
    lives: list[LiveEntry | None] = field(default_factory=list)
    bytes: int = 0
    names: int = 0
    is_asked: bool = False

    def add(self, handle: Handle, scanned: ScannedEntry, live: LiveEntry | None) -> None:
        """Add a file; call `is_full` before."""
        self._use(handle)
        self.at.append(len(self.handles) - 1)
        self.found.add(scanned.name, scanned.stat)
        self.lives.append(live)
        self.bytes += scanned.stat.st_size
        self.names += len(scanned.name)

    def add_new(self, handle: Handle, columns: StatusColumns, files: range) -> int:
        """Add new files, from the first on, as many as fit into one request; call `is_full` before."""
        some = slice(files.start, min(files.stop, files.start + self.most_files - len(self.at)))
        sizes, names = columns.sizes[some], list(map(len, columns.names[some]))
        most, size, length = len(names), sum(sizes), sum(names)
        if self.bytes + size >= self.most_bytes or self.names + length >= MOST_NAMES - _LONGEST:
            most = 1 + min(
                bisect_left(list(accumulate(sizes)), self.most_bytes - self.bytes),
                bisect_left(list(accumulate(names)), MOST_NAMES - _LONGEST - self.names),
                most - 1,
            )
            size, length = sum(sizes[:most]), sum(names[:most])
        self._use(handle)
        self.at.extend(repeat(len(self.handles) - 1, most))
        self.found.add_some(columns, files.start, files.start + most)
        self.lives += repeat(None, most)
        self.bytes += size
        self.names += length
        return most

    def _use(self, handle: Handle) -> None:
        if not self.handles or self.handles[-1] is not handle:
            self.handles.append(handle)
            handle.users += 1

    @property
    def is_full(self) -> bool:
        """Whether the next file may not fit into the request."""
        return (
            self.bytes >= self.most_bytes
            or len(self.at) >= self.most_files
            or len(self.handles) >= MOST_DIRECTORIES
            or self.names >= MOST_NAMES - _LONGEST
        )


class Readers:
    """At most `most` reader processes, for the run's own thread; always `close` it."""

    def __init__(
        self, secret: ChunkSecret, batch_bytes: int, *, most: int, warn: Callable[[str], None]
    ) -> None:
        """`batch_bytes` is the size of a batch; `warn` is called with a sentence if there is no process."""
        self._secret = secret
        self._batch_bytes = batch_bytes
        self._pool = Pool(self._started, most, warn, _ALONE)
        self._asked: deque[ReaderProcess | None] = deque()  # in the order of the questions
        self._seen = 0
        self._batches = 0

    @property
    def are_there(self) -> bool:
        """Whether there is a reader process."""
        return bool(self._pool.workers)

    def for_one_more(self) -> bool:
        """Whether a process can read one more small file; the first one is started after very many files."""
        if self.are_there:
            return True
        self._seen += 1
        if self._seen > MANY_SMALL_FILES:
            self._pool.start_one()
        return self.are_there

    @property
    def have_room(self) -> bool:
        """Whether a process can take a request before another answer is taken."""
        return any(reader.unanswered < MOST_REQUESTS for reader in self._pool.workers)

    def ask(self, batch: Batch) -> None:
        """Request a batch; one must `have_room`, if there are any."""
        if not self.are_there:
            self._asked.append(None)
            return
        self._batches += 1
        if self._batches > MANY_BATCHES * len(self._pool.workers):
            self._pool.start_one()
        reader = min(self._pool.workers, key=attrgetter("unanswered"))
        self._asked.append(reader)
        try:
            reader.ask([handle.number for handle in batch.handles], batch.at, batch.found)
        except WorkerGoneError as error:
            self._give_up(reader, error)

    def answer(self) -> ReadBatch | None:
        """Return the answer to the oldest request; None if no process can give it."""
        reader = self._asked.popleft()
        if reader is None or not self.are_there:
            return None
        try:
            return reader.answer()
        except WorkerGoneError as error:
            self._give_up(reader, error)
            return None

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _started(self) -> ReaderProcess:
        from backup.source.reader import ReaderProcess

        return ReaderProcess(
            chunk_key=self._secret.chunk_key,
            content_key=self._secret.content_key,
            batch_bytes=self._batch_bytes,
        )

    def _give_up(self, reader: ReaderProcess, error: WorkerGoneError) -> None:
        """Ask nobody from now on: one is gone, with its unanswered questions."""
        self._pool.give_up(reader, error)
        self._pool.close()
