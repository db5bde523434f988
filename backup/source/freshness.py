"""Detects entries that changed so recently that another change might leave no trace in their timestamps.

A file system stamps with the kernel's coarse clock, rounded down to what it can store: two writes within one
tick, or one second, look like one. And a page of a file that a program has mapped (mmap) is stamped when it
becomes dirty: what else is written to it leaves no trace until the kernel has written it back, half a minute
later. So an entry whose timestamps are that near to the time of the scan proves nothing next time, and is
read again.
"""

from __future__ import annotations

import os
import stat
import time
from functools import cache
from typing import Final

_TICK: Final = 10_000_000  # ns: a tick at 100 Hz, and what exFAT can hold
_SECOND: Final = 1_000_000_000
_COARSE: Final = 2 * _SECOND  # FAT's unit; whole seconds elsewhere
_WRITTEN_BACK: Final = 60 * _SECOND  # on ext4 a page that is written all the time is stamped each 33 s
_USUAL_EXPIRY: Final = 3500  # 1/100 s: Linux writes back what is dirty for 30 s, and looks every 5 s
_SETTINGS: Final = ("/proc/sys/vm/dirty_expire_centisecs", "/proc/sys/vm/dirty_writeback_centisecs")
_FUTURE: Final = 86_400 * _SECOND  # how far ahead a file server's clock, or its time zone, may be


def stamp_clock() -> int:
    """The time in ns since 1970 by the clock from which the kernel takes timestamps."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME))


def is_fresh(found: os.stat_result, since: int, now: int) -> bool:
    """Whether a timestamp is near or after `since` (ns), the time at which the entry was scanned.

    Those of more than a day after `now` are invented, or of a clock that was set back since: a change will
    not repeat them.
    """
    reach = write_back_reach() if stat.S_ISREG(found.st_mode) else 0
    return _is_near(found.st_ctime_ns, since, now, reach) or _is_near(found.st_mtime_ns, since, now, reach)


def surely_old(since: int) -> int:
    """The time (ns) such that an entry with both timestamps before it is not fresh, on any file system."""
    return since - max(_COARSE + _TICK, write_back_reach())


@cache
def write_back_reach() -> int:
    """How long (ns) a mapped page can be written again without a new timestamp, as this machine is set."""
    settings = []
    for path in _SETTINGS:
        try:
            with open(path, encoding="ascii") as file:
                settings.append(int(file.read()))
        except (OSError, ValueError):
            return _WRITTEN_BACK
    return reach_of(*settings)


def reach_of(expire: int, interval: int) -> int:
    """That time (ns) if pages dirty for `expire` are written back each `interval` (both in 1/100 s)."""
    return _WRITTEN_BACK + max(0, expire + interval - _USUAL_EXPIRY) * _SECOND // 100


def _is_near(stamp: int, since: int, now: int, reach: int) -> bool:
    return since - max(reach, _granularity(stamp)) <= stamp <= now + _FUTURE


def _granularity(stamp: int) -> int:
    """The largest possible distance of two times that this file system stores as the same timestamp."""
    return _TICK if stamp % _SECOND else _COARSE + _TICK
