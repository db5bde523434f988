"""A worker that reads small files, so that Python's work for each costs the first process nothing.

    reader = ReaderProcess(chunk_key=..., content_key=..., batch_bytes=...)
    reader.ask(handles, at, files)         # directory handles are sent along
    answer = reader.answer()               # to the oldest request
    reader.close()

What it reads is in shared memory, of which each request in turn has a piece.
"""

from __future__ import annotations

import socket
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Final

from msgspec.msgpack import Decoder, Encoder

from backup.source.attributes import Attributes
from backup.source.read_small import read_small
from backup.source.scanned import StatusColumns
from backup.source.small import (
    MOST_DIRECTORIES,
    MOST_REQUESTS,
    ReadBatch,
    Seen,
    SmallRead,
    buffer_size,
)
from backup.workers.messages import close_all, receive, send
from backup.workers.worker import Worker

_KEY_SIZE: Final = 32


class ReaderProcess(Worker):
    """The first process's side. `WorkerGoneError` if it dies: the caller reads by itself."""

    module = "backup.source.reader"

    def __init__(self, *, chunk_key: bytes, content_key: bytes, batch_bytes: int) -> None:
        """`batch_bytes`: total size of a request's files, without the last one."""
        super().__init__(chunk_key + content_key, MOST_REQUESTS * buffer_size(batch_bytes))
        self._pieces = pieces_of(self.memory)
        self._sizes: deque[array[int]] = deque()  # of the files of unanswered requests
        self.unanswered = 0  # questions whose answers were not taken

    def close(self) -> None:
        """End the process; what it has read is discarded."""
        super().close()
        self._pieces = iter(())

    def ask(self, directories: Sequence[int], at: array[int], files: StatusColumns) -> None:
        """Send a request: at least one file, at most `MOST_FILES` in `MOST_DIRECTORIES`.

        `at` has each file's index in `directories`. No more than `MOST_REQUESTS` requests may be unanswered.
        """
        if self.unanswered >= MOST_REQUESTS:
            raise AssertionError("what it read would be overwritten before anybody took it")
        self.unanswered += 1
        self._sizes.append(files.sizes)
        self.send(request_of(at, files), directories)

    def answer(self) -> ReadBatch:
        """The result of the oldest unanswered request."""
        self.unanswered -= 1
        return self.receive(self._decoded)

    def _decoded(self, body: bytearray, _: Sequence[int]) -> ReadBatch:
        """The data, by the requested sizes: if one file did not fit its buffer, none is valid."""
        *indexes, ids, contents, found = _TOLD.decode(body)
        empty, loose, dense = (array("H", index) for index in indexes)
        attributes = {index: Attributes(*values) for index, values in found.items()}
        read = SmallRead(empty, loose, dense, ids, contents, attributes)
        count = len(loose) + len(dense)
        if (len(ids), len(contents)) != (32 * count, 16 * count):
            raise ValueError("its answer names other files than it read")
        sizes, buffer = self._sizes.popleft(), next(self._pieces)
        middle = len(buffer) // 2
        loose_size, dense_size = (sum(map(sizes.__getitem__, indexes)) for indexes in (loose, dense))
        if loose_size > middle or dense_size > middle:
            raise ValueError("it read more than there is room for")
        return ReadBatch(read, buffer[:loose_size], buffer[middle : middle + dense_size])


def pieces_of(memory: memoryview) -> Iterator[memoryview]:
    """The pieces of shared memory that requests use in turn."""
    size = len(memory) // MOST_REQUESTS
    return cycle([memory[start : start + size] for start in range(0, len(memory), size)])


# Messages.

_Told = tuple[bytes, bytes, bytes, bytes, bytes, dict[int, Attributes]]
_TOLD: Final = Decoder(_Told)
_REQUEST: Final = Decoder(tuple[bytes, list[bytes], bytes, bytes, bytes, bytes])
_ENCODER: Final = Encoder()


def request_of(at: array[int], files: StatusColumns) -> bytes:
    """A request for files, each in the directory of that index."""
    seen = files.inodes, files.sizes, files.mtimes, files.ctimes
    return _ENCODER.encode((at.tobytes(), files.names, *(column.tobytes() for column in seen)))


def _files_of(request: bytearray) -> Iterator[tuple[int, bytes, Seen]]:
    """The files of a request, as `read_small` takes them."""
    indexes, names, *columns = _REQUEST.decode(request)
    seen = zip(*(array("Q", column) for column in columns), strict=True)
    return zip(array("H", indexes), names, seen, strict=True)


# In the worker.


def serve(connection: socket.socket, memory: memoryview) -> None:
    """Answer one request after the other; data goes into the pieces of the memory."""
    keys, _ = receive(connection)
    chunk_key, content_key = bytes(keys[:_KEY_SIZE]), bytes(keys[_KEY_SIZE:])
    for piece in pieces_of(memory):
        answer_one(connection, piece, chunk_key, content_key)


def answer_one(connection: socket.socket, buffer: memoryview, chunk_key: bytes, content_key: bytes) -> None:
    """Answer a request. `EOFError` if there is no other."""
    request, directories = receive(connection, MOST_DIRECTORIES)
    try:
        read = read_small(
            directories, _files_of(request), buffer, chunk_key=chunk_key, content_key=content_key
        )
    finally:
        close_all(directories)
    indexes = [column.tobytes() for column in (read.empty, read.loose, read.dense)]
    attributes = {index: tuple(values) for index, values in read.attributes.items()}
    send(connection, _ENCODER.encode((*indexes, read.ids, read.content_ids, attributes)))
