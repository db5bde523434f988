"""Waiting for a vault: when it is expected, how long to the next look, and no hour without a word."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from backup.cli.support.context import Cli

if TYPE_CHECKING:
    from backup.app.expecting import Expected
    from backup.protocols import Progress

FIRST_POLL, LONGEST_POLL = 1.0, 300.0
_STEP = 5.0  # seconds: so often a wait may be told of


class Wait:
    """The looks of one wait, ever further apart, as a phase that is shown."""

    def __init__(self, cli: Cli, progress: Progress) -> None:
        self._clock = cli.clock
        self._progress = progress
        self._pause = FIRST_POLL
        self._is_shown = False

    @property
    def has_begun(self) -> bool:
        """Whether it waited already."""
        return self._is_shown

    def until_next_look(self, title: str) -> None:
        """Sleep; `title` says for what, the first time."""
        if not self._is_shown:
            self._progress.start(title)
            self._is_shown = True
        left, self._pause = self._pause, min(self._pause * 1.5, LONGEST_POLL)
        while left > 0:
            self._clock.sleep(min(left, _STEP))
            self._progress.advance()
            left -= _STEP

    def over(self, *, is_done: bool = True) -> None:
        """What was waited for has come, or some of it; the next look is soon."""
        if self._is_shown:
            self._progress.finish(is_done=is_done)
        self._pause, self._is_shown = FIRST_POLL, False


def hours_told(least: float, most: float) -> str:
    """A span of hours: 1 to 5 minutes, 3 to 5 hours, up to 12 hours."""
    unit, factor = ("minutes", 60) if most < 1 else ("hours", 1)
    end = f"{most * factor:g} {unit}"
    return f"{least * factor:g} to {end}" if least else f"up to {end}"


def told(when: Expected | None, now: datetime) -> str:
    """When it is expected, as the end of a sentence; empty if nobody knows."""
    if when is None:
        return ""
    if when.latest < now:
        return f", expected by {_short(when.latest, now)}: the vault is late"
    if when.earliest <= now:
        return f", expected by {_short(when.latest, now)}"
    return f", expected between {_short(when.earliest, now)} and {_short(when.latest, now)}"


def _short(moment: datetime, now: datetime) -> str:
    """A time of this machine's zone, with its day unless that is today."""
    here, today = moment.astimezone(), now.astimezone()
    return f"{here:%H:%M}" if here.date() == today.date() else f"{here:%Y-%m-%d %H:%M}"
