"""Limits how long a decision may be used, as a server may take an archive back and reuse it meanwhile.

It reuses the archive an hour after it took it back if lists come at once, and days after it if they are late
(`inventory/questions/compared.py`). A suspended process must not delete by an old decision.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from backup.protocols import Clock
from backup.pruner.listed import PruneStoppedError

_LOOK_AGAIN = timedelta(minutes=10)
_AT_ONCE = timedelta(minutes=30)
_LATE = timedelta(hours=20)  # with the age of the list at that time: less than its servers wait


class Validity:
    """The time from which a decision is valid, and its limit.

    `look` raises if the server stored a catalog since. It is None if that cannot be seen at once: then the
    decision is valid for some hours from when it was `begun`.
    """

    def __init__(self, clock: Clock, begun: datetime, look: Callable[[], None] | None) -> None:
        self._clock = clock
        self._since = begun
        self._look = look
        self._limit = _LATE if look is None else _AT_ONCE

    def renew(self) -> None:
        """Check again if the last check is some time ago."""
        now = self._clock.now()
        if self._look is not None and abs(now - self._since) > _LOOK_AGAIN:
            self._look()
            self._since = now

    def require(self) -> None:
        """`PruneStoppedError` if the decision is no longer valid."""
        passed = abs(self._clock.now() - self._since)
        if passed > self._limit:
            raise PruneStoppedError(
                f"{passed.total_seconds() / 3600:.1f} hours passed since it was decided what may be deleted: "
                "this machine slept, or its clock was set",
                advice="what was not deleted yet is decided anew when you run it again",
            )
