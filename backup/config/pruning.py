"""How long condemned archives wait, as it is written."""

from __future__ import annotations

import re

_GRACE = re.compile(r"([0-9]{1,4})\s*([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_HOUR = 3600
DEFAULT_GRACE = 3 * 24 * _HOUR
_LONGEST_GRACE = 365 * 24 * _HOUR


def parse_grace(value: object) -> int:
    """The seconds of "12h", "3d" or "1w", an hour at least; `ValueError` with a sentence for others."""
    match = _GRACE.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = int(match[1]) * _HOURS[match[2]] * _HOUR if match else 0
    if not _HOUR <= seconds <= _LONGEST_GRACE:
        raise ValueError('must be a text such as "3d", from "1h" to "365d" (h, d or w)')
    return seconds
