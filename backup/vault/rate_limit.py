"""Rate limits by the hour of the day, each shared by all threads of a vault.

    limit = RateLimit(Timetable([Window(480, 1080, MIB)]), clock)
    size = limit.take(most)                # waits, then so many bytes may be sent or read

Each turn is a slice of at most 64 KiB, a quarter of a second at low limits: sending never pauses so long that
a server would hang up, and a change of the limit takes effect within a part. Turns are given out in the order
of asking, so no thread starves. Unused allowance is not saved up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

from msgspec import Struct, field

from backup.errors import InterruptedRunError
from backup.protocols import Clock

SLICE: Final = 64 * 1024
LATE: Final = timedelta(seconds=0.05)
"""The delay of a turn that is made up for, since a sleep is never exact."""

_LEAST_SLICE: Final = 1024
_SLICES_A_SECOND: Final = 4
_BEYOND_REASON: Final = timedelta(minutes=1)  # no queue is so long: somebody set the clock back


class Readable(Protocol):
    """The body of an answer, as boto3 gives it."""

    def read(self, amt: int | None = None) -> bytes:
        """At most `amt` bytes, or all without it; empty at the end."""
        ...


class Window(Struct, frozen=True):
    """A limit in bytes a second from minute `start` of each day to before `end` (of the next day, if not
    later)."""

    start: int
    end: int
    limit: int

    def holds_at(self, minute: int) -> bool:
        """Whether this minute of the day is in the window."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


class Timetable(Struct, frozen=True):
    """Windows with limits; the lowest one in force counts, by local time in `zone` (None: the machine's)."""

    windows: Sequence[Window] = ()
    zone: tzinfo | None = None

    def limit_at(self, moment: datetime) -> int | None:
        """The limit in bytes a second at this moment; None without a limit."""
        here = moment.astimezone(self.zone)
        minute = here.hour * 60 + here.minute
        return min((window.limit for window in self.windows if window.holds_at(minute)), default=None)


class Turns(Struct):
    """A token bucket of one slice plus the allowance of 50 ms; pure, without clock or thread."""

    timetable: Timetable
    _free: datetime = field(default=datetime.min.replace(tzinfo=UTC))

    def next(self, most: int, now: datetime) -> tuple[int, float]:
        """The number of bytes (1 to `most`) that may pass, and the seconds to wait before."""
        if self._free > now + _BEYOND_REASON:
            self._free = now
        begin = max(now - LATE, self._free)
        limit = self.timetable.limit_at(max(begin, now))
        if limit is None:
            self._free = now
            return min(most, SLICE), 0.0
        size = min(most, SLICE, max(limit // _SLICES_A_SECOND, _LEAST_SLICE))
        self._free = begin + timedelta(microseconds=-(-size * 1_000_000 // limit))
        return size, max((begin - now).total_seconds(), 0.0)


class RateLimit:
    """A rate limit that waits until bytes may pass; for any number of threads.

    `InterruptedRunError` once `stop` returns True.
    """

    def __init__(self, timetable: Timetable, clock: Clock, stop: Callable[[], bool] | None = None) -> None:
        self._turns = Turns(timetable)
        self._clock = clock
        self._stop = stop
        self._asking = threading.Lock()

    def take(self, most: int) -> int:
        """Wait for a turn; return the number of bytes, at most `most`, that may pass now."""
        with self._asking:
            size, wait = self._turns.next(most, self._clock.now())
        if wait > 0:
            self._clock.sleep(wait)
        if self._stop is not None and self._stop():
            raise InterruptedRunError("stopped on request; what was sent is not sent again")
        return size


class Unlimited:
    """The same interface without a limit."""

    def take(self, most: int) -> int:
        """Return `most` at once."""
        return most


AnyRateLimit = RateLimit | Unlimited
UNLIMITED: Final = Unlimited()


class RateLimits(Struct, frozen=True):
    """The rate limits of a vault: one for uploads, one for downloads."""

    up: AnyRateLimit = UNLIMITED
    down: AnyRateLimit = UNLIMITED


NO_LIMITS: Final = RateLimits()


def slices(length: int, limit: AnyRateLimit) -> Iterator[tuple[int, int]]:
    """Start and end of each slice of `length` bytes, yielded when it may pass."""
    start = 0
    while start < length:
        end = start + limit.take(length - start)
        yield start, end
        start = end


def read_all(body: Readable, limit: AnyRateLimit, length: int) -> bytes:
    """The whole body, read slice by slice where there is a limit; `length` bytes are expected."""
    if isinstance(limit, Unlimited):
        return body.read()
    pieces, left = [], length
    while left > 0 and (piece := body.read(limit.take(left))):
        pieces.append(piece)
        left -= len(piece)
    pieces.append(body.read())  # nothing, or what came too much; boto3 now sees whether all came
    return b"".join(pieces)
