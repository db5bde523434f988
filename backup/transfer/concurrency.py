"""Concurrency of uploads: more parts at once while that is faster, fewer when vault or line are overloaded.

    lanes = Concurrency(now=3, most=8)
    lanes = lanes.after(Throughput(sent=…, seconds=…, troubles=0))     # again and again
    lanes.now

Hill climbing: one more is tried, and kept if bytes a second grew by a twentieth; else it is one less again,
and the next try comes after a wait that doubles. A throttled or failed request halves them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from backup.protocols import Clock

GAIN: Final = 1.05
FIRST_WAIT: Final = 4
LONGEST_WAIT: Final = 32
"""Looks, not seconds."""


class Throughput(Struct, frozen=True):
    """The throughput while every slot was used: bytes, seconds (more than 0), failed requests."""

    sent: int
    seconds: float
    troubles: int = 0


class Concurrency(Struct, frozen=True):
    """`now` slots are used, of `least` to `most`; `rate`: bytes a second before, with as many or one less."""

    now: int
    most: int
    least: int = 1
    rate: float = 0.0
    is_trying: bool = False
    wait: int = 0
    next_wait: int = FIRST_WAIT

    @classmethod
    def fixed(cls, number: int) -> Concurrency:
        """The same concurrency all the time."""
        return cls(number, number, number)

    def after(self, look: Throughput) -> Concurrency:
        """The concurrency to use after this measurement."""
        if look.troubles:
            return self._pressed()
        rate = look.sent / look.seconds
        if self.is_trying and rate < self.rate * GAIN:
            return self._back()
        if self.wait:
            return replace(self, wait=self.wait - 1, rate=rate)
        more = self.now < self.most
        wait = FIRST_WAIT if self.is_trying else self.next_wait
        return replace(self, now=self.now + more, rate=rate, is_trying=more, next_wait=wait)

    def _back(self) -> Concurrency:
        longer = min(self.next_wait * 2, LONGEST_WAIT)
        return replace(self, now=self.now - 1, is_trying=False, wait=self.next_wait, next_wait=longer)

    def _pressed(self) -> Concurrency:
        fewer = max(self.now // 2, self.least)
        return replace(self, now=fewer, is_trying=False, wait=self.next_wait, rate=0.0)


class Gate:
    """Lets as many threads send at once as there are slots, and measures the throughput. For any threads."""

    def __init__(self, lanes: Concurrency, clock: Clock) -> None:
        self._lanes = lanes
        self._clock = clock
        self._changed = threading.Condition()
        self._inside = 0
        self.waiting = 0  # threads that wait for a lane
        self._is_closed = False
        self._since: datetime | None = None
        self._sent = self._parts = self._troubles = 0

    @property
    def lanes(self) -> Concurrency:
        """The present concurrency."""
        return self._lanes

    @contextmanager
    def passing(self, size: int) -> Iterator[None]:
        """Wait for a slot, and hold it while `size` bytes are sent. CancelledError once it is closed."""
        with self._changed:
            self.waiting += 1
            self._changed.wait_for(lambda: self._is_closed or self._inside < self._lanes.now)
            self.waiting -= 1
            if self._is_closed:
                raise CancelledError
            self._inside += 1
            if self._since is None and self._inside == self._lanes.now:
                self._begin()
        sent = 0
        try:
            yield
            sent = size
        finally:
            with self._changed:
                self._inside -= 1
                self._look_at_rate(sent)
                self._changed.notify_all()

    def close(self) -> None:
        """Let no thread through any more, nor those that wait: a run that ends early sends no more parts."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def trouble(self) -> None:
        """A request failed in a way that may pass: asked too often, answered too late, cut."""
        with self._changed:
            self._troubles += 1

    def _begin(self) -> None:
        self._since = self._clock.now()
        self._sent = self._parts = 0

    def _look_at_rate(self, sent: int) -> None:
        """Decide after two parts a lane; what was sent while a lane was empty says nothing."""
        self._sent += sent
        self._parts += 1
        if self._troubles:
            self._lanes = self._lanes.after(Throughput(self._sent, 1.0, self._troubles))
            self._troubles = 0
            self._begin()
        elif not self.waiting:
            self._since = None
        elif self._since is not None and self._parts >= 2 * self._lanes.now:
            seconds = (self._clock.now() - self._since).total_seconds()
            if seconds < 0:
                self._begin()  # the clock was set back: what was counted says nothing
            elif seconds > 0:
                self._lanes = self._lanes.after(Throughput(self._sent, seconds))
                self._begin()
