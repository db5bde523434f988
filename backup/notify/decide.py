"""Decides which messages are sent, by those sent before, and in which hours none is sent; pure.

A message is sent when a state (a job's backups fail, a job is overdue, the certificate expires soon) begins,
when it gets worse, and then once on each day on which it is seen again. One message says that a job's backups
work again; all other states end without a message. For a job that fails and works by turns two messages are
sent, and then one an hour, with a count. A run that was stopped or killed sends none: the next run does, and
if there is no next one the job becomes overdue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.records.messages import Condition
from backup.inventory.records.runs import Run
from backup.inventory.store.states import MessageKind
from backup.kinds import Outcome, RunKind, name_of_task
from backup.schedule import instant

SILENT = frozenset({RunKind.RESTORE, RunKind.MARK})
"""Runs at which somebody sits."""

MOST_FLAPS, FLAPS_WITHIN = 2, timedelta(hours=1)
"""So many failures after a success are told at once within that time."""
_LEVELS = {Outcome.PARTIAL: 0, Outcome.FAILED: 1}
_SORTS = ("read", "compared", "laws")  # of checks: none hides another's end


class Consequences(Struct, frozen=True):
    """The consequences of a run or a concern: a message or none, a state to record, states that have ended.

    `hour` is to be recorded, too: it counts the failures within an hour. `flapped`: the hour before, if it
    had many failures.
    """

    kind: MessageKind | None = None
    key: str = ""
    state: Condition | None = None
    ended: Sequence[str] = ()
    hour: Condition | None = None
    flapped: Condition | None = None


def subject_of(run: Run) -> str:
    """The name of the state that a run is about, such as "backup/JOB"."""
    sorts = _SORTS if run.kind is RunKind.CHECK else ()
    sort = next((f"-{key}" for key in sorts if run.report.get(key) is not None), "")
    if run.kind is RunKind.DRILL:
        sort = f"-{run.grade}".replace(" ", "-").rstrip("-")
    return f"{run.kind}{sort}/{name_of_task(run.kind, run.job, run.vault, run.drill) or ''}"


def overdue_subject(job: str) -> str:
    """The name of the state of a job that is overdue."""
    return f"overdue/{job}"


def of_run(run: Run, told: Mapping[str, Condition], now: datetime, today: date) -> Consequences:
    """The consequences of a run that has ended; `today` is the local day."""
    subject = subject_of(run)
    if run.kind in SILENT:
        return Consequences()
    if run.outcome in _LEVELS:
        made_snapshot = run.kind is RunKind.BACKUP and run.outcome is Outcome.PARTIAL
        ended = [overdue_subject(run.job or "")] if made_snapshot else []
        step = of_state(MessageKind.FAILED, subject, told, now, today, level=_LEVELS[run.outcome])
        step = replace(step, ended=[state for state in ended if state in told])
        return step if subject in told else _damped(step, subject, told, now, today)
    if run.outcome is not Outcome.DONE:
        return Consequences()
    subjects = [subject]
    if run.kind is RunKind.BACKUP:
        subjects.append(overdue_subject(run.job or ""))
    ended = [state for state in subjects if state in told]
    if not ended:
        return Consequences()
    since = min(told[state].since for state in ended)
    return Consequences(MessageKind.RECOVERED, f"{subject}/{since.isoformat()}/recovered", None, ended)


def _damped(
    step: Consequences, subject: str, told: Mapping[str, Condition], now: datetime, today: date
) -> Consequences:
    """A failure after a success, or only a count of it: two in an hour, or one where it goes on by turns."""
    hour = told.get(f"flaps/{subject}")
    goes_on = hour is not None and timedelta() <= now - hour.since < FLAPS_WITHIN
    if hour is None or not goes_on:
        flapped = hour if hour is not None and hour.level > MOST_FLAPS else None
        new = Condition(f"flaps/{subject}", now, today, MOST_FLAPS if flapped else 1)
        return replace(step, hour=new, flapped=flapped)
    hour = Condition(hour.subject, hour.since, today, hour.level + 1)
    return replace(step, hour=hour) if hour.level <= MOST_FLAPS else Consequences(ended=step.ended, hour=hour)


def of_state(
    kind: MessageKind,
    subject: str,
    told: Mapping[str, Condition],
    now: datetime,
    today: date,
    *,
    level: int = 0,
) -> Consequences:
    """The consequences of a state seen now: a message if it is new, worse, or had no message today."""
    before = told.get(subject)
    if before is not None and before.told_on == today and level <= before.level:
        return Consequences()
    since = now if before is None else before.since
    return Consequences(
        kind, f"{subject}/{since.isoformat()}/{today}/{level}", Condition(subject, since, today, level)
    )


class QuietHours(Struct, frozen=True):
    """Hours of each day, in a time zone, in which nothing is sent; they may go over midnight."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> QuietHours | None:
        """The hours of "22:00-07:00"; None for "none", and where both are the same."""
        if text == "none":
            return None
        begin, end = (time.fromisoformat(part) for part in text.split("-"))
        return None if begin == end else cls(begin, end, zone)

    def allowed_from(self, now: datetime) -> datetime:
        """The first moment from now on at which a message may be sent, in UTC."""
        local = now.astimezone(self.zone)
        if not self._is_quiet(local.time()):
            return now
        day = local.date() if local.time() < self.end else local.date() + timedelta(days=1)
        return max(now, instant(datetime.combine(day, self.end), self.zone))

    def _is_quiet(self, at: time) -> bool:
        if self.begin < self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end
