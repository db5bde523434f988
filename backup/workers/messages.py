"""Messages between two processes over a socket: bytes, and open files that go with them."""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Final

HEAD: Final = struct.Struct("<II")
"""The beginning of a message: its size in bytes, and the number of handles that come with it."""


def send(
    connection: socket.socket,
    body: bytes,
    handles: Sequence[int] = (),
    wait_for_room: Callable[[], None] | None = None,
) -> None:
    """Send a message. `wait_for_room` is called whenever the socket is full; without it, this waits."""
    left = memoryview(HEAD.pack(len(body), len(handles)) + body)
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", handles))] if handles else []
    flags = socket.MSG_DONTWAIT if wait_for_room else 0
    while left:
        try:  # send_fds takes no flags
            left = left[connection.sendmsg([left], beside, flags) :]
            beside = []
        except BlockingIOError:
            if wait_for_room is not None:
                wait_for_room()


def receive(connection: socket.socket, most_handles: int = 0) -> tuple[bytearray, list[int]]:
    """The next message, and the handles (open files) that came with it: the caller must close them.

    `EOFError` if there is no other, or handles were lost on the way.
    """
    head, handles, _, _ = socket.recv_fds(connection, HEAD.size, most_handles)
    with ExitStack() as undo:
        undo.callback(close_all, handles)
        size, count = HEAD.unpack(head + _exactly(connection, HEAD.size - len(head)))
        if len(handles) != count:
            raise EOFError("handles were lost on the way")
        body = _exactly(connection, size)
        undo.pop_all()
    return body, handles


def close_all(handles: Iterable[int]) -> None:
    """Close handles that came with a message."""
    for handle in handles:
        os.close(handle)


def _exactly(connection: socket.socket, size: int) -> bytearray:
    room = bytearray(size)
    view = memoryview(room)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError("it closed the connection")
        view = view[got:]
    return room
