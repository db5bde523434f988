"""The system's clock, and the advice where it and a vault's clock differ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import MAXYEAR, UTC, datetime
from typing import TYPE_CHECKING

from backup.errors import ClockError, NightvaultError

if TYPE_CHECKING:
    from backup.config import VaultSettings


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the time, in UTC. `ClockError` if the clock is outside the calendar."""
        try:
            now = datetime.now(UTC)
        except (ValueError, OverflowError):
            now = None
        if now is None or now.year >= MAXYEAR:  # what is reckoned from there has no date
            raise ClockError(
                "this machine's clock is at the end of the calendar, in the year 9999 or later",
                advice="set it: `timedatectl` shows it",
            )
        return now

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds."""
        time.sleep(seconds)


def of_emulator(settings: VaultSettings) -> str:
    """Return a sentence saying that the vault's clock may be a stepped emulator's; "" for a vault in AWS."""
    if settings.endpoint is None or "amazonaws.com" in settings.endpoint:
        return ""
    return (
        f"if {settings.endpoint} is nightvault's emulator, its clock was stepped (`emulator advance`, "
        '`--speed`), and this machine\'s is right: docs/emulator.md, "Time"'
    )


@contextmanager
def naming_emulator(settings: VaultSettings) -> Iterator[None]:
    """A context manager: adds `of_emulator` to the advice of an error about clocks that differ."""
    try:
        yield
    except NightvaultError as error:
        more = of_emulator(settings)
        if more and str(error).startswith("this machine's clock says "):
            error.advice = f"{error.advice}; {more}" if error.advice else more
        raise
