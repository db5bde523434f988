"""Signals: the first SIGINT, SIGTERM or SIGHUP asks a run to stop cleanly, the second ends it at once.

SIGHUP comes when a terminal or a connection is closed, often twice, from the kernel and from the shell. A
process that was started to ignore it, as by `nohup`, goes on ignoring it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queue import SimpleQueue

_STOPPING = b"\nstopping: what was sent is not lost; once more stops at once\n"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give the body an event that a signal sets; the previous handlers are restored at the end."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGHUP:
            return
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        _say(_STOPPING)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, *ending_signals())}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return SIGTERM, and SIGHUP unless this process was started to ignore it."""
    ignores = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM,) if ignores else (signal.SIGTERM, signal.SIGHUP)


def kept_hangups() -> SimpleQueue[int]:
    """Return a queue that collects SIGHUPs from now on, unless this process ignores them.

    For the daemon, which must not be ended by a SIGHUP before its loop handles them. Only the main thread
    may set handlers.
    """
    from queue import SimpleQueue

    kept: SimpleQueue[int] = SimpleQueue()
    is_heeded = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    if is_heeded and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda number, _frame: kept.put(number))
    return kept


def _say(text: bytes) -> None:
    """Write past all buffers, as a signal may come in the midst of a write; not where that would wait."""
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, text)
