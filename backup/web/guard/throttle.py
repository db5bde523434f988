"""Limits failed logins, by name and in total; nobody is locked out for good.

After a few failures a name is blocked, for a time that doubles up to five minutes; attempts meanwhile are
refused without a check of the password. After thirty failures within a minute, of any names, logins from new
browsers are refused until the minute is over. A browser in which the user has logged in before, or set a
password by a link, is counted separately, so that an attacker who keeps guessing does not lock out the user;
such a link can be made on the server.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_FREE, _FREE_IN_ALL = 5, 30
_LONGEST = timedelta(minutes=5)
_FORGOTTEN_AFTER = timedelta(hours=1)
_MOST_NAMES = 4096
_WINDOW = timedelta(minutes=1)


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: datetime | None = None
    rests_until: datetime | None = None


@dataclass(slots=True)
class Throttle:
    """The counts of failures, by name and by known browser."""

    _by_key: OrderedDict[tuple[str, bytes], _Failures] = field(default_factory=OrderedDict)
    _window_began: datetime | None = None
    _in_window: int = 0

    def seconds_to_wait(self, name: str, browser: bytes, now: datetime) -> int:
        """Return how many seconds this login has to wait; 0: it may be tried."""
        found = self._by_key.get((name, browser))
        waits = [timedelta()]
        if found is not None and found.rests_until is not None:
            waits.append(found.rests_until - now)
        if not browser and self._window_began is not None and self._in_window >= _FREE_IN_ALL:
            waits.append(self._window_began + _WINDOW - now)
        longest = min(max(waits), _LONGEST)
        return int(longest.total_seconds() + 0.999)

    def failed(self, name: str, browser: bytes, now: datetime) -> None:
        """Count a failure."""
        found = self._by_key.pop((name, browser), None)
        if found is None or (found.last is not None and now - found.last > _FORGOTTEN_AFTER):
            found = _Failures()
        found.count, found.last = found.count + 1, now
        if found.count >= _FREE:
            rest = timedelta(seconds=2 ** min(found.count - _FREE + 1, 10))
            found.rests_until = now + min(rest, _LONGEST)
        self._by_key[name, browser] = found
        while len(self._by_key) > _MOST_NAMES:
            self._by_key.popitem(last=False)
        if browser:
            return
        if self._window_began is None or now - self._window_began >= _WINDOW:
            self._window_began, self._in_window = now, 0
        self._in_window += 1

    def succeeded(self, name: str, browser: bytes) -> None:
        """Reset the failures of a name in a browser."""
        self._by_key.pop((name, browser), None)
