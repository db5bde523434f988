"""Values of the calendar of the next two weeks, pauses and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from backup.model import JobName, VaultName
from backup.web.views.values.overview import LiveTask


class Due(Struct, frozen=True):
    """A time at which a task is due; `is_paused`: its job is paused then.

    A task that is due very often is listed once a day, with its `count`.
    """

    at: datetime
    kind: str
    name: str
    text: str
    is_paused: bool
    count: int = 1


class CalendarDay(Struct, frozen=True):
    """A day in local time with its due tasks, in order."""

    day: date
    is_today: bool
    dues: Sequence[Due]


class ScheduledTask(Struct, frozen=True):
    """A task with its schedule in words; if `next_at` is in the past, it is due now."""

    kind: str
    name: str
    text: str
    vault: VaultName | None
    schedule: str | None
    next_at: datetime | None
    last: str
    can_run: bool  # the page may ask for it: a job's backup


class PauseLine(Struct, frozen=True):
    """A job whose schedules are paused, and until when."""

    job: JobName
    since: datetime
    until: datetime


class SchedulePage(Struct, frozen=True):
    """The calendar. `as_of` is the time of the daemon's answer, None without one."""

    now: datetime
    as_of: datetime | None
    zone: str
    days: Sequence[CalendarDay]
    tasks: Sequence[ScheduledTask]
    pauses: Sequence[PauseLine]
    live: Sequence[LiveTask]
    waits_for_clock: bool
