"""Try again what may work the next time, with growing waits."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from backup.errors import NightvaultError
from backup.protocols import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try, and how long to wait between: `first` seconds, doubled each time up to `longest`.

    Each wait is drawn between half and all of that, so that many servers do not come back at once. Glacier
    answers 500 in normal life: nine tries outlast about two minutes of it.
    """

    clock: Clock
    attempts: int = 9
    first: float = 0.5
    longest: float = 60.0
    chance: random.Random = field(default_factory=random.Random)

    def call(self, action: Callable[[], T]) -> T:
        """Run `action` until it works, or fails for good, or patience ends; then its own error comes out."""
        wait = self.first
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            except NightvaultError as error:
                if not error.retryable or attempt == self.attempts:
                    raise
            self.clock.sleep(wait * (0.5 + self.chance.random() / 2))
            wait = min(wait * 2, self.longest)
        raise AssertionError  # the loop returns or raises
