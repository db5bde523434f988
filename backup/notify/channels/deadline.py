"""A limit on the total time of one delivery, also for a receiver that sends a byte now and then.

    with Deadline(60.0) as deadline:
        deadline.watch(connection)      # a socket, as soon as it is connected
        …                               # reads fail, or end, once the time is over
    deadline.is_over

At the end of the time the connections are shut down, whatever layer reads from them. A name server that does
not answer has a limit of its own.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

DELIVERY_SECONDS = 60.0
"""How long a delivery may take in all."""


class Deadline:
    """Shuts watched connections down when the time is over."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds = DELIVERY_SECONDS if seconds is None else seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self.is_over = False

    def watch(self, connection: socket.socket) -> None:
        """Shut this connection down, too; by a duplicate descriptor, as TLS takes over the original."""
        mine = connection.dup()
        with self._lock:
            self._watched.append(mine)
            if self.is_over:
                _shut(mine)

    def text(self) -> str:
        """The reason for an error message: that the time is over."""
        return f"no whole answer within {self._seconds:g} s"

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for connection in self._watched:
                _shut(connection)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._watched:
                connection.close()
            self._watched.clear()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
