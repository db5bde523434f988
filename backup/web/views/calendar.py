"""The next two weeks of every task as a calendar, pauses, and what the daemon does now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from backup.app.task_book import read_tasks
from backup.app.task_times import due_at
from backup.app.tasks import Task, TaskKind, tasks_of
from backup.config import Config
from backup.inventory.connections import Transaction
from backup.inventory.tasks import Pause, TaskRow
from backup.model import JobName
from backup.schedule import delayed, next_due
from backup.web.views.daemon import DaemonStatus
from backup.web.views.values.schedule import CalendarDay, Due, PauseLine, ScheduledTask, SchedulePage

DAYS = 14
_MOST_TIMES = 2_000  # of a task: every ten minutes for two weeks
_OFTEN = 6  # times a day, from which on a task stands there once, with its count


def schedule(tx: Transaction, config: Config, now: datetime, daemon: DaemonStatus | None) -> SchedulePage:
    """What is due when; times are this machine's, delays of a task are in them."""
    tasks = tasks_of(config)
    seen = read_tasks(tx, tasks)
    pauses = {job: one for job, one in seen.pauses.items() if one.until > now}
    firsts = {
        task.key: due_at(
            task.timing,
            seen.rows.get(task.key) or TaskRow(*task.key, known_since=now),
            seen.last.get(task.key),
            now,
        )
        for task in tasks
    }
    return SchedulePage(
        now=now,
        as_of=daemon.as_of if daemon else None,
        zone=now.astimezone().tzname() or "UTC",
        days=_days(tasks, firsts, pauses, now),
        tasks=[_task(config, task, firsts[task.key], seen.rows.get(task.key)) for task in tasks],
        pauses=[PauseLine(job, one.since, one.until) for job, one in sorted(pauses.items())],
        live=[one for one in daemon.tasks if one.state != "idle"] if daemon else [],
        waits_for_clock=daemon.waits_for_clock if daemon else False,
    )


def _days(
    tasks: Sequence[Task],
    firsts: Mapping[tuple[str, str], datetime | None],
    pauses: Mapping[JobName, Pause],
    now: datetime,
) -> list[CalendarDay]:
    today = now.astimezone().date()
    last = today + timedelta(days=DAYS)
    end = datetime.combine(last, time()).astimezone(UTC)
    dues: dict[date, list[Due]] = {today + timedelta(days=n): [] for n in range(DAYS)}
    for task in tasks:
        by_day: dict[date, list[datetime]] = {}
        for at in _times(task, firsts[task.key], now, end):
            by_day.setdefault(at.astimezone().date(), []).append(at)
        for day, times in by_day.items():
            if day in dues:
                dues[day] += _dues(task, times, pauses)
    return [
        CalendarDay(day, day == today, sorted(some, key=lambda due: (due.at, due.kind, due.name)))
        for day, some in dues.items()
    ]


def _dues(task: Task, times: Sequence[datetime], pauses: Mapping[JobName, Pause]) -> list[Due]:
    pause = pauses.get(JobName(task.name)) if task.of_job is not None else None

    def due(at: datetime, count: int) -> Due:
        rests = pause is not None and at < pause.until
        return Due(at, str(task.kind), task.name, str(task), is_paused=rests, count=count)

    if len(times) > _OFTEN:
        return [due(times[0], len(times))]
    return [due(at, 1) for at in times]


def _times(task: Task, first: datetime | None, now: datetime, end: datetime) -> list[datetime]:
    """When a task is due from now up to the end; one that is due already is due now."""
    timing = task.timing
    found = [] if first is None else [max(first, now)]
    if timing.schedule is None:
        return found
    since = found[-1] if found else now
    while len(found) < _MOST_TIMES:
        at = next_due(timing.schedule, since, since)
        if at >= end:
            break
        since = at
        shown = delayed(at, timing.jitter, timing.seed)
        if not found or shown > found[-1]:
            found.append(shown)
    return [at for at in found if at < end]


def _task(config: Config, task: Task, first: datetime | None, row: TaskRow | None) -> ScheduledTask:
    when = task.timing.schedule
    return ScheduledTask(
        kind=str(task.kind),
        name=task.name,
        text=str(task),
        vault=task.vault,
        schedule=None if when is None else when.text,
        next_at=first,
        last=str(row.state) if row else "new",
        can_run=task.kind is TaskKind.BACKUP and any(job.name == task.name for job in config.jobs),
    )
