"""The Unix socket in the state directory: its path, and one line of JSON there and back.

A path of a socket may have 107 bytes, so it is named by a descriptor of its directory where that is possible.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

SOCKET = "daemon.sock"
LONGEST_REQUEST = 64 * 1024
_LONGEST_PATH = 100
_PIECE = 64 * 1024
_SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)  # Linux 4.13


class LineTooLongError(Exception):
    """There was no end of a line within the bytes that are allowed."""


@contextmanager
def short_path(directory: str, name: str) -> Iterator[str]:
    """A path of a socket in a directory that is short enough. `OSError` if there is none."""
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)


def peer_of(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel says it."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", packed)[1])


def groups_of(connection: socket.socket) -> set[int]:
    """The groups of the process at the other end, its own and further ones, as the kernel says them.

    A kernel that does not know the further ones says the first alone.
    """
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    room = 1024  # bytes, the most that Python gives: 256 groups; a process in more is turned away
    try:
        further = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, room)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        further = b""
    return {int(struct.unpack("3i", packed)[2]), *struct.unpack(f"{len(further) // 4}I", further)}


def read_line(connection: socket.socket, most: int, seconds: float) -> bytes:
    """One line, or what there is before the other end closes; all of it within `seconds`.

    `LineTooLongError`, `TimeoutError`, `OSError`.
    """
    until, line = time.monotonic() + seconds, bytearray()
    while b"\n" not in line:
        if len(line) > most:
            raise LineTooLongError
        connection.settimeout(_left(until))
        piece = connection.recv(_PIECE)
        if not piece:
            break
        line += piece
    return bytes(line.partition(b"\n")[0])


def write_line(connection: socket.socket, line: bytes, seconds: float) -> None:
    """Send a line within `seconds`. `TimeoutError`, `OSError`."""
    connection.settimeout(seconds)  # of `sendall` it is for all of it
    connection.sendall(line + b"\n")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
