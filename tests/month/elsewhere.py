"""Another machine, on which there is no chance: its name, its clock of files, what it draws."""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

FIRST = datetime(2031, 3, 1, 2, 0, tzinfo=UTC)
"""When the month begins: the emulator's clock can only be stepped forward."""
HOST = "night"
SECRET = b"where chunks end follows from it"


def _an_hour_on(clock: int, *, _real: Callable[[int], int] = time.clock_gettime_ns) -> int:
    return _real(clock) + 3_600_000_000_000


def _this_machine(*, _real: os.uname_result = os.uname()) -> os.uname_result:  # noqa: B008
    return os.uname_result((_real.sysname, HOST, _real.release, _real.version, _real.machine))


ELSEWHERE: Final[Sequence[tuple[Any, str, Any]]] = (
    (socket, "gethostname", lambda: HOST),
    (os, "uname", _this_machine),
    (time, "clock_gettime_ns", _an_hour_on),
    (random, "random", lambda: 0.5),
    (random.SystemRandom, "random", lambda _: 0.5),
)
"""Another machine's name, a clock of files on which all files are an hour old, and no chance."""


def rising(now: Callable[[], datetime], first: int = 0) -> Callable[[int], bytes]:
    """Random bytes that begin with half a day and a number: ids are in the order of their making."""
    count, lock, real = itertools.count(first), threading.Lock(), os.urandom

    def drawn(size: int) -> bytes:
        if size == 32:
            return SECRET
        if size not in {8, 16}:
            return real(size)
        with lock:
            number = next(count)
        halves = (now() - FIRST) // timedelta(hours=12)
        return b"\xee" + halves.to_bytes(1, "big") + number.to_bytes(2, "big") + real(size - 4)

    return drawn
