"""Waits for a clock that is not set yet: it shows a time before the newest run or the inventory's creation.

A machine without a battery-backed clock starts in 1970, until the network sets its clock. The daemon waits
for that, at most 15 minutes. Then it takes the clock as right: it was ahead when the newest run began.
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
    """Decides whether the clock can be relied on."""

    monotonic: Callable[[], float]
    _since: float | None = None
    _is_given_up: bool = False

    def is_open(self, newest: datetime | None, now: datetime) -> bool:
        """Whether `now` can be relied on; a wait is logged once, with its reason and limit."""
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
        """Whether tasks wait for the clock to be set."""
        return self._since is not None and not self._is_given_up


def _shown(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")
