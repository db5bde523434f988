"""How fast bytes may pass: a limit by the hour of the day, shared by all threads of a vault.

    pace = RateLimit(Timetable([Window(480, 1080, MIB)]), clock)
    size = pace.take(most)                 # waits, then so many bytes may be sent or read

Each turn is a slice of at most 64 KiB, a quarter of a second at low limits: what is sent never pauses for
long enough that a server would hang up, and a limit that changes takes effect within a part. Turns are given
out in the order of asking, so no thread starves. Nothing is saved up while nobody asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

from backup.errors import InterruptedRunError
from backup.protocols import Clock

SLICE: Final = 64 * 1024
LATE: Final = timedelta(seconds=0.05)
"""A turn taken up so much too late (a sleep is never exact) is made up for."""

_LEAST_SLICE: Final = 1024
_SLICES_A_SECOND: Final = 4
_BEYOND_REASON: Final = timedelta(minutes=1)  # no queue is so long: somebody set the clock back


class Readable(Protocol):
    """An answer's body."""

    def read(self, amt: int | None = None) -> bytes:
        """At most `amt` bytes, all without it; empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """From minute `start` of each day until before `end` (of the next day, if that is not later): bytes a
    second."""

    start: int
    end: int
    limit: int

    def holds_at(self, minute: int) -> bool:
        """Whether this minute of the day lies in it."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


@dataclass(frozen=True, slots=True)
class Timetable:
    """What is allowed when: the lowest limit of all windows that hold, by the clock on the wall in `zone`,
    None: the machine's."""

    windows: Sequence[Window] = ()
    zone: tzinfo | None = None

    def limit_at(self, moment: datetime) -> int | None:
        """Bytes a second; None: no limit."""
        here = moment.astimezone(self.zone)
        minute = here.hour * 60 + here.minute
        return min((each.limit for each in self.windows if each.holds_at(minute)), default=None)


@dataclass(slots=True)
class Turns:
    """Who may pass when: a token bucket of one slice and what 50 ms bring, without clock or thread."""

    timetable: Timetable
    _free: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)

    def next(self, most: int, now: datetime) -> tuple[int, float]:
        """How many of `most` (at least 1) bytes may pass, after how many seconds."""
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
    """Waits until bytes may pass. For any number of threads.

    `stop` tells that whoever waits should give up: `InterruptedRunError`.
    """

    def __init__(self, timetable: Timetable, clock: Clock, stop: Callable[[], bool] | None = None) -> None:
        self._turns = Turns(timetable)
        self._clock = clock
        self._stop = stop
        self._asking = threading.Lock()

    def take(self, most: int) -> int:
        """Wait for a turn; how many bytes, at most `most`, may pass now."""
        with self._asking:
            size, wait = self._turns.next(most, self._clock.now())
        if wait > 0:
            self._clock.sleep(wait)
        if self._stop is not None and self._stop():
            raise InterruptedRunError("stopped on request; what was sent is not sent again")
        return size


class Unlimited:
    """All may pass at once."""

    def take(self, most: int) -> int:
        """All of it."""
        return most


AnyRateLimit = RateLimit | Unlimited
UNLIMITED: Final = Unlimited()


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Of what goes up to a vault, and of what comes down."""

    up: AnyRateLimit = UNLIMITED
    down: AnyRateLimit = UNLIMITED


FREE: Final = RateLimits()


def slices(length: int, pace: AnyRateLimit) -> Iterator[tuple[int, int]]:
    """Start and end of each slice of `length` bytes, when it may pass."""
    start = 0
    while start < length:
        end = start + pace.take(length - start)
        yield start, end
        start = end


def read_all(body: Readable, pace: AnyRateLimit, length: int) -> bytes:
    """All of an answer, slice by slice where there is a limit; it is thought to have `length` bytes."""
    if isinstance(pace, Unlimited):
        return body.read()
    pieces, left = [], length
    while left > 0 and (piece := body.read(pace.take(left))):
        pieces.append(piece)
        left -= len(piece)
    pieces.append(body.read())  # nothing, or what came too much; boto3 now sees whether all came
    return b"".join(pieces)
