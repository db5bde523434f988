"""Waits for a clock that is not set yet: one that shows a time before the newest run, or the inventory.

A machine without a battery begins in 1970, and is set once the network is there. That is waited for, for a
quarter of an hour at most: else the clock is right, and was ahead when that run began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

LONGEST = 15 * 60
"""The longest wait in seconds, which no clock that jumps can change."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ClockGate:
    """Whether the clock can be relied on."""

    monotonic: Callable[[], float]
    _since: float | None = None
    _is_given_up: bool = False

    def is_open(self, newest: datetime | None, now: datetime) -> bool:
        """Whether `now` can be relied on; what is waited for, and for how long, is logged once."""
        if newest is None or newest <= now:
            if self._since is not None and not self._is_given_up:
                _log.info("this machine's clock was set: it is %s", _shown(now))
            self._since, self._is_given_up = None, False
            return True
        if self._since is None:
            self._since = self.monotonic()
            _log.warning(
                "this machine's clock shows %s, but the newest run began, or the inventory was made, at "
                "%s: waiting for it to be set, for 15 minutes at most",
                _shown(now),
                _shown(newest),
            )
        if self._is_given_up or self.monotonic() - self._since < LONGEST:
            return self._is_given_up
        self._is_given_up = True
        _log.warning("this machine's clock was not set: it is used as it is; what is due counts as due")
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether the clock is waited for just now."""
        return self._since is not None and not self._is_given_up


def _shown(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")
