"""Decides when a task is due: schedule, jitter, missed times, retries, interrupted runs; pure.

A time of the schedule is done by the first attempt that begins after it. A failed one is tried again as
`retry` says, until the next time. An interrupted one (the process ended, a stop) is run again at once, but
after several such ends it counts as failed. Of missed times one is caught up. All this is left to the next
time if that is near: so there are never two runs after a machine wakes up.

A start or end in the future (the clock was ahead then, or is behind now) is ignored.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.records.tasks import TaskRow, TaskState
from backup.kinds import Outcome
from backup.schedule import CatchUp, Every, Schedule, after_missed, delayed, next_due

SLACK = timedelta(minutes=30)
"""The delay after which a scheduled time counts as missed."""
NEAR = timedelta(minutes=30)
"""How near the next time must be for what is to be made up for to wait for it."""
MOST_CUTS = 3
"""How often an attempt that was cut off goes on at once."""

_GOES_ON = {TaskState.INTERRUPTED, TaskState.WAITING}


class Timing(Struct, frozen=True):
    """The times of a task as configured; without a schedule it runs on request.

    `seed` makes its delays differ from those of other servers.
    """

    schedule: Schedule | None
    jitter: timedelta = timedelta()
    catch_up: CatchUp = CatchUp.ONCE
    retry: tuple[timedelta, ...] = ()
    seed: str = ""


class LastRun(Struct, frozen=True):
    """The newest run in the inventory that did what the task does, started by the daemon or by hand."""

    started_at: datetime
    outcome: Outcome | None = None


def due_at(timing: Timing, row: TaskRow, last: LastRun | None, now: datetime) -> datetime | None:
    """Return the time at which the task is due, in UTC, which may be past; None if only on request."""
    by_hand = _was_run_since(row, last)
    goes_on = row.state in _GOES_ON and not by_hand
    retry = None if by_hand else retry_at(timing, row, now)
    if timing.schedule is None:
        return now if goes_on else retry
    since = _since(row, last, now)
    if (since is not None and since > now) or (goes_on and _is_fresh(row, now)):
        return now
    due = _by_schedule(timing, timing.schedule, since, min(row.known_since, now), now)
    coming = _near(timing, timing.schedule, now)
    if coming is not None and not now - SLACK <= due <= now:
        return delayed(coming, timing.jitter, timing.seed)
    return min([due, *([] if retry is None else [retry]), *([now] if goes_on else [])])


def _is_fresh(row: TaskRow, now: datetime) -> bool:
    """Whether an attempt that goes on should not wait for the next time, even if that is near."""
    return row.state is TaskState.WAITING or (row.began_at is not None and row.began_at >= now - SLACK)


def _near(timing: Timing, schedule: Schedule, now: datetime) -> datetime | None:
    """The next time of the schedule, if it is near: what is still to be made up for is left to it.

    None while an earlier one may still be due: else a task that waited would wait for the next time in turn,
    and for ever if times are close together.
    """
    if isinstance(schedule.rule, Every):
        return None
    coming = next_due(schedule, now - SLACK - timing.jitter, now)
    return coming if now < coming <= now + NEAR else None


def _by_schedule(
    timing: Timing, schedule: Schedule, since: datetime | None, known: datetime, now: datetime
) -> datetime:
    """The first time after `since`, delayed; without one the first since the task is known."""
    if since is None and isinstance(schedule.rule, Every):
        return delayed(known, timing.jitter, timing.seed)
    if timing.catch_up is CatchUp.SKIP:
        due = after_missed(schedule, since or known, now, SLACK + timing.jitter)
    else:
        due = next_due(schedule, since or known, now)
    return delayed(due, timing.jitter, timing.seed)


def _since(row: TaskRow, last: LastRun | None, now: datetime) -> datetime | None:
    """When the newest attempt began; of two the one that can be right."""
    known = [row.began_at, None if last is None else last.started_at]
    met = [moment for moment in known if moment is not None]
    return max([moment for moment in met if moment <= now] or met, default=None)


def _was_run_since(row: TaskRow, last: LastRun | None) -> bool:
    """Whether a user ran it by hand after our attempt."""
    return last is not None and row.ended_at is not None and last.started_at > row.ended_at


def failed_at(row: TaskRow, last: LastRun | None) -> datetime | None:
    """Return when the newest attempt ended, if it failed and no run was made by hand since."""
    return row.ended_at if row.state is TaskState.FAILED and not _was_run_since(row, last) else None


def retry_at(timing: Timing, row: TaskRow, now: datetime) -> datetime | None:
    """Return when a failed attempt is tried again; None once that was done as often as configured.

    A missed retry is skipped if missed times are.
    """
    if row.state is not TaskState.FAILED or row.ended_at is None:
        return None
    if not 0 < row.failures <= len(timing.retry):
        return None
    at = row.ended_at + timing.retry[row.failures - 1]
    return None if timing.catch_up is CatchUp.SKIP and at < now - SLACK else at


def begun(timing: Timing, row: TaskRow, last: LastRun | None, now: datetime) -> TaskRow:
    """Return the task's row at the start of an attempt; at a new scheduled time its counts start from 0."""
    since, schedule = _since(row, last, now), timing.schedule
    if schedule is None:
        is_new = row.state is not TaskState.FAILED
    else:
        is_new = since is None or next_due(schedule, since, now) <= now
    goes_on = row.state in _GOES_ON and not _was_run_since(row, last)
    counts = (row.failures, row.cuts) if goes_on or not is_new else (0, 0)
    return replace(
        row, state=TaskState.RUNNING, began_at=now, ended_at=None, failures=counts[0], cuts=counts[1]
    )


def ended(row: TaskRow, state: TaskState, now: datetime) -> TaskRow:
    """Return the task's row at the end of an attempt."""
    failures = 0 if state is TaskState.DONE else row.failures + (state is TaskState.FAILED)
    cuts = row.cuts if state in _GOES_ON else 0
    return replace(row, state=state, ended_at=now, failures=failures, cuts=cuts)


def found_at_start(row: TaskRow, last: LastRun | None, now: datetime) -> TaskRow:
    """Return the task's row for a new process: an attempt that was running is over."""
    if row.state is not TaskState.RUNNING or row.began_at is None:
        return row
    outcome = last.outcome if last is not None and last.started_at >= row.began_at else None
    if outcome in _SETTLED:
        return ended(row, _SETTLED[outcome], now)
    if row.cuts < MOST_CUTS:
        at = max(now, row.began_at, now if last is None else last.started_at)  # not before it began
        return replace(row, state=TaskState.INTERRUPTED, ended_at=at, cuts=row.cuts + 1)
    return ended(row, TaskState.FAILED, now)


_SETTLED: dict[Outcome | None, TaskState] = {
    Outcome.DONE: TaskState.DONE,
    Outcome.PARTIAL: TaskState.DONE,
    Outcome.FAILED: TaskState.FAILED,
}
