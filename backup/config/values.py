"""Parses sizes, times and amounts of money as config.toml and options write them; what this machine has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Struct

from backup.config.shapes import shape
from backup.errors import ConfigError
from backup.model import MIB
from backup.retention import prune

_SIZE = re.compile(r"([0-9]+)\s*(KiB|MiB|GiB)")
_MONEY = re.compile(r"[0-9]+(\.[0-9]+)?")
_UNITS = {"KiB": 1024, "MiB": MIB, "GiB": 1024 * MIB}
_DURATION = re.compile(r"([0-9]+)\s*([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_Time = Annotated[str, shape("([01][0-9]|2[0-3]):[0-5][0-9]", 'must be a time such as "08:00"')]
_TimeTo = Annotated[str, shape("([01][0-9]|2[0-3]):[0-5][0-9]|24:00", 'must be a time such as "18:00"')]
_LONGEST_JITTER, _LONGEST_DELAY, _MOST_DELAYS = 86_400, 604_800, 20
_AGE = re.compile(r"([0-9]{1,4})\s*([hdwy])")
_HOURS_OF = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
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
_SELF: Final = "/proc/self"
_MEMORY_FILES: Final = {
    "cgroup2": ("memory.max", "memory.high"),
    "cgroup": ("memory.limit_in_bytes",),
}
_NO_LIMIT: Final = 2**60  # version 1 has a number of that size where nothing is set
_OCTAL: Final = re.compile(r"\\([0-7]{3})")  # as mountinfo writes blanks in paths


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One window of a rate limit: from one time of day to another, which may be on the next day.

    `limit` is in bytes per second.
    """

    from_: _Time = msgspec.field(name="from")
    to: _TimeTo
    limit: int


def parse_size(value: object) -> int:
    """Return the bytes of 1048576 or "224MiB" (KiB, MiB, GiB).

    `ValueError`, with the message for the user.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number of bytes or a text like "224MiB" (KiB, MiB or GiB)')
    return int(match[1]) * _UNITS[match[2]]


def parse_duration(value: object) -> int:
    """Return the seconds of 90, "90s", "15m" or "2h". `ValueError`, with the message for the user."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number of seconds or a text like "90s", "15m" or "2h"')
    return int(match[1]) * _SECONDS[match[2]]


def parse_money(value: object) -> Decimal:
    """Return the amount of 25, 2.5 or "2.50". `ValueError`, with the message for the user."""
    text = str(value).strip()
    if isinstance(value, bool) or not _MONEY.fullmatch(text):
        raise ValueError("must be an amount of money like 25 or 2.50")
    return Decimal(text)


def parse_delays(value: object) -> object:
    """Return the seconds of each time in a list such as ["10m", "1h"]. `ValueError`."""
    if not isinstance(value, list):
        raise ValueError('must be a list such as ["10m", "1h", "3h"]; [] for none')  # noqa: TRY004
    if len(value) > _MOST_DELAYS:
        raise ValueError(f"must have at most {_MOST_DELAYS} times")
    found = [parse_duration(delay) for delay in value]
    if any(not 1 <= delay <= _LONGEST_DELAY for delay in found):
        raise ValueError('must be times from "1s" to "168h"')
    return found


def parse_jitter(value: object) -> int:
    """Return the seconds of "30m", at most a day. `ValueError`."""
    found = parse_duration(value)
    if not 0 <= found <= _LONGEST_JITTER:
        raise ValueError('must be at most "24h"')
    return found


def minute_of(text: str) -> int:
    """Return the minutes from midnight to a time such as "08:30"."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def local_zone() -> str:
    """Return the name of this machine's time zone. `ConfigError` if it cannot be determined."""
    import tzlocal

    try:
        return tzlocal.get_localzone_name() or "UTC"
    except LookupError as error:  # two files of this machine name different zones
        raise ConfigError(f"this machine's time zone is unclear: {error}", advice="set timezone") from error


def parse_grace(value: object) -> int:
    """Return the seconds of "12h", "3d" or "1w", at least an hour.

    `ValueError`, with the message for the user.
    """
    return _seconds_of(
        value, _HOUR, _LONGEST_GRACE, 'must be a text such as "3d", from "1h" to "365d" (h, d or w)'
    )


def parse_lock(value: object) -> int:
    """Return the seconds of "60d" or "8w", at least a day. `ValueError`, with the message for the user."""
    return _seconds_of(value, DAY, _LONGEST_MEMORY, 'must be a text such as "60d", at least "1d" (d, w or y)')


def parse_delay(value: object) -> int:
    """Return the seconds of "12h", "3d" or "1w". `ValueError`, with the message for the user."""
    return _seconds_of(
        value, _HOUR, _LONGEST_GRACE, 'must be a text such as "2d", from "1h" to "365d" (h, d or w)'
    )


def parse_horizon(value: object) -> int:
    """Return the seconds of "180d" or "2y", at least a month. `ValueError`, with the message for the user."""
    return _seconds_of(value, 30 * DAY, _LONGEST_HORIZON, 'must be a text such as "2y", from "30d" to "20y"')


def parse_age(value: object) -> int:
    """Return the seconds of "90d" or "26w", at least a day. `ValueError`, with the message for the user."""
    return _seconds_of(value, DAY, _LONGEST_HORIZON, 'must be a text such as "90d", from "1d" to "20y"')


def parse_keep_runs(value: object) -> int:
    """Return the seconds of "400d" or "3y", at least a quarter.

    `ValueError`, with the message for the user.
    """
    return _seconds_of(
        value, 90 * DAY, _LONGEST_MEMORY, 'must be a text such as "400d", from "90d" to "100y"'
    )


def _seconds_of(value: object, least: int, most: int, sentence: str) -> int:
    match = _AGE.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = int(match[1]) * _HOURS_OF[match[2]] * _HOUR if match else 0
    if not least <= seconds <= most:
        raise ValueError(sentence)
    return seconds


def usable_memory(process: str = _SELF) -> int | None:
    """The least limit in bytes of this process's control group and those above it; None if there is none.

    That of a container, or of a service with `MemoryMax=` or `MemoryHigh=`; `process` is its directory in
    /proc. Sources: cgroups(7), proc_pid_mountinfo(5), the kernel's cgroup-v2.rst and memory.rst.
    """
    try:
        return min(_limits(process), default=None)
    except (OSError, ValueError):  # a system without them, or one that hides them
        return None


def _limits(process: str) -> Iterator[int]:
    own = _own_groups(process)
    with open(os.path.join(process, "mountinfo"), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields, (kind, _, options) = before.split(), after.split()[:3]
            is_of_memory = kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(","))
            if is_of_memory and kind in own:
                root, top = (_OCTAL.sub(_letter, text) for text in fields[3:5])
                yield from _limits_up(top, _below(own[kind], root), _MEMORY_FILES[kind])


def _own_groups(process: str) -> dict[str, str]:
    """The path of the process's group in the hierarchy of version 2, and in that of memory in version 1."""
    found = {}
    with open(os.path.join(process, "cgroup"), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0" and not controllers:
                found["cgroup2"] = path
            elif "memory" in controllers.split(","):
                found["cgroup"] = path
    return found


def _below(path: str, root: str) -> str:
    """The path below what is mounted; that itself if the group is not in it, as a container may see it."""
    root = root.rstrip("/")
    return path[len(root) :].strip("/") if path == root or path.startswith(f"{root}/") else ""


def _limits_up(top: str, path: str, names: tuple[str, ...]) -> Iterator[int]:
    """The limits of a group below `top`, of those above it, and of `top`."""
    steps = [step for step in path.split("/") if step and step != ".."]
    for count in range(len(steps), -1, -1):
        for name in names:
            try:
                with open(os.path.join(top, *steps[:count], name), encoding="ascii") as file:
                    text = file.read().strip()
            except FileNotFoundError:  # the root has none
                continue
            if text.isdigit() and 0 < int(text) < _NO_LIMIT:
                yield int(text)


def _letter(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))
