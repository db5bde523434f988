"""Time spans of prunes, compactions and checks in the config, parsed as seconds."""

from __future__ import annotations

import re

from backup.retention import prune

_SPAN = re.compile(r"([0-9]{1,4})\s*([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
_HOUR = 3600
DAY = 24 * _HOUR
DEFAULT_GRACE = int(prune.DEFAULT_GRACE.total_seconds())
DEFAULT_HORIZON = 2 * 365 * DAY
DEFAULT_KEEP_RUNS = int(prune.DEFAULT_KEEP_RUNS.total_seconds())
DEFAULT_LOCK_FOR = 60 * DAY
DEFAULT_LOCK_STEP = 10 * DAY
LONGEST_LOCK = 400 * DAY
_LONGEST_GRACE = 365 * DAY
_LONGEST_HORIZON = 20 * 365 * DAY
_LONGEST_MEMORY = 100 * 365 * DAY


def parse_grace(value: object) -> int:
    """Return the seconds of "12h", "3d" or "1w", at least an hour.

    `ValueError`, with the message for the user.
    """
    return _seconds(
        value, _HOUR, _LONGEST_GRACE, 'must be a text such as "3d", from "1h" to "365d" (h, d or w)'
    )


def parse_lock(value: object) -> int:
    """Return the seconds of "60d" or "8w", at least a day. `ValueError`, with the message for the user."""
    return _seconds(value, DAY, _LONGEST_MEMORY, 'must be a text such as "60d", at least "1d" (d, w or y)')


def parse_delay(value: object) -> int:
    """Return the seconds of "12h", "3d" or "1w". `ValueError`, with the message for the user."""
    return _seconds(
        value, _HOUR, _LONGEST_GRACE, 'must be a text such as "2d", from "1h" to "365d" (h, d or w)'
    )


def parse_horizon(value: object) -> int:
    """Return the seconds of "180d" or "2y", at least a month. `ValueError`, with the message for the user."""
    return _seconds(value, 30 * DAY, _LONGEST_HORIZON, 'must be a text such as "2y", from "30d" to "20y"')


def parse_age(value: object) -> int:
    """Return the seconds of "90d" or "26w", at least a day. `ValueError`, with the message for the user."""
    return _seconds(value, DAY, _LONGEST_HORIZON, 'must be a text such as "90d", from "1d" to "20y"')


def parse_keep_runs(value: object) -> int:
    """Return the seconds of "400d" or "3y", at least a quarter.

    `ValueError`, with the message for the user.
    """
    return _seconds(value, 90 * DAY, _LONGEST_MEMORY, 'must be a text such as "400d", from "90d" to "100y"')


def _seconds(value: object, least: int, most: int, sentence: str) -> int:
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = int(match[1]) * _HOURS[match[2]] * _HOUR if match else 0
    if not least <= seconds <= most:
        raise ValueError(sentence)
    return seconds
