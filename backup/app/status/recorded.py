"""The status from one transaction of the inventory, with the config and the locks; keys are not read.

The page reads this much; `status.py` adds this server's certificate. The rules for concerns: `concerns.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.machine.units import has_daemon_unit, has_timer
from backup.app.money.prices import price_table
from backup.app.status.concerns import concerns_of
from backup.app.status.parts import (
    JobStatus,
    Level,
    RenewalStatus,
    RestoreStatus,
    ScheduledStatus,
    Status,
    Suspended,
    Undelivered,
    Unknown,
)
from backup.app.status.vaults import VaultFacts, disks_of, settings_of, undeleted_of, vaults_of
from backup.app.tasks.tasks import backup_task, scheduled_tasks
from backup.app.tasks.times import LastRun, due_at, failed_at
from backup.config import Config, JobSettings
from backup.errors import InventoryDamagedError, InventoryMovedError, LockedError, NightvaultError
from backup.inventory.content.strangers import open_strangers
from backup.inventory.questions import status as queries
from backup.inventory.questions.proofs import LoadProof, Proof, load_proofs, proofs
from backup.inventory.records import messages, retrievals
from backup.inventory.records import tasks as task_rows
from backup.inventory.records.ended_runs import is_dead
from backup.inventory.records.messages import Delivery
from backup.inventory.records.readings import LockDate, held_snapshots, lock_dates, vault_locks
from backup.inventory.records.runs import Run
from backup.inventory.records.tasks import Pause, TaskRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.holders import Holder, holders
from backup.kinds import Outcome, RunKind, TaskKind
from backup.model import JobName, SnapshotId, VaultName
from backup.retention.dates import FUTURE
from backup.schedule import is_overdue, next_due, overdue_from

if TYPE_CHECKING:
    from backup.inventory.content.shrunk import Wait

Value = TypeVar("Value")
Other = TypeVar("Other")
DAEMON = "daemon"
"""The lock that the daemon holds."""


class Parts:
    """Reads the parts of a status: one that fails is recorded as unknown, and does not stop the others.

    An inventory that cannot be read at all is an error: nothing would be known.
    """

    def __init__(self) -> None:
        self.unknown: list[Unknown] = []

    def read(
        self, what: str, part: Callable[[], Value], otherwise: Other, level: Level = Level.WARNING
    ) -> Value | Other:
        """Return the part; `otherwise` if it fails."""
        try:
            return part()
        except (LockedError, InventoryDamagedError, InventoryMovedError):
            raise
        except NightvaultError as error:
            self.unknown.append(Unknown(what, str(error), level))
        except Exception as error:  # noqa: BLE001  the rest is still to be told
            self.unknown.append(Unknown(what, f"unexpected {type(error).__name__}: {error}", level))
        return otherwise


class _JobRows(Struct, frozen=True):
    """The rows that the inventory has of all jobs."""

    snapshots: Mapping[JobName, queries.SnapshotDates]
    backups: Mapping[JobName, queries.BackupDates]
    tasks: Mapping[tuple[str, str], TaskRow]
    pauses: Mapping[JobName, Pause]


class _Looks(Struct, frozen=True):
    """The facts that several parts go by: config, time, the newest runs, and since when things are known."""

    config: Config
    now: datetime
    runs: Sequence[Run]
    known_since: datetime
    proofs: Mapping[tuple[VaultName, JobName | None], Proof]
    locks: Sequence[LockDate]
    holds: Mapping[SnapshotId, JobName | None]
    loads: Sequence[LoadProof]
    held: Sequence[queries.HeldArchives]
    good: queries.LastGood | None
    rows: _JobRows | None


def status_in(
    tx: Transaction, config: Config, now: datetime, certificate: CertificateStatus | None = None
) -> Status:
    """Return the status from one transaction, for a process that can see neither locks nor paths.

    No certificate or key is read: `certificate` has what is known.
    """
    return recorded_status(tx, config, now, None, Parts(), certificate, None)


def recorded_status(
    tx: Transaction,
    config: Config,
    now: datetime,
    before: Mapping[str, Sequence[Holder]] | None,
    parts: Parts,
    certificate: CertificateStatus | None,
    renewal: RenewalStatus | None,
) -> Status:
    """Return the status; `before` are the locks held before the transaction began, None if not visible."""
    part, bad = parts.read, Level.CRITICAL
    runs = part("runs", lambda: queries.newest_runs(tx), (), bad)
    after = holders(config.state_dir)
    locked = None if before is None or after is None else frozenset(before) | frozenset(after)
    looks = _Looks(
        config=config,
        now=now,
        runs=runs,
        known_since=known_since(tx, config),
        proofs=part("what was proven", lambda: proofs(tx, now), {}),
        locks=part("locks", lambda: lock_dates(tx), ()),
        holds=part("legal holds", lambda: held_snapshots(tx), {}),
        loads=part("what was loaded", lambda: load_proofs(tx), ()),
        held=part("what vaults hold", lambda: queries.held(tx), ()),
        good=part("what ended well", lambda: queries.last_good(tx, now), None),
        rows=part("dates of jobs", lambda: _rows(tx, now), None, bad),
    )
    scheduled = part("schedules", lambda: _scheduled(tx, looks, certificate, renewal), ())
    table = part("money", lambda: price_table(config), None)
    vaults_locked = part("locks of vaults", lambda: vault_locks(tx), {})
    shelf = VaultFacts(looks.held, looks.good or queries.LastGood({}), table, vaults_locked)
    found = Status(
        now=now,
        jobs=part("jobs", lambda: _jobs(looks), (), bad),
        running=[run for run in runs if run.outcome is Outcome.RUNNING],
        ended=[run for run in runs if run.outcome is not Outcome.RUNNING],
        restores=part("restores", lambda: _restores(tx, config), ()),
        vaults=part("vaults", lambda: vaults_of(tx, config, shelf, scheduled, sees=before is not None), ()),
        certificate=certificate,
        renewal=renewal,
        daemon_runs=None if after is None else DAEMON in after,
        suspended=_suspended(after or {}),
        currency="" if table is None else table.currency,
        disks=part("disks", lambda: disks_of(config, shelf.places), ()),
        undelivered=part("messages", lambda: _undelivered(tx), ()),
        most_month=config.monitoring.max_month_cost,
        check_age=_span(config.monitoring.check_age),
        proof=sum(looks.proofs.values(), Proof()),
        drills=[drill.name for drill in config.drills],
        scheduled=scheduled,
        strangers=part("who else writes into vaults", lambda: open_strangers(tx), ()),
        losses=part("lost archives", lambda: _losses(tx), {}, bad),
        has_unit=has_daemon_unit(),
        dead=frozenset(run.number for run in runs if is_dead(run, locked)),
        undeleted=part("what others are to delete", lambda: undeleted_of(tx, config, table, now), ()),
        waits=part("sources that lost much", lambda: _waits(tx, config), ()),
        settings=part("settings of buckets", lambda: settings_of(tx, config, now), ()),
        unknown=parts.unknown,
    )
    return replace(found, concerns=concerns_of(found))


def _scheduled(
    tx: Transaction, looks: _Looks, certificate: CertificateStatus | None, renewal: RenewalStatus | None
) -> Sequence[ScheduledStatus]:
    """Return the status of all scheduled tasks; none if the last good runs are not known."""
    config = looks.config
    others = [task for task in scheduled_tasks(config) if task.kind is not TaskKind.BACKUP]
    if looks.good is None or looks.rows is None or not (others or renewal):
        return ()
    from backup.app.status.scheduled import ScheduleFacts, read_scheduled

    stored: dict[tuple[bool, str], datetime] = {}
    for share in looks.held:
        if share.oldest is not None:
            key = (False, str(share.vault))
            stored[key] = min(share.oldest, stored.get(key, share.oldest))
    backups, snapshots = looks.rows.backups, looks.rows.snapshots
    begun = {(True, str(name)): backups[name].first for name in snapshots if name in backups}
    known = ScheduleFacts(
        tasks=looks.rows.tasks,
        pauses=looks.rows.pauses,
        now=looks.now,
        since=looks.known_since,
        good=looks.good,
        stored_since=stored | begun,
        certificate=certificate,
        renewal=renewal,
    )
    return read_scheduled(tx, config, known)


def _waits(tx: Transaction, config: Config) -> Sequence[Wait]:
    if not queries.any_waits(tx):
        return ()
    from backup.inventory.content.shrunk import waits

    return waits(tx, may_shrink={job.name for job in config.jobs if job.may_shrink})


def _losses(tx: Transaction) -> Mapping[VaultName, int]:
    """The lost and damaged archives that kept snapshots need; entries are read only if there are any."""
    if not queries.has_spoiled(tx):
        return {}
    from backup.inventory.content.lost import needed_losses
    from backup.inventory.content.need import is_kept, kept_snapshots
    from backup.inventory.records.readings import bad_frames

    return needed_losses(tx, bad_frames(tx), partial(is_kept, kept_snapshots(tx)))


def _undelivered(tx: Transaction) -> list[Undelivered]:
    """Return the messages that channels did not take, by channel; those not tried yet are not among them."""
    tried: dict[str, list[Delivery]] = {}
    for delivery in messages.waiting(tx):
        if delivery.attempts:
            tried.setdefault(delivery.channel, []).append(delivery)
    return [
        Undelivered(name, len(deliveries), deliveries[0].message.created_at, deliveries[-1].answer or "")
        for name, deliveries in tried.items()
    ]


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def known_since(tx: Transaction, config: Config) -> datetime:
    """Return the time from which an unrecorded task counts: inventory made or config changed, the later."""
    return max(queries.created_at(tx), config_changed_at(config))


def config_changed_at(config: Config) -> datetime:
    """Return when the config file was last changed, as a job may be new since; 1970 if not known."""
    try:
        return datetime.fromtimestamp(os.stat(config.path).st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return datetime.fromtimestamp(0, UTC)


def _urgency(job: JobStatus) -> tuple[bool, float, str]:
    """The order of jobs: overdue ones first, then by when they are due, those without a schedule last."""
    return not job.is_overdue, job.next_at.timestamp() if job.next_at else float("inf"), job.name


def _rows(tx: Transaction, now: datetime) -> _JobRows:
    """The rows of all jobs; nothing is known since before the inventory: no clock was set then."""
    made, tasks = queries.created_at(tx), task_rows.all_tasks(tx)
    known = {key: replace(row, known_since=max(row.known_since, made)) for key, row in tasks.items()}
    return _JobRows(
        queries.snapshot_dates(tx, now),
        queries.backup_dates(tx, now),
        known,
        task_rows.all_pauses(tx),
    )


def _jobs(looks: _Looks) -> list[JobStatus]:
    if looks.rows is None:
        return []
    return sorted((_job(job, looks.rows, looks) for job in looks.config.jobs), key=_urgency)


def _job(job: JobSettings, rows: _JobRows, looks: _Looks) -> JobStatus:
    snapshots, backups, when = rows.snapshots.get(job.name), rows.backups.get(job.name), job.when
    now = looks.now
    good = snapshots.newest if snapshots else None
    last = backups.newest or backups.latest if backups else None
    ended = (run for run in looks.runs if run.kind is RunKind.BACKUP and run.job == job.name)
    task = backup_task(job, socket.gethostname())
    row = rows.tasks.get(task.key) or TaskRow(*task.key, known_since=looks.known_since)
    first = backups.first if backups else now
    since = min(first if first < now else row.known_since, now)  # when it was expected to be done at all
    pause, jitter = rows.pauses.get(job.name), task.timing.jitter
    latest = [dates.latest for dates in (snapshots, backups) if dates is not None]
    last_run = None if last is None else LastRun(last)
    return JobStatus(
        name=job.name,
        vault=job.vault,
        schedule=job.schedule,
        has_policy=job.policy is not None,
        last_good=good,
        last_run=next((run for run in ended if run.outcome is not Outcome.RUNNING), None),
        next_at=due_at(task.timing, replace(row, known_since=min(row.known_since, now)), last_run, now),
        overdue_from=None
        if when is None
        else overdue_from(when, good or next_due(when, None, since), jitter),
        is_overdue=when is not None and is_overdue(when, good, now, known_since=since, jitter=jitter),
        ahead=max((moment for moment in latest if moment > now + FUTURE), default=None),
        paused_until=pause.until if pause is not None and pause.until > now else None,
        has_timer=has_timer(job.name),
        proof=sum((proof for (_, name), proof in looks.proofs.items() if name == job.name), Proof()),
        databases=tuple(proof for proof in looks.loads if proof.job == job.name),
        bound_to=snapshots.vault if snapshots is not None else None,
        failed_at=failed_at(row, last_run),
        locks=next((date for date in looks.locks if (date.job, date.vault) == (job.name, job.vault)), None),
        lock_for=_lock_for(looks.config, job),
        holds=tuple(snapshot for snapshot, of_job in looks.holds.items() if of_job == job.name),
    )


def _lock_for(config: Config, job: JobSettings) -> timedelta | None:
    """The time for which its vault locks what is stored; None where it locks nothing."""
    vault = next((vault for vault in config.vaults if vault.name == job.vault), None)
    return None if vault is None or vault.lock is None else timedelta(seconds=vault.lock_for)


def _restores(tx: Transaction, config: Config) -> list[RestoreStatus]:
    found = retrievals.list_restores(tx, only_open=True)
    if not found:
        return []
    from backup.app.status.restores import restore_status

    groups = queries.retrieval_groups(tx)
    return [restore_status(config, restore, groups.get(restore.number, ())) for restore in found]


def _suspended(locks: Mapping[str, Sequence[Holder]]) -> list[Suspended]:
    return [
        Suspended(name, holder.process)
        for name, of_lock in locks.items()
        for holder in of_lock
        if holder.is_suspended
    ]
