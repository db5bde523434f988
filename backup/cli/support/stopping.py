"""The first SIGINT or SIGTERM asks a run to stop where it can be gone on with; the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_STOPPING = b"\nstopping: what was sent is not lost; once more stops at once\n"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that a signal sets; the handlers before are put back in the end."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        _say(_STOPPING)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: bytes) -> None:
    """Write past all buffers: a signal may come in the midst of a write."""
    with suppress(OSError):
        os.write(2, text)
