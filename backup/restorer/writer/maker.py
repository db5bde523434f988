"""A worker process that makes small files, so that two cores work on a restore of many.

    maker = MakerProcess(path, restore_id, replaces=True, chunk_key=..., buffer=...)
    maker.memory[:size] = data              # shared memory
    maker.ask(directories, files)           # directory handles are sent along
    answer = maker.answer()                 # to the oldest request
    maker.close()

It runs the same code as the first process (`making.py`) in directories whose handles are lent to it. It ends
with its socket, and so with the first process, between two files. If it dies, files that it had not answered
for may exist, be missing, or be half-written under their temporary names, which are the same in both
processes.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.msgpack import Decoder, Encoder

from backup.errors import TargetError
from backup.model import Problem
from backup.restorer.selection.entry import NewFiles
from backup.restorer.writer.directories import Directories
from backup.restorer.writer.making import FileMaker
from backup.restorer.writer.owners import Owners
from backup.workers.messages import close_all, receive, send
from backup.workers.worker import Worker

MOST_FILES: Final = 128
"""The most files in a request: few, so that no process waits long for another at a frame's end."""
MOST_DIRECTORIES: Final = 32
"""The most directories that they are in: the system limits the handles under way between processes."""
_LOOKS_UP: Final = 16  # files between two checks that the first process lives


class Lent(NamedTuple):
    """A directory lent to the worker: its handle, its path below the target, whether it is ours."""

    handle: int
    path: bytes
    is_ours: bool


class MadeFiles(NamedTuple):
    """The result of one request.

    `made` holds a `Made` for each file that was tried. Files after a failure that would affect all of them
    were not tried. `troubles` are (index of the file, problem).
    """

    made: bytes
    troubles: list[tuple[int, str]]


class MakerProcess(Worker):
    """The main process's side of a worker. `WorkerGoneError` if it dies."""

    module = "backup.restorer.writer.maker"
    patience = 10.0  # to finish its current file

    def __init__(self, path: str, restore_id: str, *, replaces: bool, chunk_key: bytes, buffer: int) -> None:
        """`path`, `restore_id` and `replaces` are those of the restore; `buffer` is in bytes."""
        super().__init__(_ENCODER.encode((os.fsencode(path), restore_id, replaces, chunk_key)), buffer)

    def ask(self, directories: Sequence[Lent], files: NewFiles) -> None:
        """Send a request for files whose data is in `memory`.

        At most `MOST_FILES` in `MOST_DIRECTORIES`; `directories` are those of their paths, in that order.
        """
        request = _ENCODER.encode(([lent.is_ours for lent in directories], files))
        self.send(request, [lent.handle for lent in directories])

    def answer(self) -> MadeFiles:
        """Return the result of the oldest unanswered request."""
        return self.receive(_made)

    def answer_if_any(self) -> MadeFiles | None:
        """Same as `answer`, but returns None instead of waiting."""
        return self.receive(_made) if self.has_spoken else None


# Messages.

_ENCODER: Final = Encoder()
_ANSWER: Final = Decoder(MadeFiles)
_GREETING: Final = Decoder(tuple[bytes, str, bool, bytes])
_REQUEST: Final = Decoder(tuple[list[bool], NewFiles])


def _made(body: bytearray, _: Sequence[int]) -> MadeFiles:
    return _ANSWER.decode(body)


# In the worker.


class _LentDirectories(Directories):
    """The directories that came with a request, as a `Directories`."""

    lent: Mapping[bytes, Lent] = {}

    def handle(self, path: bytes) -> int:
        return self.lent[path].handle

    def is_ours(self, path: bytes) -> bool:
        return self.lent[path].is_ours


class _MakerServer:
    """The second process's side: answers one request after the other."""

    def __init__(self, connection: socket.socket, buffer: memoryview) -> None:
        self._connection = connection
        self._buffer = buffer
        self._hears = select.poll()
        self._hears.register(connection, 0)  # reports only that the other side has hung up
        self._made = bytearray()
        self._troubles: list[tuple[int, str]] = []
        path, restore_id, replaces, chunk_key = _GREETING.decode(receive(connection)[0])
        self._directories = _LentDirectories(os.fsdecode(path), replaces=replaces)
        self._maker = FileMaker(self._directories, self._report, restore_id, Owners(numeric=True))
        self._chunk_key = chunk_key

    def serve(self) -> None:
        """Answer one request."""
        request, handles = receive(self._connection, MOST_DIRECTORIES)
        try:
            are_ours, files = _REQUEST.decode(request)
            lent = [Lent(*directory) for directory in zip(handles, files.paths, are_ours, strict=True)]
            self._directories.lent = {directory.path: directory for directory in lent}
            answer = _ENCODER.encode(self._make(files))
        finally:
            close_all(handles)
        send(self._connection, answer)

    def _make(self, files: NewFiles) -> MadeFiles:
        made, troubles = self._made, self._troubles
        made.clear()
        troubles.clear()
        try:
            for start in range(0, len(files.names), _LOOKS_UP):
                if self._hears.poll(0):
                    raise EOFError("nobody waits for it")
                some = files.some(slice(start, start + _LOOKS_UP))
                self._maker.make_small(some, self._buffer, self._chunk_key, made)
        except TargetError:  # the first process fails the same way, and reports it
            return MadeFiles(bytes(made), [trouble for trouble in troubles if trouble[0] < len(made)])
        return MadeFiles(bytes(made), troubles)

    def _report(self, problem: Problem) -> None:
        """Take down a problem of the file that is being made."""
        self._troubles.append((len(self._made), problem.detail))


def serve(connection: socket.socket, memory: memoryview) -> None:
    """Answer one request after the other, with bytes in shared memory."""
    server = _MakerServer(connection, memory)
    while True:
        server.serve()
