"""A job's schedule as the lines of a systemd timer; pure.

Source: systemd.time(7), "Calendar Events". The zone stands behind each time, so that the machine's own does
not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta

from backup.schedule import Calendar, Every, Schedule

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def timer_lines(schedule: Schedule, jitter: int = 0) -> list[str]:
    """The settings of a timer for a schedule, each time later by up to `jitter` seconds.

    An interval that divides an hour or a day is a time of day, so that a missed one is made up for; any other
    counts from the last run, and begins anew when the machine starts.
    """
    rule, zone = schedule.rule, schedule.timezone
    late = [f"RandomizedDelaySec={jitter}s"] if jitter else []
    if isinstance(rule, Calendar):
        return [*(f"OnCalendar={one} {zone}" for one in _events(rule)), *late]
    return [*_interval_lines(rule, zone), *late]


def _interval_lines(rule: Every, zone: str) -> list[str]:
    interval = rule.interval
    if interval == _DAY:
        return [f"OnCalendar=*-*-* 00:00:00 {zone}"]
    if interval < _HOUR and not _HOUR % interval:
        return [f"OnCalendar=*-*-* *:0/{interval // _MINUTE}:00 {zone}"]
    if interval < _DAY and not _DAY % interval and not interval % _HOUR:
        return [f"OnCalendar=*-*-* 0/{interval // _HOUR}:00:00 {zone}"]
    return ["OnBootSec=10min", f"OnUnitActiveSec={int(interval.total_seconds())}s"]


def _events(rule: Calendar) -> Iterator[str]:
    """The calendar events of a crontab line: two where a day matches by its number or by its weekday."""
    time = f"{_list(rule.hours, 24)}:{_list(rule.minutes, 60)}:00"
    months = _list(rule.months, 12)
    days = _list(rule.days, 31)
    weekdays = ",".join(name for number, name in enumerate(_DAYS) if number in rule.weekdays)
    weekdays = "" if len(rule.weekdays) == len(_DAYS) else f"{weekdays} "
    if rule.either:
        yield f"*-{months}-{days} {time}"
        yield f"{weekdays}*-{months}-* {time}"
    else:
        yield f"{weekdays}*-{months}-{days} {time}"


def _list(numbers: Collection[int], most: int) -> str:
    return "*" if len(numbers) == most else ",".join(f"{one:02d}" for one in sorted(numbers))
