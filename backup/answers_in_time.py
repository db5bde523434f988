"""A time limit for whole answers of servers: one that trickles in byte by byte fails, too.

urllib3 and botocore limit each read alone. Here the seconds that are waited for bytes of one answer are
counted: as many as a first byte may take, and one more for each `LEAST_RATE` bytes. So a download may take
hours, on a line that is slow or limited by the config, and an answer of some bytes may not. The time that
this process needs for what came does not count.
"""

from __future__ import annotations

import io
import time
from typing import Any, Final

ANSWER_SECONDS = 180.0
"""Seconds that may be waited for an answer, besides what its size needs."""
LEAST_RATE: Final = 256
"""Bytes a second below which a line counts as dead."""


class _CountedBody(io.RawIOBase):
    """The bytes of one answer, read from a connection."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._waited, self._got = raw, 0.0, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, room: Any, /) -> int | None:
        """Read what is there. `TimeoutError` if the answer has come too slowly so far."""
        began = time.monotonic()
        got = self._raw.readinto(room)
        self._waited += time.monotonic() - began
        self._got += got or 0
        if self._waited > ANSWER_SECONDS + self._got / LEAST_RATE:
            raise TimeoutError(f"no whole answer: {self._got} bytes in {self._waited:.0f} s")
        return got

    def close(self) -> None:
        """Close the answer; the connection stays open."""
        self._raw.close()
        super().close()


class _Timed:
    """A connected socket, with or without TLS, whose answers are counted."""

    def __init__(self, connected: Any) -> None:
        self._connected = connected

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.RawIOBase | io.BufferedReader:
        """The file of the next answer: http.client asks for one at a time."""
        counted = _CountedBody(self._connected.makefile(mode, 0))
        return counted if buffering == 0 else io.BufferedReader(counted)


def in_time(connection: Any) -> Any:
    """A subclass of a urllib3 connection class that limits the time of each answer."""

    class InTime(connection):  # type: ignore[misc]
        sock: Any

        def connect(self) -> None:
            super().connect()
            self.sock = _Timed(self.sock)

    InTime.__name__ = InTime.__qualname__ = connection.__name__  # it is in texts of errors
    return InTime
