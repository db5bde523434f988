"""Detects entries that changed so recently that another change might leave no trace in their timestamps.

A file system stamps with the kernel's coarse clock, rounded down to what it can store: two writes within one
tick, or one second, look like one. So an entry whose timestamps are that near to the time of the scan proves
nothing next time, and is read again.
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
    """The time in ns since 1970 by the clock from which the kernel takes timestamps."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME))


def is_fresh(found: os.stat_result, since: int, now: int) -> bool:
    """Whether the timestamps reach up to `since` (ns), when the entry was looked at, or beyond.

    Those of more than a day after `now` are invented, or of a clock that was set back since: a change will
    not repeat them.
    """
    return _is_near(found.st_ctime_ns, since, now) or _is_near(found.st_mtime_ns, since, now)


def surely_old(since: int) -> int:
    """The ns before which both timestamps are of an entry that is not `is_fresh`, on any file system."""
    return since - _COARSE - _TICK


def _is_near(stamp: int, since: int, now: int) -> bool:
    return since - _granularity(stamp) <= stamp <= now + _FUTURE


def _granularity(stamp: int) -> int:
    """The largest possible distance of two timestamps that this file system cannot tell apart."""
    return _TICK if stamp % _SECOND else _COARSE + _TICK
