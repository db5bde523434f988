"""A process that reads small files, so that Python's work for each costs the first nothing.

    reader = ReaderProcess(chunk_key=..., content_key=..., batch_bytes=...)
    reader.ask(handles, at, files)         # directory handles are sent along
    answer = reader.answer()               # to the oldest request
    reader.close()

What it reads is in shared memory. It ends with its socket, and so with the first process. If it dies,
`ReaderGoneError` says so and how, and the caller reads by itself.
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import socket
import struct
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from backup.second_process import receive, start
from backup.source.attributes import Attributes
from backup.source.columns import StatusColumns
from backup.source.read_small import read_small
from backup.source.small import (
    MOST_DIRECTORIES,
    MOST_REQUESTS,
    ReadBatch,
    ReaderGoneError,
    Seen,
    SmallRead,
    buffer_size,
)

_KEY_SIZE: Final = 32
_HEAD: Final = struct.Struct("<II")
_ANSWER: Final = struct.Struct("<I")


class ReaderProcess:
    """The first process's side; for use from one thread. `OSError` if it cannot be started."""

    def __init__(self, *, chunk_key: bytes, content_key: bytes, batch_bytes: int) -> None:
        """`batch_bytes`: total size of a request's files, without the last one."""
        size = buffer_size(batch_bytes)
        shared = os.memfd_create("small files")
        try:
            os.ftruncate(shared, MOST_REQUESTS * size)
            self._buffers = _Buffers(shared, size)
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = start("backup.source.reader", [theirs.fileno(), shared], size)
        finally:
            os.close(shared)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLOUT)
        self._sizes: deque[array[int]] = deque()  # of the files of unanswered requests
        self._answers: deque[ReadBatch] = deque()  # received while sending
        self.unanswered = 0  # questions whose answers were not taken
        with suppress(OSError):  # it is gone already: the first answer reports it
            self._socket.sendall(chunk_key + content_key)

    def close(self) -> None:
        """End the process; what it read is gone with it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._process.release()
        self._answers.clear()
        self._buffers.close()

    def ask(self, directories: Sequence[int], at: array[int], files: StatusColumns) -> None:
        """Send a request: at least one file, at most `MOST_FILES` in `MOST_DIRECTORIES`.

        `at` has each file's index in `directories`. No more than `MOST_REQUESTS` requests may be unanswered.
        """
        if self.unanswered >= MOST_REQUESTS:
            raise AssertionError("what it read would be overwritten before anybody took it")
        self.unanswered += 1
        request = _request(at, files)
        self._sizes.append(files.sizes)
        left = memoryview(_HEAD.pack(len(request), len(directories)) + request)
        left = left[self._send(left, directories) :]
        while left:
            left = left[self._send(left) :]

    def answer(self) -> ReadBatch:
        """The result of the oldest unanswered request."""
        self.unanswered -= 1
        return self._answers.popleft() if self._answers else self._receive()

    def _send(self, data: bytes | memoryview, handles: Sequence[int] = ()) -> int:
        """Send what the socket has room for; receive answers until it has, else both could wait for ever."""
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", handles))] if handles else []
        while True:
            try:
                return self._socket.sendmsg([data], beside, socket.MSG_DONTWAIT)  # send_fds takes no flags
            except BlockingIOError:
                can = dict(self._poll.poll())[self._socket.fileno()]
                if not can & select.POLLOUT:
                    self._answers.append(self._receive())
            except OSError as error:
                raise self._gone(error) from error

    def _gone(self, error: BaseException) -> ReaderGoneError:
        return ReaderGoneError(self._process.ending(error))

    def _receive(self) -> ReadBatch:
        try:
            (size,) = _ANSWER.unpack(receive(self._socket, _ANSWER.size))
            *indexes, ids, contents, found = _TOLD.decode(receive(self._socket, size))
            empty, loose, dense = (array("H", each) for each in indexes)
            attributes = {index: Attributes(*values) for index, values in found.items()}
            read = SmallRead(empty, loose, dense, ids, contents, attributes)
            return self._answer(read, self._sizes.popleft())
        except (OSError, EOFError, ValueError, IndexError, msgspec.MsgspecError) as error:
            raise self._gone(error) from error

    def _answer(self, read: SmallRead, sizes: Sequence[int]) -> ReadBatch:
        """The data, by the requested sizes: if one file did not fit its buffer, none is valid."""
        count = len(read.loose) + len(read.dense)
        if (len(read.ids), len(read.content_ids)) != (32 * count, 16 * count):
            raise ValueError("it named other files than it read")
        buffer = self._buffers.next()
        middle = len(buffer) // 2
        loose, dense = (sum(map(sizes.__getitem__, indexes)) for indexes in (read.loose, read.dense))
        if loose > middle or dense > middle:
            raise ValueError("it read more than there is room for")
        return ReadBatch(read, buffer[:loose], buffer[middle : middle + dense])


class _Buffers:
    """Shared memory in pieces that are used in turn, one for each request."""

    def __init__(self, shared: int, size: int) -> None:
        self._memory = mmap.mmap(shared, MOST_REQUESTS * size)
        view = memoryview(self._memory)
        self._views = [view[start : start + size] for start in range(0, MOST_REQUESTS * size, size)]
        self._turn = 0

    def next(self) -> memoryview:
        """The piece for the next request."""
        self._turn += 1
        return self._views[(self._turn - 1) % MOST_REQUESTS]

    def close(self) -> None:
        """Close it; whoever still looks at a piece keeps it until then."""
        self._views.clear()
        with suppress(BufferError):
            self._memory.close()


# Messages.

_Told = tuple[bytes, bytes, bytes, bytes, bytes, dict[int, Attributes]]
_TOLD: Final = msgspec.msgpack.Decoder(_Told)
_REQUEST: Final = msgspec.msgpack.Decoder(tuple[bytes, list[bytes], bytes, bytes, bytes, bytes])
_ENCODER: Final = msgspec.msgpack.Encoder()


def _request(at: array[int], files: StatusColumns) -> bytes:
    seen = files.inodes, files.sizes, files.mtimes, files.ctimes
    return _ENCODER.encode((at.tobytes(), files.names, *(column.tobytes() for column in seen)))


def _files_of(request: bytes) -> Iterator[tuple[int, bytes, Seen]]:
    """The files of a request, as `read_small` takes them."""
    indexes, names, *columns = _REQUEST.decode(request)
    seen = zip(*(array("Q", column) for column in columns), strict=True)
    return zip(array("H", indexes), names, seen, strict=True)


# In the second process.


def serve(number: int, shared: int, size: int) -> None:
    """Answer requests from the socket of this number until it is closed.

    Data goes into the memory file `shared`, of `MOST_REQUESTS` pieces of `size` bytes.
    """
    gc.disable()  # no reference cycles here: memory is freed after each answer
    buffers = _Buffers(shared, size)
    with socket.socket(fileno=number) as connection:
        try:
            keys = bytes(receive(connection, 2 * _KEY_SIZE))
            while True:
                _serve_one(connection, buffers, keys[:_KEY_SIZE], keys[_KEY_SIZE:])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the other side has ended


def _serve_one(connection: socket.socket, buffers: _Buffers, chunk_key: bytes, content_key: bytes) -> None:
    head, directories, _, _ = socket.recv_fds(connection, _HEAD.size, MOST_DIRECTORIES)
    try:
        if len(head) < _HEAD.size:
            raise EOFError("no request")
        size, count = _HEAD.unpack(head)
        if len(directories) != count:
            raise EOFError("handles were lost on the way")
        files = _files_of(bytes(receive(connection, size)))
        read = read_small(directories, files, buffers.next(), chunk_key=chunk_key, content_key=content_key)
    finally:
        for handle in directories:
            os.close(handle)
    indexes = [column.tobytes() for column in (read.empty, read.loose, read.dense)]
    attributes = {index: tuple(one) for index, one in read.attributes.items()}
    told = _ENCODER.encode((*indexes, read.ids, read.content_ids, attributes))
    connection.sendall(_ANSWER.pack(len(told)) + told)
