"""The view of the next two weeks as a calendar, of pauses, and of the daemon's tasks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta

from backup.app.tasks.book import read_tasks
from backup.app.tasks.tasks import Task, TaskKind, tasks_of
from backup.app.tasks.times import due_at
from backup.config import Config
from backup.inventory.questions.status import newest_runs
from backup.inventory.records.runs import Outcome, RunKind
from backup.inventory.records.tasks import Pause, TaskRow
from backup.inventory.store.connections import Transaction
from backup.model import JobName
from backup.schedule import Every, Schedule, delayed, instant, times_between
from backup.web.views.daemon import DaemonStatus
from backup.web.views.values.schedule import CalendarDay, Due, PauseLine, ScheduledTask, SchedulePage

DAYS = 14
_OFTEN = 6  # times a day, from which on a task stands there once, with its count


def schedule(tx: Transaction, config: Config, now: datetime, daemon: DaemonStatus | None) -> SchedulePage:
    """Return the calendar; days are in local time, and times include the tasks' delays."""
    tasks = tasks_of(config)
    seen = read_tasks(tx, tasks)
    pauses = {job: pause for job, pause in seen.pauses.items() if pause.until > now}
    firsts = {
        task.key: due_at(
            task.timing,
            seen.rows.get(task.key) or TaskRow(*task.key, known_since=now),
            seen.last.get(task.key),
            now,
        )
        for task in tasks
    }
    newest = _backups(tx)
    return SchedulePage(
        now=now,
        as_of=daemon.as_of if daemon else None,
        zone=now.astimezone().tzname() or "UTC",
        days=_days(tasks, firsts, pauses, now),
        tasks=[
            _task(config, task, firsts[task.key], seen.rows.get(task.key), newest.get(task.name))
            for task in tasks
        ],
        pauses=[PauseLine(job, pause.since, pause.until) for job, pause in sorted(pauses.items())],
        live=[task for task in daemon.tasks if task.state != "idle"] if daemon else [],
        waits_for_clock=daemon.waits_for_clock if daemon else False,
    )


def _days(
    tasks: Sequence[Task],
    firsts: Mapping[tuple[str, str], datetime | None],
    pauses: Mapping[JobName, Pause],
    now: datetime,
) -> list[CalendarDay]:
    today = now.astimezone().date()
    days = [today + timedelta(days=number) for number in range(DAYS + 1)]
    begins = [instant(datetime.combine(day, time()), None) for day in days]
    dues: dict[date, list[Due]] = {day: [] for day in days[:-1]}
    calendars: dict[Schedule, list[datetime]] = {}
    for task in tasks:
        times = _times(task, firsts[task.key], now, begins[-1], calendars)
        for day, begin, end in zip(days, begins, begins[1:], strict=False):
            some = times[bisect_left(times, begin) : bisect_left(times, end)]
            if some:
                dues[day] += _dues(task, some, pauses, first=times[0])
    return [
        CalendarDay(day, day == today, sorted(of_day, key=lambda due: (due.at, due.kind, due.name)))
        for day, of_day in dues.items()
    ]


def _dues(
    task: Task, times: Sequence[datetime], pauses: Mapping[JobName, Pause], *, first: datetime
) -> list[Due]:
    """Of one day; a task that is due often stands there once. The very first is delayed already."""
    timing = task.timing
    pause = pauses.get(JobName(task.name)) if task.of_job is not None else None

    def due(at: datetime, count: int) -> Due:
        rests = pause is not None and at < pause.until
        return Due(at, str(task.kind), task.name, str(task), is_paused=rests, count=count)

    shown = [
        at if at == first else delayed(at, timing.jitter, timing.seed)
        for at in (times if len(times) <= _OFTEN else times[:1])
    ]
    return [due(at, len(times) if len(times) > _OFTEN else 1) for at in shown]


def _times(
    task: Task,
    first: datetime | None,
    now: datetime,
    end: datetime,
    calendars: dict[Schedule, list[datetime]],
) -> list[datetime]:
    """When a task is due from now up to the end; one that is due already is due now.

    `calendars` keeps the times of those schedules that many tasks may share.
    """
    found = [] if first is None else [max(first, now)]
    schedule, since = task.timing.schedule, found[-1] if found else now
    if schedule is None:
        later: list[datetime] = []
    elif isinstance(schedule.rule, Every):
        later = list(times_between(schedule, since, end))
    else:
        if schedule not in calendars:
            calendars[schedule] = list(times_between(schedule, now, end))
        later = calendars[schedule][bisect_right(calendars[schedule], since) :]
    return [at for at in found if at < end] + later


def _backups(tx: Transaction) -> dict[str, str]:
    """The outcome of the newest backup of each job, whoever began it."""
    ended: dict[str, str] = {}
    for run in newest_runs(tx):  # the newest first
        if run.kind is RunKind.BACKUP and run.job is not None and run.outcome is not Outcome.RUNNING:
            ended.setdefault(run.job, str(run.outcome))
    return ended


def _task(
    config: Config, task: Task, first: datetime | None, row: TaskRow | None, by_hand: str | None
) -> ScheduledTask:
    """A task; of a backup that the daemon has not run yet the last is what others ran, `by_hand`."""
    when = task.timing.schedule
    last = str(row.state) if row else "new"
    if last == "new" and task.kind is TaskKind.BACKUP and by_hand:
        last = by_hand
    return ScheduledTask(
        kind=str(task.kind),
        name=task.name,
        text=str(task),
        vault=task.vault,
        schedule=None if when is None else when.text,
        next_at=first,
        last=last,
        can_run=task.kind is TaskKind.BACKUP and any(job.name == task.name for job in config.jobs),
    )
