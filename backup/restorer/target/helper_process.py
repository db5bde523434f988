"""A second process that writes small files, so that two cores work on a restore of many.

    maker = MakerProcess(path, mark, replaces=True, chunk_key=..., buffer=...)
    maker.buffer[:size] = data                # shared memory
    maker.ask(directories, files)           # directory handles are sent along
    answer = maker.answer()                 # to the oldest request
    maker.close()

It runs the same code as the first process (`making.py`) in directories whose handles are lent to it. It ends
with its socket, and so with the first process, between two files. If it dies, `MakerGoneError` says how:
files that it had not answered for may exist, be missing, or be half-written under their temporary names,
which are the same in both processes.
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import socket
import struct
import subprocess
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

import msgspec

from backup.errors import TargetError
from backup.model import Problem
from backup.restorer.selection.entry import NewFiles
from backup.restorer.target.directories import Directories
from backup.restorer.target.making import FileMaker
from backup.restorer.target.owners import Owners
from backup.second_process import receive, start

MOST_FILES: Final = 128
"""The most files in a request: few, so that no process waits long for another at a frame's end."""
MOST_DIRECTORIES: Final = 32
"""The most directories that they are in: the system limits the handles under way between processes."""
_HEAD: Final = struct.Struct("<II")
PATIENCE: Final = 10.0  # seconds it has to finish its current file and exit
_LOOKS_UP: Final = 16  # files between two checks that the first process lives


class MakerGoneError(TargetError):
    """The second process is gone."""


class Lent(NamedTuple):
    """A directory lent to the second process: its handle, its path below the target, whether it is ours."""

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


class MakerProcess:
    """The first process's side; for use from one thread. `OSError` if the process cannot be started."""

    def __init__(self, path: str, mark: str, *, replaces: bool, chunk_key: bytes, buffer: int) -> None:
        """`path`, `mark` and `replaces` are those of the restore; `buffer` is in bytes."""
        with ExitStack() as undo:
            memory = os.memfd_create("nightvault")
            with open(memory, "rb+", buffering=0):
                os.ftruncate(memory, buffer)
                self.buffer = undo.enter_context(mmap.mmap(memory, buffer))
                self._socket, theirs = socket.socketpair()
                undo.enter_context(self._socket)
                with theirs:
                    self._process = start("backup.restorer.target.helper_process", [theirs.fileno(), memory])
            undo.callback(self.close)
            self._send(_ENCODER.encode((os.fsencode(path), mark, replaces, chunk_key)))
            undo.pop_all()

    def close(self) -> None:
        """End the process; it creates nothing afterwards."""
        self._socket.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.release()
        self.buffer.close()

    def ask(self, directories: Sequence[Lent], files: NewFiles) -> int:
        """Send a request for files of `buffer`; returns its size in bytes.

        At most `MOST_FILES` in `MOST_DIRECTORIES`; `directories` are those of their paths, in that order.
        Requests and answers that fill the socket would block both sides for ever: limit unanswered requests.
        """
        request = _ENCODER.encode(([one.is_ours for one in directories], files))
        self._send(request, [one.handle for one in directories])
        return len(request)

    def answer(self) -> MadeFiles:
        """The result of the oldest unanswered request."""
        with self._its_death_told():
            return self._answer(receive(self._socket, _HEAD.size))

    def answer_if_any(self) -> MadeFiles | None:
        """Same as `answer`, but None instead of waiting."""
        with self._its_death_told():
            try:
                head = self._socket.recv(_HEAD.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            return self._answer(head + receive(self._socket, _HEAD.size - len(head)))

    def _answer(self, head: bytes | bytearray) -> MadeFiles:
        size, _ = _HEAD.unpack(head)
        return _ANSWER.decode(receive(self._socket, size))

    def _send(self, request: bytes, handles: Sequence[int] = ()) -> None:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", handles))] if handles else []
        with self._its_death_told():
            sent = self._socket.sendmsg([_HEAD.pack(len(request), len(handles)), request], beside)
            if sent < _HEAD.size + len(request):
                self._socket.sendall(memoryview(request)[max(sent - _HEAD.size, 0) :])

    @contextmanager
    def _its_death_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            raise MakerGoneError(self._process.ending(error)) from error


# Messages.

_ENCODER: Final = msgspec.msgpack.Encoder()
_ANSWER: Final = msgspec.msgpack.Decoder(MadeFiles)
_GREETING: Final = msgspec.msgpack.Decoder(tuple[bytes, str, bool, bytes])
_REQUEST: Final = msgspec.msgpack.Decoder(tuple[list[bool], NewFiles])


# In the second process.


class _LentDirectories(Directories):
    """The directories that came with a request, as a `Directories`."""

    lent: Mapping[bytes, Lent] = {}

    def handle(self, path: bytes) -> int:
        return self.lent[path].handle

    def is_ours(self, path: bytes) -> bool:
        return self.lent[path].is_ours


class _Server:
    """The second process's side: answers one request after the other."""

    def __init__(self, connection: socket.socket, buffer: memoryview) -> None:
        self._connection = connection
        self._buffer = buffer
        self._hears = select.poll()
        self._hears.register(connection, 0)  # reports only that the other side has hung up
        self._made = bytearray()
        self._troubles: list[tuple[int, str]] = []
        path, mark, replaces, chunk_key = _GREETING.decode(self._request()[0])
        self._directories = _LentDirectories(os.fsdecode(path), replaces=replaces)
        self._maker = FileMaker(self._directories, self._report, mark, Owners(numeric=True))
        self._chunk_key = chunk_key

    def serve(self) -> None:
        """Answer one request."""
        request, handles = self._request()
        try:
            are_ours, files = _REQUEST.decode(request)
            lent = [Lent(*one) for one in zip(handles, files.paths, are_ours, strict=True)]
            self._directories.lent = {one.path: one for one in lent}
            answer = _ENCODER.encode(self._make(files))
        finally:
            for handle in handles:
                os.close(handle)
        self._connection.sendall(_HEAD.pack(len(answer), 0) + answer)

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
            return MadeFiles(bytes(made), [one for one in troubles if one[0] < len(made)])
        return MadeFiles(bytes(made), troubles)

    def _report(self, problem: Problem) -> None:
        """Take down a problem of the file that is being made."""
        self._troubles.append((len(self._made), problem.detail))

    def _request(self) -> tuple[bytearray, list[int]]:
        """A request and the handles that came with it, which the caller must close."""
        head, handles, _, _ = socket.recv_fds(self._connection, _HEAD.size, MOST_DIRECTORIES)
        if len(head) < _HEAD.size:
            raise EOFError("no request")
        size, count = _HEAD.unpack(head)
        if len(handles) != count:
            raise EOFError("handles were lost on the way")
        return receive(self._connection, size), handles


def serve(number: int, memory: int) -> None:
    """Answer requests from the socket `number`, with bytes in `memory`, until the socket is closed."""
    gc.disable()  # no reference cycles here: memory is freed after each answer
    with socket.socket(fileno=number) as connection, mmap.mmap(memory, 0) as buffer:
        os.close(memory)
        try:
            server = _Server(connection, memoryview(buffer))
            while True:
                server.serve()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the other side has ended; views of the buffer may still exist
