"""Whether an entry changed so recently that it may change once more without a trace in its stamps.

A file system stamps with the kernel's coarse clock, rounded down to what it can hold: two writes within one
tick, or one second, look like one. So an entry whose stamps lie that near to the look at it proves nothing
next time, and is read again.
"""

from __future__ import annotations

import os
import time
from typing import Final

_TICK: Final = 10_000_000  # ns: a tick at 100 Hz, and what exFAT can hold
_SECOND: Final = 1_000_000_000
_COARSE: Final = 2 * _SECOND  # FAT's unit; whole seconds elsewhere
_FUTURE: Final = 86_400 * _SECOND  # how far ahead a file server's clock, or its time zone, may be


def stamp_clock() -> int:
    """The time in ns since 1970 by the clock from which the kernel takes its stamps."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME))


def is_fresh(found: os.stat_result, since: int, now: int) -> bool:
    """Whether the stamps reach up to `since` (ns), when the entry was looked at, or beyond.

    Those of more than a day after `now` are somebody's invention or of a clock that was set back since: a
    change will not repeat them.
    """
    return _is_near(found.st_ctime_ns, since, now) or _is_near(found.st_mtime_ns, since, now)


def is_surely_old(found: os.stat_result, since: int) -> bool:
    """Whether `is_fresh` is out of the question, whatever its file system can hold; cheaper to ask."""
    limit = since - _COARSE - _TICK
    return found.st_ctime_ns < limit and found.st_mtime_ns < limit


def _is_near(stamp: int, since: int, now: int) -> bool:
    return since - _granularity(stamp) <= stamp <= now + _FUTURE


def _granularity(stamp: int) -> int:
    """How far apart two stamps are that this file system can tell from each other, at the most."""
    return _TICK if stamp % _SECOND else _COARSE + _TICK
