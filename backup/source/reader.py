"""A second process that reads small files: what Python does for each of them then costs the first nothing.

    reader = ReaderProcess(chunk_key=..., content_key=..., batch_bytes=...)
    reader.ask(handles, wanted)            # handles of directories travel with the question
    answer = reader.answer()               # to the oldest question
    reader.close()

What it reads lies in memory that both have. It ends with its socket, and so with us. If it dies,
`ReaderGoneError` says so and how, and the caller reads itself.
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
from typing import Final, NamedTuple

import msgspec

from backup.errors import SourceError
from backup.second_process import receive, start
from backup.source.attributes import Attributes
from backup.source.small import FileToRead, Seen, SmallRead, read_small, room_for

MOST_FILES: Final = 512
MOST_NAMES: Final = 16 * 1024  # bytes of names: two questions fit a socket's buffer, so asking seldom waits
MOST_DIRECTORIES: Final = 64
QUESTIONS: Final = 3  # that may be open at once
_KEY_SIZE: Final = 32
_HEAD: Final = struct.Struct("<II")
_ANSWER: Final = struct.Struct("<I")


class ReaderGoneError(SourceError):
    """The process that read for us is not there any more."""


class ReadBatch(NamedTuple):
    """What was read, and the data of files that compress and of those that do not (see `SmallRead`).

    The data is valid until the next question.
    """

    read: SmallRead
    loose: memoryview
    dense: memoryview


class ReaderProcess:
    """For one thread. `OSError` if it cannot be started."""

    def __init__(self, *, chunk_key: bytes, content_key: bytes, batch_bytes: int) -> None:
        """`batch_bytes`: as many as files of a question have together, but for the last of them."""
        size = room_for(batch_bytes)
        shared = os.memfd_create("small files")
        try:
            os.ftruncate(shared, QUESTIONS * size)
            self._rooms = _Rooms(shared, size)
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = start("backup.source.reader", [theirs.fileno(), shared], size)
        finally:
            os.close(shared)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLOUT)
        self._sizes: deque[array[int]] = deque()  # of the files of questions that were not answered yet
        self._answers: deque[ReadBatch] = deque()  # that came while we asked
        with suppress(OSError):  # it is gone already: its first answer tells
            self._socket.sendall(chunk_key + content_key)

    def close(self) -> None:
        """End the process; what it read is gone with it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._process.release()
        self._answers.clear()
        self._rooms.close()

    def ask(self, directories: Sequence[int], wanted: Sequence[FileToRead]) -> None:
        """Have a batch read: at least one file, at most `MOST_FILES` in `MOST_DIRECTORIES`.

        No more than `QUESTIONS` may be asked that `answer` did not answer.
        """
        question = _question(wanted)
        self._sizes.append(array("Q", [one.seen[1] for one in wanted]))
        self._send(_HEAD.pack(len(question), len(directories)), directories)
        left = memoryview(question)
        while left:
            left = left[self._send(left) :]

    def answer(self) -> ReadBatch:
        """What came of the oldest question that was not answered yet."""
        return self._answers.popleft() if self._answers else self._receive()

    def _send(self, data: bytes | memoryview, handles: Sequence[int] = ()) -> int:
        """Send what there is room for; take answers in until there is some, else both could wait for ever."""
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
        """The data, by the sizes that were asked for: none is as it was if one did not fit its room."""
        count = len(read.loose) + len(read.dense)
        if (len(read.ids), len(read.content_ids)) != (32 * count, 16 * count):
            raise ValueError("it named other files than it read")
        room = self._rooms.next()
        middle = len(room) // 2
        loose, dense = (sum(sizes[index] for index in indexes) for indexes in (read.loose, read.dense))
        if loose > middle or dense > middle:
            raise ValueError("it read more than there is room for")
        return ReadBatch(read, room[:loose], room[middle : middle + dense])


class _Rooms:
    """Memory that both processes have, in pieces that are used in turn, one for each question."""

    def __init__(self, shared: int, size: int) -> None:
        self._memory = mmap.mmap(shared, QUESTIONS * size)
        view = memoryview(self._memory)
        self._views = [view[start : start + size] for start in range(0, QUESTIONS * size, size)]
        self._turn = 0

    def next(self) -> memoryview:
        """The room of the next question."""
        self._turn += 1
        return self._views[(self._turn - 1) % QUESTIONS]

    def close(self) -> None:
        """Let go of it; whoever still looks at a room keeps it until then."""
        self._views.clear()
        with suppress(BufferError):
            self._memory.close()


# What the two say to each other.

_Told = tuple[bytes, bytes, bytes, bytes, bytes, dict[int, Attributes]]
_TOLD: Final = msgspec.msgpack.Decoder(_Told)
_QUESTION: Final = msgspec.msgpack.Decoder(tuple[bytes, list[bytes], bytes, bytes, bytes, bytes])
_ENCODER: Final = msgspec.msgpack.Encoder()


def _question(wanted: Sequence[FileToRead]) -> bytes:
    indexes, names, seen = zip(*wanted, strict=True)
    columns = (array("Q", column).tobytes() for column in zip(*seen, strict=True))
    return _ENCODER.encode((array("H", indexes).tobytes(), names, *columns))


def _wanted(question: bytes) -> Iterator[tuple[int, bytes, Seen]]:
    """What `read_small` takes."""
    indexes, names, *columns = _QUESTION.decode(question)
    seen = zip(*(array("Q", column) for column in columns), strict=True)
    return zip(array("H", indexes), names, seen, strict=True)


# In the second process.


def serve(number: int, shared: int, size: int) -> None:
    """Answer questions that come by the socket of this number until it is closed.

    Data goes into the memory file `shared`, of `QUESTIONS` rooms of `size` bytes.
    """
    gc.disable()  # nothing here refers to itself, and what is made goes with its answer
    rooms = _Rooms(shared, size)
    with socket.socket(fileno=number) as connection:
        try:
            keys = bytes(receive(connection, 2 * _KEY_SIZE))
            while True:
                _serve_one(connection, rooms, keys[:_KEY_SIZE], keys[_KEY_SIZE:])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # nobody asks any more


def _serve_one(connection: socket.socket, rooms: _Rooms, chunk_key: bytes, content_key: bytes) -> None:
    head, directories, _, _ = socket.recv_fds(connection, _HEAD.size, MOST_DIRECTORIES)
    try:
        if len(head) < _HEAD.size:
            raise EOFError("no question")
        size, count = _HEAD.unpack(head)
        if len(directories) != count:
            raise EOFError("handles were lost on the way")
        wanted = _wanted(bytes(receive(connection, size)))
        read = read_small(directories, wanted, rooms.next(), chunk_key=chunk_key, content_key=content_key)
    finally:
        for handle in directories:
            os.close(handle)
    indexes = [column.tobytes() for column in (read.empty, read.loose, read.dense)]
    attributes = {index: tuple(one) for index, one in read.attributes.items()}
    told = _ENCODER.encode((*indexes, read.ids, read.content_ids, attributes))
    connection.sendall(_ANSWER.pack(len(told)) + told)
