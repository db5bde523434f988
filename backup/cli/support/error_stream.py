"""Standard error of what runs for years: nobody waits for its reader.

    write_unread()              # sys.stderr from now on, until the process ends
    drain(0.5)                  # whether all is written that this process wrote there

A pipe whose reader hangs, a terminal that was stopped, a full socket: each would hold up whoever logs, with
all locks that it has. Here a thread of its own writes. What does not fit into its queue is dropped and
counted; the count is logged as soon as there is room again.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from backup.model import MIB

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MOST_WAITING: Final = 1 * MIB
"""Bytes that may wait to be written."""
_LAST_SECONDS: Final = 5.0  # for the reader of a command that ends
_log = logging.getLogger(__name__)


class Outlet:
    """Writes pieces in order, in a thread of its own; what does not fit into `most` bytes is dropped."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._news = threading.Condition()
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._size = self._dropped = 0
        self._thread: threading.Thread | None = None

    def put(self, write: Callable[[], object], size: int) -> None:
        """Have a piece of so many bytes written; returns at once.

        `write` may wait for ever; an OSError of it counts as a piece that was dropped.
        """
        with self._news:
            if self._size + size > self._most:
                self._dropped += 1
                return
            self._waiting.append((write, size))
            self._size += size
            self._news.notify_all()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="log", daemon=True)
                with suppress(RuntimeError):  # the system has no more threads now: the next piece tries again
                    thread.start()
                    self._thread = thread

    def drain(self, seconds: float) -> bool:
        """Wait until all is written, for so long at most; whether it is."""
        with self._news:
            return self._news.wait_for(lambda: not self._size, seconds)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting)
                write, size = self._waiting.popleft()
            try:
                write()
                lost = 0
            except OSError:
                lost = 1
            with self._news:
                self._size -= size
                self._dropped += lost
                dropped = 0 if self._size or lost else self._dropped
                self._dropped -= dropped
                self._news.notify_all()
            if dropped:
                _log.warning("%d lines of this log were dropped, as nobody read them", dropped)


OUTLET: Final = Outlet()
"""The one of this process."""


class _Lines(io.RawIOBase):
    """A descriptor to which an outlet writes."""

    def __init__(self, outlet: Outlet, descriptor: int) -> None:
        self._outlet, self._descriptor = outlet, descriptor

    def write(self, text: ReadableBuffer, /) -> int:
        """Take it all, at once."""
        piece = bytes(text)
        self._outlet.put(partial(_write_all, self._descriptor, piece), len(piece))
        return len(piece)

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor itself."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)


def unread_stream(descriptor: int, outlet: Outlet = OUTLET) -> io.TextIOWrapper:
    """A text stream to a descriptor whose writers never wait, line by line."""
    return io.TextIOWrapper(
        _Lines(outlet, descriptor),  # type: ignore[arg-type]  # as Python itself has it with `-u`
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def write_unread() -> None:
    """Make standard error such a stream, for all that this process writes from now on."""
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError):  # something that holds up nobody stands in its place
        return
    sys.stderr.flush()
    sys.stderr = unread_stream(descriptor)


@atexit.register
def drain(seconds: float = _LAST_SECONDS) -> bool:
    """Give the reader so many seconds to take what waits; whether it has."""
    return OUTLET.drain(seconds)


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
