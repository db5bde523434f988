"""Retries requests that may succeed later, with growing waits, and says so when it takes long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from msgspec import Struct, field

from backup.errors import NightvaultError, ThrottledError, UnreachableError
from backup.protocols import Clock, Progress

T = TypeVar("T")

FIRST_CONTACT: Final = 30.0
"""Seconds: so long a vault that never answered is tried, if nobody says otherwise (`--patience`)."""
_SOON: Final = 4.0  # seconds without success: longer ones are told of before they are over
_AGAIN: Final = 60.0  # seconds between two words about it


class _Told(Struct):
    """The time of the last message to the user, by any thread."""

    at: datetime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def _chance() -> float:
    """From 0 to 1, for waits; imported when something fails, which is seldom."""
    from random import random

    return random()  # noqa: S311  nothing secret depends on it


class RetryPolicy(Struct, frozen=True):
    """A limit of tries and the waits between them: `first` seconds, doubled each time up to `longest`.

    Each wait is drawn between half and all of that, so that many servers do not come back at once. Glacier
    answers 500 in normal life: nine tries outlast about two minutes of it. With a `limit` (seconds) a vault
    that is away is given up before that is over; if it `insists`, not earlier. `tell` gets a sentence where
    success takes more than some seconds, from whichever thread waits.
    """

    clock: Clock
    attempts: int = 9
    first: float = 0.5
    longest: float = 60.0
    chance: Callable[[], float] = _chance
    limit: float | None = None
    insists: bool = False
    tell: Callable[[str], None] | None = None
    _told: _Told = field(default_factory=_Told)

    def call(self, action: Callable[[], T]) -> T:
        """Run `action` until it succeeds, fails for good, or the limit is reached; then raise its error."""
        wait, attempt, began, told = self.first, 0, self.clock.now(), False
        while True:
            attempt += 1
            since = self.clock.now()
            try:
                result = action()
            except NightvaultError as error:
                now = self.clock.now()
                took, last = (now - began).total_seconds(), (now - since).total_seconds()
                if not error.retryable or self._is_over(error, attempt, took + wait + last):
                    raise
                pause = wait * (0.5 + self.chance() / 2)
                told = self._say(error, took + pause + last) or told
            else:
                if told and self.tell is not None:
                    self.tell("it works again")
                return result
            self.clock.sleep(pause)
            wait = min(wait * 2, self.longest)

    def _is_over(self, error: NightvaultError, attempt: int, next_end: float) -> bool:
        """Whether this was the last try; `next_end` is when another one would be over, in seconds."""
        is_away = isinstance(error, UnreachableError) and not isinstance(error, ThrottledError)
        if self.limit is not None and is_away:
            return next_end > self.limit or (attempt >= self.attempts and not self.insists)
        return attempt >= self.attempts

    def _say(self, error: NightvaultError, seconds: float) -> bool:
        """Tell the user about a retry if it takes long; returns whether this was said."""
        if self.tell is None or seconds < _SOON:
            return False
        now = self.clock.now()
        with self._told.lock:
            if self._told.at is not None and (now - self._told.at).total_seconds() < _AGAIN:
                return False
            self._told.at = now
        self.tell(f"{error}: it is tried again")
        return True


class RetryLimit(Struct, frozen=True):
    """The limit of retries for a vault: `seconds` if the user set it; after it `has_answered`, the usual."""

    seconds: float | None = None
    has_answered: bool = False

    def patience(self, clock: Clock, progress: Progress, *, attempts: int = 9) -> RetryPolicy:
        """The retry policy for requests to the vault now."""
        if self.has_answered:
            return RetryPolicy(clock, tell=progress.note)
        limit = FIRST_CONTACT if self.seconds is None else self.seconds
        insists = self.seconds is not None
        return RetryPolicy(clock, attempts=attempts, limit=limit, insists=insists, tell=progress.note)
