"""A point in time as people write it: a day, a time of this machine's zone, or one with an offset."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Any

import click

from backup.errors import UsageError

_SPAN = re.compile(r"([0-9]{1,4})\s*([mhdw])")
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def parse_moment(text: str) -> datetime:
    """The aware time of a text; a day alone is its last moment, so that it is included. `UsageError`."""
    words = text.strip()
    try:
        if len(words) == len("2026-11-01"):
            return datetime.combine(date.fromisoformat(words), time.max).astimezone()
        found = datetime.fromisoformat(words)
        return found.astimezone(found.tzinfo)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no point in time", advice='write "2026-11-01 03:00" or "2026-11-01T03:00+01:00"'
        ) from error


def parse_until(text: str, now: datetime) -> datetime:
    """The aware time of a text that may also be a span from now on, such as 3h or 2d. `UsageError`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        try:
            return parse_moment(text)
        except UsageError as error:
            raise UsageError(
                str(error), advice='write a span such as 3h or 2d, a day, or "2026-11-01 03:00"'
            ) from error
    return now + int(match[1]) * _UNITS[match[2]]


def _parsed(_ctx: click.Context, _param: click.Parameter, value: Any) -> datetime | None:
    return None if value is None else parse_moment(value)


at_option = click.option(
    "--at",
    metavar="TIME",
    callback=_parsed,
    help="With `latest`: the newest snapshot that began no later than this.",
)
