"""Calculates when a job is due next, and from when it is overdue: crontab lines, intervals, zones; pure.

Five fields as in crontab(5) of Vixie cron (`30 2 * * 1-5`), `every 6h` (m, h or d), `daily at 02:30`, and
cron's `daily`, `weekly` (Sundays) and `monthly`, at midnight. Fields and times of day are read in an IANA
time zone. A local time that comes twice (autumn) counts the first time only; one that does not come (spring)
counts at the first minute that does.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from backup.errors import ConfigError

_FORMS = 'a schedule is "daily at 02:30", "every 6h", "weekly" or five crontab fields like "30 2 * * 1-5"'
_WORDS = {"daily": "0 0 * * *", "weekly": "0 0 * * 0", "monthly": "0 0 1 * *"}
_EVERY = re.compile(r"every\s+([0-9]{1,5})\s*([mhd])")
_DAILY = re.compile(r"daily\s+at\s+([0-9]{1,2}):([0-9]{2})")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_TICK = timedelta(microseconds=1)
_TIMES_AHEAD = 8
_MOST_SET_BACK = 3  # hours by which a clock is set back: a wall time that is over may come again
_LEAST_SLACK = timedelta(minutes=10)


class CatchUp(StrEnum):
    """The handling of missed times: one run makes up for all of them, or none does."""

    ONCE = "once"
    SKIP = "skip"


class Every(Struct, frozen=True):
    """A fixed interval after the minute in which the last run began.

    Schedules are checked once a minute: counted from the second, each interval would grow by a minute.
    """

    interval: timedelta


class Calendar(Struct, frozen=True):
    """Local times on matching days; weekdays count from Sunday = 0.

    `either`: a day matches by its number or by its weekday (cron, when both fields are restricted), else
    it has to match by both.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def matches(self, day: date) -> bool:
        """Whether this day, of a month in `months`, counts."""
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either else by_day and by_weekday


class Schedule(Struct, frozen=True):
    """A schedule as written, and parsed; `timezone` is an IANA name."""

    text: str
    timezone: str
    rule: Every | Calendar


def parse_schedule(text: str, timezone: str) -> Schedule:
    """Parse a schedule; `ConfigError` says what is wrong, or that it would never be due."""
    _zone(timezone)
    words = text.strip().lower()
    if match := _EVERY.fullmatch(words):
        interval = int(match[1]) * _UNITS[match[2]]
        if not interval:
            raise ConfigError(f'"{text}": the interval must be at least a minute')
        return Schedule(text, timezone, Every(interval))
    if match := _DAILY.fullmatch(words):
        words = f"{int(match[2])} {int(match[1])} * * *"
    fields = _WORDS.get(words, words).split()
    if len(fields) != 5:
        raise ConfigError(f'"{text}" cannot be read: {_FORMS}')
    try:
        rule = _calendar(fields)
    except ValueError as error:
        raise ConfigError(f'"{text}": {error}') from error
    return Schedule(text, timezone, rule)


def next_due(schedule: Schedule, last: datetime | None, now: datetime) -> datetime:
    """The time when the job is due, in UTC: the first after `last` (the start of its last run).

    A time in the past is a run that was missed. Never run (`last` is None): now for an interval, the next
    time after `now` for a calendar. A `last` after `now` (this machine's clock was ahead then, or is behind
    now) does not say when it was: the job is due now.
    """
    here = now.astimezone(UTC)
    if last is not None and last > here:
        return here
    since = None if last is None else last.astimezone(UTC)
    if isinstance(schedule.rule, Every):
        return here if since is None else _minute_of(since) + schedule.rule.interval
    return _first_after(schedule.rule, since or here, ZoneInfo(schedule.timezone))


def times_between(schedule: Schedule, since: datetime, end: datetime) -> Iterator[datetime]:
    """All times after `since`, the start of a run, and before `end`, in UTC: `next_due` again and again."""
    since, end = since.astimezone(UTC), end.astimezone(UTC)
    if isinstance(schedule.rule, Every):
        while (since := next_due(schedule, since, since)) < end:
            yield since
        return
    zone, last = ZoneInfo(schedule.timezone), since
    for day in _days(schedule.rule, since.astimezone(zone).date() - _DAY):
        for moment in _moments(schedule.rule, day, zone):
            if moment >= end:
                return
            if moment > last:
                last = moment
                yield moment


def _moments(rule: Calendar, day: date, zone: ZoneInfo) -> Iterator[datetime]:
    """The times of a matching day; where no clock is set on it, they are added up, which is fast."""
    midnight = datetime.combine(day, time())
    first = instant(midnight, zone)
    is_plain = instant(midnight + _DAY, zone) - first == _DAY
    for hour in rule.hours:
        for minute in rule.minutes:
            wall = timedelta(hours=hour, minutes=minute)
            yield first + wall if is_plain else instant(midnight + wall, zone)


@lru_cache(maxsize=256)
def widest_gap(schedule: Schedule, since: datetime) -> timedelta:
    """The longest time between two of: a run that began at `since`, and the next eight times after it.

    The result is cached: each `status` asks for the same one until there is another good run.
    """
    times = [since.astimezone(UTC), *_next_times(schedule, since)]
    return max(later - earlier for earlier, later in pairwise(times))


def least_gap(schedule: Schedule) -> timedelta:
    """The shortest time between two of the next eight times, from the beginning of a year."""
    times = _next_times(schedule, datetime(2024, 1, 1, tzinfo=UTC))
    return min(later - earlier for earlier, later in pairwise(times))


def _next_times(schedule: Schedule, since: datetime) -> list[datetime]:
    times = [since.astimezone(UTC)]
    for _ in range(_TIMES_AHEAD):
        times.append(next_due(schedule, times[-1], times[-1]))
    return times[1:]


def overdue_from(schedule: Schedule, last_good: datetime, jitter: timedelta = timedelta()) -> datetime:
    """The time from which a job is overdue whose last good run began at `last_good`, in UTC.

    That is 1.25 times the widest gap, so "30 2 * * 1-5" is not overdue on a Monday, and ten minutes after the
    gap at least; later by the `jitter` that may delay a run. It does not depend on when it is asked for: what
    is overdue stays so until a good run.
    """
    gap = widest_gap(schedule, last_good)
    return last_good.astimezone(UTC) + gap + max(gap / 4, _LEAST_SLACK) + jitter


def is_overdue(
    schedule: Schedule,
    last_good: datetime | None,
    now: datetime,
    *,
    known_since: datetime,
    jitter: timedelta = timedelta(),
) -> bool:
    """Whether the last good run is too long ago; None: there was none since the job is known.

    A job without a good run is measured from the first time it was due since `known_since`. A time after
    `now` (the clock was ahead then, or is behind now) says nothing: by it no job is overdue.
    """
    last = last_good or next_due(schedule, None, known_since)
    return overdue_from(schedule, last, jitter) < now  # which is after `last` in any case


def delayed(due: datetime, jitter: timedelta, seed: str) -> datetime:
    """A time at most `jitter` later, so that many servers do not all begin at once.

    It is the same whenever it is asked for, and another for each `seed` (such as host and job) and each time.
    `jitter` should be well below the gap between two times.
    """
    if jitter <= timedelta():
        return due
    import hashlib  # OpenSSL, which most commands need not load

    words = f"{seed}\0{due.astimezone(UTC).isoformat()}".encode("utf-8", "surrogatepass")
    share = int.from_bytes(hashlib.sha256(words).digest()[:8]) / 2**64
    return due + share * jitter


def after_missed(schedule: Schedule, last: datetime | None, now: datetime, slack: timedelta) -> datetime:
    """Return the next due time without making up for missed ones, as `next_due` does.

    A time that is past by no more than `slack` still counts, since the check may come a little late.
    """
    due = next_due(schedule, last, now)
    oldest = now.astimezone(UTC) - slack
    if due >= oldest or isinstance(schedule.rule, Every):
        return due  # an interval after the last run is not missed: it is over
    return _first_after(schedule.rule, oldest - _TICK, ZoneInfo(schedule.timezone))


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _first_after(rule: Calendar, since: datetime, zone: ZoneInfo) -> datetime:
    here = since.astimezone(zone)
    first, first_hour = here.date(), here.hour - _MOST_SET_BACK
    walls = (
        datetime.combine(day, time(hour, minute))
        for day in _days(rule, first)
        for hour in rule.hours
        if day > first or hour >= first_hour
        for minute in rule.minutes
    )
    return next(due for wall in walls if (due := instant(wall, zone)) > since)


def _days(rule: Calendar, first: date) -> Iterator[date]:
    """The matching days from `first` on; there is always another (`_calendar` made sure)."""
    day = first
    while True:
        if day.month not in rule.months:
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            continue
        if rule.matches(day):
            yield day
        day += timedelta(days=1)


def instant(local: datetime, zone: tzinfo | None) -> datetime:
    """The moment, in UTC, at which a wall clock first shows `local`, or the first minute after it.

    `zone` None: this machine's.
    """
    while True:
        moment = local.replace(tzinfo=zone).astimezone(UTC)  # fold 0: the first of two
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == local:
            return moment
        local = (
            local.replace(second=0, microsecond=0) + _MINUTE
        )  # skipped by the clock; no zone has skipped more than a day


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f'"{name}" is no time zone: they look like Europe/Berlin or UTC') from error


# Crontab fields.


def _calendar(fields: list[str]) -> Calendar:
    minute, hour, day, month, weekday = fields
    days = _numbers("day of month", day, 1, 31, {})
    months = _numbers("month", month, 1, 12, _MONTHS)
    weekdays = frozenset(number % 7 for number in _numbers("day of week", weekday, 0, 7, _WEEKDAYS))
    # Vixie cron's rule (crontab(5)): a field that begins with * is unrestricted, even */2.
    either = not day.startswith("*") and not weekday.startswith("*")
    longest = max(calendar.monthrange(2024, number)[1] for number in months)  # a leap year
    if not either and min(days) > longest:
        raise ValueError(f"no such month has a day {min(days)}: this never comes")
    return Calendar(
        minutes=tuple(sorted(_numbers("minute", minute, 0, 59, {}))),
        hours=tuple(sorted(_numbers("hour", hour, 0, 23, {}))),
        days=days,
        months=months,
        weekdays=weekdays,
        either=either,
    )


def _numbers(noun: str, field: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if slash and not (step.isdecimal() and int(step) > 0):
            raise ValueError(f"{noun}: the step in {part!r} must be a number above 0")
        if slash and not dash and span != "*":
            raise ValueError(f"{noun}: a step needs * or a range: {span}-{high}/{step}, not {part}")
        if span == "*":
            start, end = low, high
        else:
            start = _number(noun, first, low, high, names)
            end = _number(noun, last, low, high, names) if dash else start
        if dash and names is _WEEKDAYS and end == 0 and last == "sun":
            end = 7  # fri-sun
        if start > end:
            raise ValueError(f"{noun}: {span} runs backwards")
        found.update(range(start, end + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(noun: str, text: str, low: int, high: int, names: Mapping[str, int]) -> int:
    number = names.get(text)
    if number is None and text.isdecimal() and text.isascii():
        number = int(text)
    if number is None or not low <= number <= high:
        raise ValueError(f"{noun}: {text!r} is not between {low} and {high}")
    return number
