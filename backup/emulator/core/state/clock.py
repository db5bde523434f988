"""The emulator's clock: real time and an offset, run at a multiple of real speed, stepped by the admin.

It determines when jobs end, inventories are made and things expire. Signatures and credentials are checked by
real time instead. A job's output or an idle upload must not expire within ten real minutes by speed alone, so
their ages are counted with a capped speed.
"""

from __future__ import annotations

import threading
import time

from msgspec import Struct

DAY_MS = 24 * 60 * 60 * 1000
SHORTEST_LIFE_MS = 10 * 60 * 1000
NEVER_MS = 2**62


class ClockState(Struct, frozen=True):
    """A reading of the clock: times in ms since the epoch, `stepped_ms` the sum of all steps so far."""

    real_ms: int
    emulated_ms: int
    stepped_ms: int
    speed: float

    def at(self, real_ms: int) -> ClockState:
        """The reading at a later real moment."""
        passed = max(0, real_ms - self.real_ms)
        return ClockState(real_ms, self.emulated_ms + int(passed * self.speed), self.stepped_ms, self.speed)

    def age_ms(self, since: ClockState, limit_ms: int) -> int:
        """The age of something that began at `since` and lives for `limit_ms`.

        Steps count in full; running time counts with a speed so capped that the limit takes ten real minutes.
        """
        speed = min(self.speed, limit_ms / SHORTEST_LIFE_MS)
        return self.stepped_ms - since.stepped_ms + int((self.real_ms - since.real_ms) * speed)


def real_now_ms() -> int:
    """Real time, ms since the epoch."""
    return time.time_ns() // 1_000_000


class EmulatorClock:
    """A clock that can be stepped and run faster; either takes effect from the present moment on."""

    def __init__(self, state: ClockState | None, *, speed: float) -> None:
        now = real_now_ms()
        before = state.at(now) if state else ClockState(now, now, 0, speed)
        self._lock = threading.Lock()
        self._state = ClockState(now, before.emulated_ms, before.stepped_ms, speed)

    def now(self) -> ClockState:
        """The present moment."""
        with self._lock:
            return self._state.at(real_now_ms())

    def advance(self, seconds: float) -> ClockState:
        """Step forward by emulated seconds and give the new moment."""
        with self._lock:
            now = self._state.at(real_now_ms())
            step = int(seconds * 1000)
            self._state = ClockState(now.real_ms, now.emulated_ms + step, now.stepped_ms + step, now.speed)
            return self._state
