"""A second process that reads small files: what Python does for each of them then costs the first nothing.

    reader = ReaderProcess(chunk_key=..., content_key=...)
    reader.ask(handles, wanted)            # handles of directories travel with the question
    answer = reader.answer()               # to the oldest question
    reader.close()

It ends with its socket, and so with us. If it dies, `ReaderGoneError` says so, and the caller reads itself.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import struct
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from backup.errors import SourceError
from backup.source.attributes import NONE, Attributes
from backup.source.small import Seen, Wanted, read_small

MOST_FILES: Final = 512
MOST_NAMES: Final = 16 * 1024  # bytes of names: two questions fit a socket's buffer, so asking seldom waits
MOST_DIRECTORIES: Final = 64
_KEY_SIZE: Final = 32
_HEAD: Final = struct.Struct("<II")
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from backup.source.reader import serve; serve(int(sys.argv[2]))"
)


class ReaderGoneError(SourceError):
    """The process that read for us is not there any more."""


class Answer(NamedTuple):
    """What was read: a file that was not is False in `were_read` and has nothing in the rest.

    `ids` hold 32 bytes a file, `content_ids` 16; `data` is what was read, joined; `attributes` tells, by
    place, of the few files that have any.
    """

    were_read: Sequence[int]
    ids: memoryview
    content_ids: memoryview
    data: memoryview
    attributes: dict[int, Attributes]


class ReaderProcess:
    """For one thread."""

    def __init__(self, *, chunk_key: bytes, content_key: bytes) -> None:
        ours, theirs = socket.socketpair()
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, root, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # if it fails, its work is done here, and that tells why
                start_new_session=True,  # the terminal's Ctrl-C is for us alone
            )
        self._socket = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN | select.POLLOUT)
        self._answers: deque[Answer] = deque()  # that came while we asked
        self._socket.sendall(chunk_key + content_key)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def ask(self, directories: Sequence[int], wanted: Sequence[Wanted]) -> None:
        """Have a batch read: at most `MOST_FILES` in `MOST_DIRECTORIES`.

        What is answered meanwhile is held until `answer`: ask but a few batches at a time.
        """
        question = _question(wanted)
        self._send(_HEAD.pack(len(question), len(directories)), directories)
        left = memoryview(question)
        while left:
            left = left[self._send(left) :]

    def answer(self) -> Answer:
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
                raise ReaderGoneError(f"the reading process is gone: {error}") from error

    def _receive(self) -> Answer:
        try:
            told, data = _HEAD.unpack(_receive(self._socket, _HEAD.size))
            were_read, ids, contents, attributes = _TOLD.decode(_receive(self._socket, told))
            room = memoryview(_receive(self._socket, data))
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            raise ReaderGoneError(f"the reading process is gone: {error}") from error
        kept = {place: Attributes(*values) for place, values in attributes.items()}
        return Answer(were_read, memoryview(ids), memoryview(contents), room, kept)


# What the two say to each other.

_Told = tuple[bytes, bytes, bytes, dict[int, Attributes]]
_TOLD: Final = msgspec.msgpack.Decoder(_Told)
_QUESTION: Final = msgspec.msgpack.Decoder(tuple[bytes, list[bytes], bytes, bytes])
_ENCODER: Final = msgspec.msgpack.Encoder()


def _question(wanted: Sequence[Wanted]) -> bytes:
    inodes = array("Q", [one.seen.inode for one in wanted])
    numbers = array("q")
    for one in wanted:
        numbers.extend(one.seen[1:])
    places = array("H", [one.directory for one in wanted])
    return _ENCODER.encode(
        (places.tobytes(), [one.name for one in wanted], inodes.tobytes(), numbers.tobytes())
    )


def _wanted(question: bytes) -> list[Wanted]:
    places, names, inodes, numbers = _QUESTION.decode(question)
    directories, own, rest = array("H", places), array("Q", inodes), array("q", numbers)
    seen = map(Seen, own, rest[0::3], rest[1::3], rest[2::3])
    return list(map(Wanted, directories, names, seen))


def _receive(connection: socket.socket, size: int) -> bytearray:
    room = bytearray(size)
    view = memoryview(room)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError("it said nothing more")
        view = view[got:]
    return room


# In the second process.


def serve(number: int) -> None:
    """Answer questions that come by the socket of this number until it is closed."""
    gc.disable()  # nothing here refers to itself, and what is made goes with its answer
    with socket.socket(fileno=number) as connection:
        try:
            keys = bytes(_receive(connection, 2 * _KEY_SIZE))
            while True:
                _answer(connection, keys[:_KEY_SIZE], keys[_KEY_SIZE:])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # nobody asks any more


def _answer(connection: socket.socket, chunk_key: bytes, content_key: bytes) -> None:
    head, directories, _, _ = socket.recv_fds(connection, _HEAD.size, MOST_DIRECTORIES)
    try:
        if len(head) < _HEAD.size:
            raise EOFError("no question")
        size, count = _HEAD.unpack(head)
        if len(directories) != count:
            raise EOFError("handles were lost on the way")
        wanted = _wanted(bytes(_receive(connection, size)))
        files = list(read_small(directories, wanted, chunk_key=chunk_key, content_key=content_key))
    finally:
        for handle in directories:
            os.close(handle)
    read = [file for file in files if file is not None]
    told = _ENCODER.encode(
        (
            bytes(file is not None for file in files),
            b"".join(file.id or bytes(32) for file in read),
            b"".join(file.content_id for file in read),
            {
                place: tuple(file.attributes)
                for place, file in enumerate(files)
                if file is not None and file.attributes != NONE
            },
        )
    )
    data = [file.data for file in read if file.data]
    connection.sendall(_HEAD.pack(len(told), sum(map(len, data))) + told)
    while data:
        _send_all(connection, data[:MOST_FILES])
        del data[:MOST_FILES]


def _send_all(connection: socket.socket, pieces: Sequence[bytes]) -> None:
    sent = connection.sendmsg(pieces)
    for piece in pieces:
        if sent >= len(piece):
            sent -= len(piece)
            continue
        connection.sendall(memoryview(piece)[sent:])
        sent = 0
