"""The next two weeks as a calendar, pauses, and what runs now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from backup.model import JobName, VaultName
from backup.web.views.values.overview import LiveTask


class Due(Struct, frozen=True):
    """A time at which a task is due; `is_paused`: the job rests then.

    One that is due very often stands there once a day, with its `count`.
    """

    at: datetime
    kind: str
    name: str
    text: str
    is_paused: bool
    count: int = 1


class CalendarDay(Struct, frozen=True):
    """A day in this machine's zone with what is due, in order."""

    day: date
    is_today: bool
    dues: Sequence[Due]


class ScheduledTask(Struct, frozen=True):
    """A task with its schedule in words; `next_at` may be past: then it is due now."""

    kind: str
    name: str
    text: str
    vault: VaultName | None
    schedule: str | None
    next_at: datetime | None
    last: str
    can_run: bool  # the page may ask for it: a job's backup


class PauseLine(Struct, frozen=True):
    """A job whose schedule rests until then."""

    job: JobName
    since: datetime
    until: datetime


class SchedulePage(Struct, frozen=True):
    """The calendar. `as_of` is when the daemon said what it does, None if it gave no answer."""

    now: datetime
    as_of: datetime | None
    zone: str
    days: Sequence[CalendarDay]
    tasks: Sequence[ScheduledTask]
    pauses: Sequence[PauseLine]
    live: Sequence[LiveTask]
    waits_for_clock: bool
