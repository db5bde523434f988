"""All scheduled tasks except backups: last good run, next due time, whether overdue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.machine.renewal_times import late_at
from backup.app.money.expected_times import longest_wait
from backup.app.status.parts import RenewalStatus, ScheduledStatus
from backup.app.tasks.book import last_run_of
from backup.app.tasks.tasks import SAMPLE, Task, TaskKey, renewal_tasks, scheduled_tasks
from backup.app.tasks.times import due_at, failed_at
from backup.config import Config
from backup.inventory.questions.status import LastGood
from backup.inventory.records.tasks import Pause, TaskRow
from backup.inventory.store.connections import Transaction
from backup.kinds import TASKS, TaskKind, run_of
from backup.model import JobName
from backup.schedule import next_due, overdue_from


class ScheduleFacts(Struct, frozen=True):
    """The facts, besides the tasks, from which due times are computed.

    `stored_since`: the time of the first archive of a job (True) or vault, by name. `since`: from when a task
    counts that nobody has recorded.

    `since`: when a task counts as known that nobody has recorded.
    """

    tasks: Mapping[TaskKey, TaskRow]
    pauses: Mapping[JobName, Pause]
    now: datetime
    since: datetime
    good: LastGood
    stored_since: Mapping[tuple[bool, str], datetime]
    certificate: CertificateStatus | None = None
    renewal: RenewalStatus | None = None


def read_scheduled(tx: Transaction, config: Config, known: ScheduleFacts) -> list[ScheduledStatus]:
    """Return the status of all scheduled tasks, and of the certificate's renewal, in order of execution."""
    tasks = [task for task in scheduled_tasks(config) if task.kind is not TaskKind.BACKUP]
    return [
        *(_scheduled(tx, config, task, known) for task in tasks),
        *(_renewal(task, known) for task in renewal_tasks(config)),
    ]


def _scheduled(tx: Transaction, config: Config, task: Task, known: ScheduleFacts) -> ScheduledStatus:
    row = known.tasks.get(task.key) or TaskRow(*task.key, known_since=known.since)
    last, now = last_run_of(tx, task), known.now
    halves = _halves(config, task, known)
    good = None if None in halves.values() else min(half for half in halves.values() if half is not None)
    is_new = None in halves.values() and halves[""] is not None  # the sample, since it is asked for
    seen = known.tasks.get((SAMPLE, task.name)) if is_new else row
    since = known.since if seen is None else seen.known_since
    late = _overdue_from(tx, config, task, good, min(since, now), known)
    pause = known.pauses.get(JobName(task.of_job)) if task.of_job else None
    return ScheduledStatus(
        kind=task.kind,
        name=task.name,
        text=str(task),
        command=TASKS[task.kind].command_of(task.name) + _older(halves),
        vault=task.vault,
        schedule=task.timing.schedule.text if task.timing.schedule else "",
        last_good=good,
        next_at=due_at(task.timing, row, last, now),
        overdue_from=late,
        is_overdue=late is not None and late < now,
        paused_until=pause.until if pause is not None and pause.until > now else None,
        failed_at=failed_at(row, last),
    )


def _halves(config: Config, task: Task, known: ScheduleFacts) -> dict[str, datetime | None]:
    """When the newest began that ended well, by what its command needs more: a check may have two halves."""
    kind, traits, good = run_of(task.kind), TASKS[task.kind], known.good
    assert kind is not None  # noqa: S101  (what a config gives a schedule is recorded)
    if task.kind is not TaskKind.CHECK or task.vault is None:
        return {"": good.of(kind, task.name, traits.good)}
    found = {"": good.of(kind, task.name, traits.good, reads_back=False)}
    if (sample := config.vault(task.vault).check_sample) is not None:
        found[f" --read-data {sample}"] = good.of(kind, task.name, traits.good, reads_back=True)
    return found


def _older(halves: Mapping[str, datetime | None]) -> str:
    """More words of the command, for the half that is missing, or was done longer ago."""
    return min(halves, key=lambda half: (halves[half] is not None, halves[half] or 0))


def _overdue_from(
    tx: Transaction, config: Config, task: Task, good: datetime | None, since: datetime, known: ScheduleFacts
) -> datetime | None:
    """From when it is overdue; None where nothing is stored yet that it could be done with."""
    is_job, when = task.of_job is not None, task.timing.schedule
    stored = known.stored_since.get((is_job, task.of_job or task.vault or ""))
    if stored is None or when is None or task.vault is None:
        return None
    read = config.job(task.of_job).vault if task.kind is TaskKind.COPY and task.of_job else task.vault
    settings = config.vault(read)
    tier = config.drill(task.name).tier if task.kind is TaskKind.DRILL else None
    waits = task.kind is not TaskKind.EXTEND  # which reads nothing
    slack = task.timing.jitter + longest_wait(settings, tier or settings.tier) * waits
    if good is None:
        since = min(max(since, stored), known.now)
        return overdue_from(when, next_due(when, None, since), slack)
    return overdue_from(when, _may_begin(tx, config, task, good), slack)


def _may_begin(tx: Transaction, config: Config, task: Task, good: datetime) -> datetime:
    """When the next could begin: a drill that has spent money may have to wait for another month."""
    if task.kind is not TaskKind.DRILL or config.drill(task.name).max_cost_per_month is None:
        return good
    from backup.driller.money import first_of
    from backup.inventory.records import drills

    month = drills.month_of(good)
    spent = any(charge.cost and charge.month == month for charge in drills.charges_of(tx, task.name))
    return max(good, first_of(month + 1)) if spent else good


def _renewal(task: Task, known: ScheduleFacts) -> ScheduledStatus:
    """The certificate's renewal, which goes by its life: good when this one was made."""
    certificate, renewal = known.certificate, known.renewal
    start = None if certificate is None else certificate.not_before
    end = None if certificate is None else certificate.not_after
    late = None
    if renewal is not None and start is not None and end is not None:
        late = late_at(start, end, by_others=renewal.files)
    return ScheduledStatus(
        kind=task.kind,
        name=task.name,
        text=str(task),
        command=TASKS[task.kind].command,
        vault=None,
        schedule="by the certificate's life",
        last_good=start,
        next_at=None if renewal is None else renewal.due_at,
        overdue_from=late,
        is_overdue=late is not None and late <= known.now,
    )
