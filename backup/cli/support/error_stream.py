"""Standard error for daemons: a write never blocks, even if the reader of the stream hangs.

    write_unread()              # replaces sys.stderr until the process ends
    drain(0.5)                  # waits up to 0.5 s; whether everything is written

A pipe whose reader hangs, a stopped terminal or a full socket would block the thread that logs, with all
locks that it holds. Here a separate thread writes. Lines that do not fit into its queue are dropped and
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
    """A queue of at most `most` bytes that a thread writes in order; pieces that do not fit are dropped."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._news = threading.Condition()
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._size = self._dropped = 0
        self._thread: threading.Thread | None = None

    def put(self, write: Callable[[], object], size: int) -> None:
        """Queue a piece of `size` bytes, which the thread writes by calling `write`; return at once.

        `write` may block for ever; a piece whose `write` raises OSError counts as dropped.
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
        """Wait up to `seconds` until everything is written; return whether it is."""
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
        """Queue all bytes, and return at once."""
        piece = bytes(text)
        self._outlet.put(partial(_write_all, self._descriptor, piece), len(piece))
        return len(piece)

    def writable(self) -> bool:
        """Return True, as the class of streams requires."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)


def unread_stream(descriptor: int, outlet: Outlet = OUTLET) -> io.TextIOWrapper:
    """Return a line-buffered text stream to a descriptor, whose writes never block."""
    return io.TextIOWrapper(
        _Lines(outlet, descriptor),  # type: ignore[arg-type]  # as Python itself has it with `-u`
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def write_unread() -> None:
    """Replace standard error by such a stream, until the process ends."""
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError):  # something that holds up nobody stands in its place
        return
    sys.stderr.flush()
    sys.stderr = unread_stream(descriptor)


@atexit.register
def drain(seconds: float = _LAST_SECONDS) -> bool:
    """Wait up to `seconds` until everything is written to standard error; return whether it is."""
    return OUTLET.drain(seconds)


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
