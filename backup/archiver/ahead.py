"""Files on their way to `Contents`, in the order of the scan; small ones in batches, by a second process.

The process is started when a run has many small files to read; whatever it does not read, and everything
that is not small, is read here when its turn comes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from backup.archiver.contents import Content, Contents, SmallContent
from backup.format.keys import ChunkSecret
from backup.model import MIB
from backup.source.read import FileUnreadableError
from backup.source.reader import MOST_DIRECTORIES, MOST_FILES, MOST_NAMES, ReaderGoneError, ReaderProcess
from backup.source.scan import ScannedDirectory, ScannedEntry
from backup.source.small import Wanted, is_small, seen

_MANY: Final = 2_000  # small files before which a second process would cost more than it saves
_MOST_BYTES: Final = 2 * MIB  # of a batch
_MOST_ASKED: Final = 2  # batches read ahead
_MOST_WAITING: Final = 64  # files that are read here and wait for their turn
_MOST_OPEN: Final = 4 * MOST_DIRECTORIES  # handles of directories of which files wait

Then = Callable[[Content], None]
Failed = Callable[[FileUnreadableError], None]


@dataclass(slots=True)
class _Handle:
    """A directory's handle of our own, for as long as files of it wait."""

    number: int
    users: int = 0


class _File(NamedTuple):
    """A file whose turn has not come."""

    handle: _Handle
    scanned: ScannedEntry
    then: Then
    failed: Failed


@dataclass(slots=True)
class _Batch:
    """Small files that are asked for together; `looked_at` is a moment before any of them was opened."""

    looked_at: int
    files: list[_File] = field(default_factory=list)
    directories: list[_Handle] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    bytes: int = 0
    names: int = 0
    is_asked: bool = False
    most_bytes: int = _MOST_BYTES

    def add(self, file: _File) -> None:
        """One more; it has room if `is_full` was asked before."""
        if not self.directories or self.directories[-1] is not file.handle:
            self.directories.append(file.handle)
        found = file.scanned.stat
        self.wanted.append(Wanted(len(self.directories) - 1, file.scanned.name, seen(found)))
        self.files.append(file)
        self.bytes += found.st_size
        self.names += len(file.scanned.name)

    @property
    def is_full(self) -> bool:
        """Whether the next file may be too much for one question."""
        return (
            len(self.files) >= MOST_FILES
            or len(self.directories) >= MOST_DIRECTORIES
            or self.names >= MOST_NAMES - 255
            or self.bytes >= self.most_bytes
        )


class ReadAhead:
    """For the run's own thread. `close` it at the end, whatever happened; `drain` before that."""

    def __init__(
        self,
        contents: Contents,
        secret: ChunkSecret,
        stamps: Callable[[], int],
        batch_bytes: int = _MOST_BYTES,
    ) -> None:
        self._contents = contents
        self._secret = secret
        self._stamps = stamps
        self._most_bytes = batch_bytes
        self._reader: ReaderProcess | None = None
        self._is_wanted = True
        self._seen = 0
        self._handle: tuple[bytes, _Handle] | None = None
        self._queue: deque[_Batch | _File] = deque()
        self._asked: deque[_Batch] = deque()  # in the order in which they are answered
        self._waiting = 0
        self._open = 0

    def read(self, directory: ScannedDirectory, scanned: ScannedEntry, then: Then, failed: Failed) -> None:
        """Read a file when its turn comes: `then` or `failed` is called, in the order of these calls."""
        small = is_small(scanned.stat)
        self._seen += small
        if not self._queue and (not small or not self._has_reader()):
            self.read_now(directory.handle, scanned, then, failed)
            return
        try:
            handle = self._handle_of(directory)
        except OSError:  # no more handles to be had
            self.drain()
            self.read_now(directory.handle, scanned, then, failed)
            return
        file = _File(handle, scanned, then, failed)
        handle.users += 1
        if small and self._has_reader():
            self._gather(file)
        else:
            self._ask_last()  # or what is gathered after this file would be asked before what was before it
            self._queue.append(file)
            self._waiting += 1
        while len(self._asked) > _MOST_ASKED or self._waiting > _MOST_WAITING or self._open > _MOST_OPEN:
            self._take_turn()

    def drain(self) -> None:
        """Read all that waits."""
        while self._queue:
            self._take_turn()

    def close(self) -> None:
        """End the process, and let go of what still waits."""
        for item in self._queue:
            for file in item.files if isinstance(item, _Batch) else [item]:
                self._release(file.handle)
        self._queue.clear()
        self._end_reader()

    def _gather(self, file: _File) -> None:
        last = self._queue[-1] if self._queue else None
        if not isinstance(last, _Batch) or last.is_asked:
            last = _Batch(self._stamps(), most_bytes=self._most_bytes)
            self._queue.append(last)
        last.add(file)
        if last.is_full:
            self._ask(last)

    def _ask_last(self) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Batch) and not last.is_asked:
            self._ask(last)

    def _ask(self, batch: _Batch) -> None:
        batch.is_asked = True
        self._asked.append(batch)
        if self._reader is not None:
            try:
                self._reader.ask([handle.number for handle in batch.directories], batch.wanted)
            except ReaderGoneError:
                self._end_reader()

    def _take_turn(self) -> None:
        item = self._queue[0]
        if isinstance(item, _Batch):
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
            self.read_now(item.handle.number, item.scanned, item.then, item.failed)
        finally:
            self._release(item.handle)

    def _take(self, batch: _Batch) -> None:
        """Hand on what the process read of a batch, and read the rest here."""
        try:
            small = self._answered(batch)
            left = [file for file, content in zip(batch.files, small, strict=True) if content is None]
            read = [
                (content, file.then)
                for file, content in zip(batch.files, small, strict=True)
                if content is not None
            ]
            self._contents.take_small(read)
            for file in left:
                self.read_now(file.handle.number, file.scanned, file.then, file.failed)
        finally:
            for file in batch.files:
                self._release(file.handle)

    def _answered(self, batch: _Batch) -> list[SmallContent | None]:
        if self._reader is None:
            return [None] * len(batch.files)
        try:
            answer = self._reader.answer()
        except ReaderGoneError:
            self._end_reader()
            return [None] * len(batch.files)
        contents: list[SmallContent | None] = []
        place = start = 0
        for number, (file, was_read) in enumerate(zip(batch.files, answer.were_read, strict=True)):
            if not was_read:
                contents.append(None)
                continue
            found = file.scanned.stat
            end = start + found.st_size
            contents.append(
                SmallContent(
                    found,
                    bytes(answer.ids[32 * place : 32 * place + 32]),
                    bytes(answer.content_ids[16 * place : 16 * place + 16]),
                    answer.data[start:end],
                    answer.attributes.get(number),
                    batch.looked_at,
                )
            )
            place, start = place + 1, end
        return contents

    def read_now(
        self, handle: int, scanned: ScannedEntry, then: Then, failed: Failed
    ) -> os.stat_result | None:
        """Read a file in the open directory `handle` before all that waits; how it looked when opened."""
        try:
            return self._contents.read(handle, scanned.name, then)
        except FileUnreadableError as error:
            failed(error)
            return None

    def _handle_of(self, directory: ScannedDirectory) -> _Handle:
        """Our own handle of the directory that is being walked: the walk's is closed when it moves on."""
        if self._handle is None or self._handle[0] != directory.path or not self._handle[1].users:
            self._handle = directory.path, _Handle(os.dup(directory.handle))
            self._open += 1
        return self._handle[1]

    def _release(self, handle: _Handle) -> None:
        """One file less waits; the last one closes."""
        handle.users -= 1
        if not handle.users:
            self._open -= 1
            os.close(handle.number)

    def _has_reader(self) -> bool:
        if self._reader is None and self._is_wanted and self._seen >= _MANY:
            try:
                self._reader = ReaderProcess(
                    chunk_key=self._secret.chunk_key, content_key=self._secret.content_key
                )
            except OSError:
                self._is_wanted = False  # no process to be had: it is read here
        return self._reader is not None

    def _end_reader(self) -> None:
        self._is_wanted = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None
