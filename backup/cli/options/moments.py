"""Parses times as people write them: a day, a local time, or a time with a UTC offset."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any

import click

from backup.cli.support.context import Cli
from backup.errors import UsageError

_SPAN = re.compile(r"([0-9]{1,4})\s*([mhdw])")
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_WEEKDAY = re.compile(f"(last|next) ({'|'.join(calendar.day_name)})".lower())
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


Say = Callable[[str], None]


def parse_moment(text: str, now: datetime, say: Say | None = None) -> datetime:
    """Return the time that a text names, with zone; a day alone means its last moment. `UsageError`.

    Accepts `yesterday`, `last monday`, `tomorrow`, `next friday`, and `3d` for a time three days ago. A
    local time that daylight saving skips becomes the first one after the gap; `say` is called about it.
    """
    words = " ".join(text.lower().split())
    here = now.astimezone()
    day = _named_day(words, here.date())
    if day is not None:
        return _here(datetime.combine(day, time.max), say)
    if span := _SPAN.fullmatch(words):
        return here - int(span[1]) * _UNITS[span[2]]
    written = text.strip()
    try:
        if len(written) == len("2026-11-01"):
            return _here(datetime.combine(date.fromisoformat(written), time.max), say)
        found = datetime.fromisoformat(written)
        return _here(found, say) if found.tzinfo is None else found
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time that can be read",
            advice='write "2026-11-01 03:00" or "2026-11-01T03:00+01:00", yesterday, "last monday", or 3d',
        ) from error


def _here(wall: datetime, say: Say | None) -> datetime:
    """The moment at which this machine's clock shows that, or the first time after it."""
    from backup.schedule import instant

    found = instant(wall, None).astimezone()
    if say is not None and found.replace(tzinfo=None) != wall:
        say(
            f"{wall:%Y-%m-%d %H:%M} does not exist here, as the clock is put forward over it: "
            f"{found:%Y-%m-%d %H:%M} is taken"
        )
    return found


def _named_day(words: str, today: date) -> date | None:
    """The day of words such as `yesterday` or `last monday`; None for others."""
    if words in _DAYS:
        return today + timedelta(days=_DAYS[words])
    match = _WEEKDAY.fullmatch(words)
    if match is None:
        return None
    ahead = ([name[:3].lower() for name in calendar.day_name].index(match[2][:3]) - today.weekday()) % 7
    return today + timedelta(days=(ahead or 7) if match[1] == "next" else ahead - 7)


def parse_until(text: str, now: datetime, say: Say | None = None) -> datetime:
    """Return the time that a text names; it may be a span from now on, such as 3h or 2d. `UsageError`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        try:
            return parse_moment(text, now, say)
        except UsageError as error:
            raise UsageError(
                str(error), advice='write a span such as 3h or 2d, a day, or "2026-11-01 03:00"'
            ) from error
    return now + int(match[1]) * _UNITS[match[2]]


def _parsed(ctx: click.Context, _param: click.Parameter, value: Any) -> datetime | None:
    cli = ctx.ensure_object(Cli)
    return None if value is None else parse_moment(value, cli.clock.now(), cli.say)


at_option = click.option(
    "--at",
    metavar="TIME",
    callback=_parsed,
    help="With `latest`: the newest snapshot that began no later than this.",
)
