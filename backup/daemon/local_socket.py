"""The Unix socket in the state directory: its path, and reading and writing of lines.

The path of a socket is limited to 107 bytes; a longer one is reached through a descriptor of its directory.
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
    """A line is longer than the limit."""


@contextmanager
def short_path(directory: str, name: str) -> Iterator[str]:
    """Give the body a path of the socket that is short enough. `OSError` if there is none."""
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
    """Return the user id of the peer process, from the kernel."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", packed)[1])


def groups_of(connection: socket.socket) -> set[int]:
    """Return the groups of the peer process, primary and supplementary, from the kernel.

    An old kernel gives the primary group alone.
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
    """Return one line, or the bytes before the peer closes; all must arrive within `seconds`.

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
    """Send a line; it must be taken within `seconds`. `TimeoutError`, `OSError`."""
    connection.settimeout(seconds)  # of `sendall` it is for all of it
    connection.sendall(line + b"\n")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
