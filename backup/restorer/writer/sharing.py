"""Divides small files among processes: workers always have a few queued, the main process makes the rest.

Workers may still work on the previous frame when the next one comes: `under_way` is the number of latest
frames that are unfinished and must not be recorded. Another process is started when a restore has many small
files and all workers are busy; the main process creates the files that no worker takes. If a worker cannot be
started or dies, a warning is given, and the others go on.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter, sub
from typing import Final, NamedTuple

from backup.errors import WorkerGoneError
from backup.format.frame import LARGEST_FRAME
from backup.model import KIB, Problem, ProblemKind
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import NewFiles
from backup.restorer.writer.maker import MOST_DIRECTORIES, MOST_FILES, Lent, MakerProcess
from backup.restorer.writer.making import Made
from backup.restorer.writer.metadata import Report
from backup.restorer.writer.write import Writer
from backup.workers.messages import close_all
from backup.workers.pool import Pool

LARGEST: Final = 256 * KIB  # larger files cost more to write than to create
MANY_SMALL_FILES: Final = 2_000  # from so many files on, a second process pays off
_MOST_BYTES: Final = 256 * KIB  # in a batch
UNDER_WAY: Final = 4  # batches for each process: enough work while the first process handles a frame
FEW_FILES: Final = 32  # in a batch; more where so many follow each other that each process has some batches
_SOME: Final = 8  # batches
MOST_LENT: Final = 896  # handles under way to all processes: a user who is not root may have 1,024
_ALONE: Final = "small files were made by one process instead of two: the second"
_FEWER: Final = "small files were made by fewer processes than there are cores: one"
_ALL: Final = slice(None)


class _FrameFiles(NamedTuple):
    """Files with their keys, of the frame of that number."""

    keys: Sequence[int]
    files: NewFiles
    frame: memoryview
    number: int


@dataclass(slots=True)
class _Maker:
    """A worker, with what it was asked and has not answered, oldest first."""

    process: MakerProcess
    most_lent: int  # handles under way when it is asked for more
    asked: deque[_FrameFiles] = field(default_factory=deque)
    has_frame: int = 0  # the newest frame in its memory

    @property
    def files(self) -> int:
        """Number of unfinished files."""
        return sum(len(batch.keys) for batch in self.asked)

    def has_room(self, most_files: int) -> bool:
        """Whether it can take another request; `most_files` is the limit of unfinished files."""
        lent = sum(len(batch.files.paths) for batch in self.asked)
        return self.files < most_files and lent <= self.most_lent

    def close(self) -> None:
        """End the process."""
        self.process.close()


class Sharing:
    """The division of work; for use from one thread. Always `close` it at the end.

    `lost` is called with the keys of files that could not be created (and were reported), `spoilt` with those
    whose chunk does not match its id, `warn` with a sentence if the process was needed and is not available.
    """

    def __init__(
        self,
        entries: Entries,
        writer: Writer,
        report: Report,
        lost: Callable[[int], None],
        spoilt: Callable[[int], None],
        *,
        chunk_key: bytes,
        files: int,
        makers: int = 1,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`files` is roughly the number of small files to come; at most so many `makers` are started."""
        self._entries = entries
        self._writer = writer
        self._report = report
        self._lost = lost
        self._spoilt = spoilt
        self._chunk_key = chunk_key
        most = makers if files >= MANY_SMALL_FILES and hasattr(os, "memfd_create") else 0
        self._pool = Pool(self._started, most, warn, _ALONE if makers == 1 else _FEWER, misses_any=True)
        self._share = max(1, MOST_LENT // max(1, makers))  # handles under way to one
        self._most_directories = min(MOST_DIRECTORIES, self._share)  # of a batch
        self._frame = memoryview(b"")
        self._number = 0  # of the frame
        self._keys: list[int] = []  # of the files that are gathered
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._most_files = FEW_FILES  # in a batch
        self._has_failed = False  # during a batch: its outcome is unknown
        self._written = 0

    def begin(self, frame: memoryview) -> None:
        """Start on this frame; files of the previous one may still be unfinished."""
        self._take_answers(self._number - 1, waits=True)  # its half of the buffer is needed
        self._frame = frame
        self._number += 1

    def add(
        self, keys: Sequence[int], starts: Sequence[int], ends: Sequence[int], chunks: Sequence[bytes]
    ) -> None:
        """Have files created; the only chunk of each is `starts` to `ends` of the frame."""
        self._most_files = min(MOST_FILES, max(FEW_FILES, len(keys) // (_SOME * (self._pool.most + 1))))
        totals = [*accumulate(map(sub, ends, starts), initial=self._bytes)]
        first, before = 0, 0
        while first < len(keys):
            end = bisect_left(totals, before + _MOST_BYTES, first + 1)
            end = min(end, first + max(1, self._most_files - len(self._keys)))
            self._gather(slice(first, end), keys, starts, ends, chunks)
            self._bytes = totals[min(end, len(keys))] - before
            if end <= len(keys):
                self._hand_out()
                before = totals[end]
            first = end

    def _gather(
        self,
        which: slice,
        keys: Sequence[int],
        starts: Sequence[int],
        ends: Sequence[int],
        chunks: Sequence[bytes],
    ) -> None:
        self._keys += keys[which]
        self._starts += starts[which]
        self._ends += ends[which]
        self._chunks += chunks[which]

    def end(self) -> int:
        """End the frame; returns the bytes written since the last call."""
        if self._keys:
            self._hand_out()
        self._frame = memoryview(b"")
        written, self._written = self._written, 0
        return written

    @property
    def under_way(self) -> int:
        """Number of latest frames that are unfinished."""
        oldest = min(
            (maker.asked[0].number for maker in self._pool.workers if maker.asked), default=self._number + 1
        )
        return self._number - oldest + 1

    def settle(self) -> int:
        """Wait until all files are created, unless that failed before; returns bytes as `end` does."""
        written = self.end()
        self._take_answers(self._number, waits=True)
        return written + self.end()

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _hand_out(self) -> None:
        """Give the gathered files to another process, unless the queues of all are full."""
        gathered = self._keys, self._starts, self._ends, self._chunks
        self._keys, self._starts, self._ends, self._chunks, self._bytes = [], [], [], [], 0
        self._take_answers(self._number, waits=False)
        for batch in self._batches(*gathered):
            if not self._ask(batch):
                self._make(batch)

    def _batches(
        self, keys: Sequence[int], starts: Sequence[int], ends: Sequence[int], chunks: Sequence[bytes]
    ) -> Iterator[_FrameFiles]:
        """These files as one batch, or as several if they are in very many directories."""
        files = self._entries.new_files(keys, starts, ends, chunks, self._writer.ids)
        most = self._most_directories
        if len(files.paths) <= most:
            yield _FrameFiles(keys, files, self._frame, self._number)
            return
        for at in range(0, len(keys), most):
            some = slice(at, at + most)
            yield from self._batches(keys[some], starts[some], ends[some], chunks[some])

    def _make(self, batch: _FrameFiles, which: slice = _ALL) -> None:
        """Create files of a batch here."""
        files, made = batch.files.some(which), bytearray()
        try:
            self._writer.make_small(files, batch.frame, self._chunk_key, made)
        finally:
            self._note(batch.keys[which], files, made)

    def _note(self, keys: Sequence[int], files: NewFiles, made: bytes | bytearray) -> None:
        """Record the outcomes of the first files."""
        if made.count(Made.WHOLE) == len(files.names):
            self._written += sum(files.ends) - sum(files.starts)
            return
        for key, start, end, outcome in zip(keys, files.starts, files.ends, made, strict=False):
            if outcome == Made.WHOLE:
                self._written += end - start
            elif outcome == Made.DAMAGED:
                self._spoilt(key)
            else:
                self._lost(key)

    def _ask(self, batch: _FrameFiles) -> bool:
        """Send files to another process; False if all are busy or gone."""
        maker = self._free()
        if maker is None:
            return False
        start = self._number % 2 * LARGEST_FRAME
        if maker.has_frame != self._number:
            maker.process.memory[start : start + len(self._frame)] = self._frame
            maker.has_frame = self._number
        starts, ends = ([start + at for at in column] for column in (batch.files.starts, batch.files.ends))
        lent: list[Lent] = []
        try:
            for path in batch.files.paths:
                lent.append(self._writer.lend(path))  # noqa: PERF401 - those before a failure are closed
            maker.process.ask(lent, batch.files._replace(starts=starts, ends=ends))
            maker.asked.append(batch)
        except WorkerGoneError as error:
            self._go_on_without(maker, error)
            return False
        except OSError:  # a directory is gone: creating the files here reports it
            return False
        finally:
            close_all(directory.handle for directory in lent)
        return True

    def _take_answers(self, newest: int, *, waits: bool) -> None:
        """Take the answers for frames up to this number: all of them, or those that are there."""
        for maker in tuple(self._pool.workers):
            while maker.asked and maker.asked[0].number <= newest and self._take_answer(maker, waits=waits):
                pass

    def _take_answer(self, maker: _Maker, *, waits: bool) -> bool:
        """Record the oldest batch's result and create here what was left; False if it is not known yet.

        The batch counts as under way until all of that is done: after a failure in between it stays so.
        """
        if self._has_failed:
            return False
        try:
            answer = maker.process.answer() if waits else maker.process.answer_if_any()
        except WorkerGoneError as error:
            self._go_on_without(maker, error)
            return True
        if answer is None:
            return False
        self._has_failed = True
        batch = maker.asked[0]
        for index, detail in answer.troubles:
            path = self._entries[batch.keys[index]].path
            self._report(Problem(path, ProblemKind.NOT_SET, detail))
        sizes = map(sub, batch.files.ends, batch.files.starts)
        whole = [size for size, made in zip(sizes, answer.made, strict=False) if made == Made.WHOLE]
        self._writer.count(len(whole), sum(whole))
        self._note(batch.keys, batch.files, answer.made)
        if len(answer.made) < len(batch.keys):
            self._make(batch, slice(len(answer.made), None))
        maker.asked.popleft()
        self._has_failed = False
        return True

    def _go_on_without(self, maker: _Maker, error: WorkerGoneError) -> None:
        """Recreate the files that a dead process may have created or begun; none is started any more."""
        self._has_failed = True
        self._pool.give_up(maker, error)
        while maker.asked:
            batch = maker.asked[0]
            places = zip(batch.keys, batch.files.starts, batch.files.ends, strict=True)
            for at, (key, start, end) in enumerate(places):
                entry = self._entries[key]
                if self._writer.is_in_place(entry, batch.frame[start:end]):
                    self._writer.count(1, entry.size)
                    self._written += end - start
                else:
                    self._writer.discard(entry)
                    self._make(batch, slice(at, at + 1))
            maker.asked.popleft()
        self._pool.workers.remove(maker)
        self._has_failed = False

    def _free(self) -> _Maker | None:
        """The process with the least to do, or a new one if all have enough; None if there is none."""
        free = [maker for maker in self._pool.workers if maker.has_room(UNDER_WAY * self._most_files)]
        return min(free, key=attrgetter("files")) if free else self._pool.start_one()

    def _started(self) -> _Maker:
        process = self._writer.second_maker(self._chunk_key, 2 * LARGEST_FRAME)
        return _Maker(process, self._share - self._most_directories)
