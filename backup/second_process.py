"""A second process of this program, for work on very many small files, and what comes from it by a socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; "
    "import_module(sys.argv[2]).serve(*map(int, sys.argv[3:]))"
)


def start(module: str, handles: Sequence[int], *numbers: int) -> subprocess.Popen[bytes]:
    """Have `serve` of a module of ours called with `handles`, which it gets, and other numbers.

    OSError if there is no process to be had.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return subprocess.Popen(
        [sys.executable, "-c", _START, root, module, *map(str, (*handles, *numbers))],
        pass_fds=handles,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # if it fails, its work is done here, and that tells why
        start_new_session=True,  # the terminal's Ctrl-C is for us alone
    )


def receive(connection: socket.socket, size: int) -> bytearray:
    """So many bytes. EOFError if they end before."""
    room = bytearray(size)
    view = memoryview(room)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError("it said nothing more")
        view = view[got:]
    return room
