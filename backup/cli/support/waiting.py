"""Waits for a vault: polls it at growing intervals, and says how long it may take."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from backup.cli.support.context import Cli

if TYPE_CHECKING:
    from backup.app.money.expected_times import Expected
    from backup.protocols import Clock, Progress
    from backup.transfer.retry import RetryLimit

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
_PROGRESS_STEP = 5.0  # seconds between two signs of life during a pause

SAME_COMMAND_GOES_ON = "Ctrl-C is safe: the same command goes on"

Found = TypeVar("Found")


def wait_until(
    is_over: Callable[[Found], bool],
    found: Found,
    look_again: Callable[[RetryLimit], Found],
    *,
    cli: Cli,
    progress: Progress,
    stays: bool,
    title: Callable[[Found], str],
    hint: str = "",
) -> Found:
    """Poll with `look_again` until a result `is_over`, and return it; `found` is the first result.

    If the command does not stay, `found` is returned. The pauses between two polls grow to five minutes and
    are shown as a phase called `title`; `hint` is shown once before it. `look_again` gets the retry limit for
    a vault that has answered before.
    """
    pause, has_begun = FIRST_PAUSE, False
    while stays and not is_over(found):
        if not has_begun:
            if hint:
                cli.say(hint)
            progress.start(title(found))
            has_begun = True
        _sleep(cli.clock, progress, pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
        found = look_again(cli.retry_limit(has_answered=True))
    if has_begun:
        progress.finish()
    return found


def daemon_runs(cli: Cli) -> bool:
    """Whether a daemon of this config runs, which continues what waits; False if that is unknown."""
    from backup.inventory.store.holders import holders

    return "daemon" in (holders(cli.config().state_dir) or {})


def _sleep(clock: Clock, progress: Progress, seconds: float) -> None:
    """Sleep, and let the progress be told now and then meanwhile."""
    while seconds > 0:
        clock.sleep(min(seconds, _PROGRESS_STEP))
        progress.advance()
        seconds -= _PROGRESS_STEP


def hours_text(least: float, most: float) -> str:
    """Return a range of hours as text: 1 to 5 minutes, 3 to 5 hours, up to 12 hours."""
    unit, factor = ("minutes", 60) if most < 1 else ("hours", 1)
    end = f"{most * factor:g} {unit}"
    return f"{least * factor:g} to {end}" if least else f"up to {end}"


def expected_text(when: Expected | None, now: datetime) -> str:
    """Return the expected time as the end of a sentence; empty if it is unknown."""
    if when is None:
        return ""
    if when.latest < now:
        return f", expected by {_short(when.latest, now)}: the vault is late"
    if when.earliest <= now:
        return f", expected by {_short(when.latest, now)}"
    return f", expected between {_short(when.earliest, now)} and {_short(when.latest, now)}"


def _short(moment: datetime, now: datetime) -> str:
    """A time in this machine's zone, with its day unless that is today."""
    here, today = moment.astimezone(), now.astimezone()
    return f"{here:%H:%M}" if here.date() == today.date() else f"{here:%Y-%m-%d %H:%M}"
