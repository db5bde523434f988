"""The page with the next two weeks and, for operators, what they may do: run, pause and resume a job."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backup.app.status.parts import TaskStatus
from backup.app.tasks.book import read_tasks
from backup.app.tasks.tasks import Task, tasks_of
from backup.app.tasks.times import due_at
from backup.config import Config
from backup.inventory.questions.status import newest_runs
from backup.inventory.records.tasks import Pause, TaskRow
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind, TaskKind
from backup.model import JobName, VaultName
from backup.schedule import Every, Schedule, delayed, instant, times_between
from backup.web.context import context_of, user_of
from backup.web.daemon_desk import DaemonStatus
from backup.web.guard.bounds import read_form
from backup.web.guard.faults import BadParameterError
from backup.web.pages.html import framed, problem, texts
from backup.web.pages.overview import active
from backup.web.pages.parameters import Parameters
from backup.web.pages.signing_in import local_target
from backup.web.texts import Texts

DAYS = 14
_OFTEN = 6  # times a day, from which on a task stands there once, with its count
HOURS = (1, 4, 12, 24, 72, 168, 336)


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
    live: Sequence[TaskStatus]
    waits_for_clock: bool


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
    pause = pauses.get(JobName(task.of_job)) if task.of_job is not None else None

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


def shown(it: SchedulePage, said: Texts) -> dict[str, Any]:
    """Return the values of the template."""
    return {
        "it": it,
        "weeks": weeks(it.days),
        "weekdays": weekdays(said),
        "paused": {pause.job: pause for pause in it.pauses},
        "active": active(it.live),
        "pauses": [(n, _length(n, said)) for n in HOURS],
    }


def weeks(days: Sequence[CalendarDay]) -> list[list[CalendarDay | None]]:
    """Return the days as weeks from Monday to Sunday, with None for missing days."""
    rows: list[list[CalendarDay | None]] = []
    for day in days:
        if not rows or day.day.weekday() == 0:
            rows.append([None] * 7)
        rows[-1][day.day.weekday()] = day
    return rows


def weekdays(said: Texts) -> list[str]:
    """Return the column headings of the calendar."""
    monday, tuesday, wednesday = said.say("Monday"), said.say("Tuesday"), said.say("Wednesday")
    thursday, friday = said.say("Thursday"), said.say("Friday")
    return [monday, tuesday, wednesday, thursday, friday, said.say("Saturday"), said.say("Sunday")]


def _length(number: int, said: Texts) -> str:
    if number % 24:
        return said.count("%(n)s hour", "%(n)s hours", number)
    return said.count("%(n)s day", "%(n)s days", number // 24)


async def show(request: Request) -> Response:
    """Show the calendar, the tasks, and for operators their buttons."""
    context, asked = context_of(request), Parameters(request)
    found = await context.reading.view(
        schedule, context.config, context.clock.now(), await context.daemon.parsed()
    )
    told = _done_text(asked.text("did"), asked.text("job"), texts())
    return await framed(
        request,
        "schedule.html",
        here="schedule",
        told=told,
        **shown(found, texts()),
        may_operate=user_of(request).may_operate,
    )


def _done_text(did: str | None, job: str | None, said: Texts) -> str | None:
    """The sentence on what was just done, after the way back from a form."""
    if did == "run":
        return said.say("%(job)s will run as soon as its vault is free.", job=job)
    if did == "pause":
        return said.say("%(job)s is paused.", job=job)
    return said.say("%(job)s keeps its schedule again.", job=job) if did == "resume" else None


async def _asked(request: Request, verb: str, words: str) -> Response:
    """Ask the daemon for it, in the name of an operator who is there."""
    context, user, form = context_of(request), user_of(request), await read_form(request)
    if not user.may_operate:
        return problem(request, 403, "a viewer cannot do that", "ask an operator")
    back = local_target(form.get("next", "/schedule"))
    if not user.is_fresh(context.clock.now()):
        return RedirectResponse(f"/login?next={quote(back, safe='')}&again=1", 303)
    asked = {"do": verb, "job": _job(request, form)}
    if verb == "pause":
        asked["until"] = _until(form, context.clock.now())
    context.accounts.note(user.name, f"{words} {asked['job']}", context.clock.now())
    await context.daemon.ask(asked)
    return RedirectResponse(back, 303)


def _job(request: Request, form: dict[str, str]) -> str:
    """A job of the config, and nothing else. `UsageError`."""
    return str(context_of(request).config.job(form.get("job", "")[:64]).name)


def _until(form: dict[str, str], now: datetime) -> str:
    """The end of a pause: `hours` from now, or the time `until`. `BadParameterError`."""
    hours, text = form.get("hours", ""), form.get("until", "")
    if hours.isascii() and hours.isdecimal() and len(hours) < 5:
        return (now + timedelta(hours=int(hours))).isoformat()
    try:
        until = datetime.fromisoformat(text[:40])
        return (until if until.tzinfo is not None else instant(until, None)).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise BadParameterError("until must be a time such as 2026-11-26T08:00") from error


async def run(request: Request) -> Response:
    """Ask the daemon to back up a job now."""
    return await _asked(request, "run", "ran")


async def pause(request: Request) -> Response:
    """Pause the schedules of a job until a given time."""
    return await _asked(request, "pause", "paused")


async def resume(request: Request) -> Response:
    """End the pause of a job."""
    return await _asked(request, "resume", "resumed")


SCHEDULE = (
    Route("/schedule", show, name="schedule"),
    Route("/schedule/run", run, methods=["POST"], name="run"),
    Route("/schedule/pause", pause, methods=["POST"], name="pause"),
    Route("/schedule/resume", resume, methods=["POST"], name="resume"),
)
