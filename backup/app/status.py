"""Reads a status: what the inventory, the config and the locks tell; no vault is asked, and no network.

The rules by which something is not well: `concerns.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from backup.app.concerns import concerns_of
from backup.app.expected_times import expected
from backup.app.held_restores import HeldNotes
from backup.app.opened import opened
from backup.app.prices import kind_of, price_table
from backup.app.renewal_times import renewal_due
from backup.app.stats import terms_of
from backup.app.status_parts import (
    UNKNOWN,
    CertificateStatus,
    DiskStatus,
    DrillTimes,
    JobStatus,
    RenewalStatus,
    RestoreStatus,
    RunFacts,
    Status,
    Suspended,
    Undelivered,
    VaultStatus,
)
from backup.app.task_times import LastRun, due_at
from backup.app.tasks import backup_task
from backup.app.units import has_timer
from backup.config import Config, DrillSettings, JobSettings, VaultSettings
from backup.errors import NightvaultError
from backup.inventory import drills, messages, retrievals
from backup.inventory import status as queries
from backup.inventory import tasks as task_rows
from backup.inventory.connections import Transaction
from backup.inventory.holders import Holder, holders, is_dead
from backup.inventory.messages import Delivery
from backup.inventory.proofs import Proof, proofs
from backup.inventory.retrievals import Restore
from backup.inventory.runs import Outcome, Run, RunKind
from backup.inventory.stages import SETTLED, RestoreStage, RetrievalStage
from backup.inventory.strangers import open_strangers
from backup.inventory.tasks import Pause, TaskRow
from backup.model import JobName, VaultName
from backup.retention.dates import FUTURE
from backup.retention.stats import MONTH
from backup.schedule import is_overdue, next_due, overdue_from

if TYPE_CHECKING:
    from backup.inventory.shrunk import Wait

DAEMON = "daemon"
"""The lock that the daemon holds."""


class _Rows(Struct, frozen=True):
    """What one consistent look at the inventory gave."""

    created_at: datetime
    snapshots: Mapping[JobName, queries.SnapshotDates]
    backups: Mapping[JobName, queries.BackupDates]
    runs: Sequence[Run]
    restores: Sequence[Restore]
    retrievals: Mapping[int, Sequence[queries.RetrievalGroup]]
    tasks: Mapping[tuple[str, str], TaskRow]
    pauses: Mapping[JobName, Pause]
    held: Sequence[queries.Held]
    unverified: Mapping[VaultName, datetime]
    good: Mapping[tuple[RunKind, VaultName], datetime]
    undelivered: Sequence[Undelivered]
    proofs: Mapping[tuple[VaultName, JobName | None], Proof]
    losses: Mapping[VaultName, int]


def read_status(config: Config, now: datetime) -> Status:
    """The status of this server."""
    certificate = _certificate(config)
    renewal = _renewal(config, certificate)
    before = holders(config.state_dir)  # a run that ends, or begins, while we look is not dead
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        return status_in(tx, config, now, before, certificate, renewal)


def status_in(
    tx: Transaction,
    config: Config,
    now: datetime,
    before: Mapping[str, Sequence[Holder]] | None,
    certificate: CertificateStatus | None = None,
    renewal: RenewalStatus | None = None,
) -> Status:
    """The status as one transaction has it; `before` are the locks that were held before it began.

    No certificate or key is looked at: what is known of them is given.
    """
    rows = _read(tx, now)
    after = holders(config.state_dir)
    locked = None if before is None or after is None else frozenset(before) | frozenset(after)
    vaults = {one.name: one.vault for one in config.jobs}
    facts = [RunFacts.of(run, vaults, is_dead=is_dead(run, locked)) for run in rows.runs]
    known_since = max(rows.created_at, config_changed_at(config))
    jobs = [_job(job, rows, facts, now, known_since) for job in config.jobs]
    found = Status(
        now=now,
        jobs=sorted(jobs, key=_urgency),
        running=[one for one in facts if one.outcome is Outcome.RUNNING],
        ended=[one for one in facts if one.outcome is not Outcome.RUNNING],
        restores=[_restore(config, one, rows.retrievals.get(one.number, ())) for one in rows.restores],
        vaults=_vaults(config, rows, facts, now),
        certificate=certificate,
        renewal=renewal,
        daemon_runs=None if after is None else DAEMON in after,
        suspended=_suspended(after or {}),
        currency=price_table(config).currency,
        disks=_disks(config),
        undelivered=rows.undelivered,
        most_month=config.monitoring.max_month_cost,
        check_age=_span(config.monitoring.check_age),
        proof=sum(rows.proofs.values(), Proof()),
        drills=[_drill(one, tx, known_since) for one in config.drills],
        strangers=open_strangers(tx),
        losses=rows.losses,
        waits=_waits(tx, config),
    )
    return replace(found, concerns=concerns_of(found))


def _waits(tx: Transaction, config: Config) -> Sequence[Wait]:
    if not queries.any_waits(tx):
        return ()
    from backup.inventory.shrunk import waits

    return waits(tx, may_shrink={job.name for job in config.jobs if job.may_shrink})


def _read(tx: Transaction, now: datetime) -> _Rows:
    return _Rows(
        created_at=queries.created_at(tx),
        snapshots=queries.snapshot_dates(tx, now),
        backups=queries.backup_dates(tx, now),
        runs=queries.newest_runs(tx),
        restores=retrievals.list_restores(tx, only_open=True),
        retrievals=queries.retrieval_groups(tx),
        tasks=task_rows.all_tasks(tx),
        pauses=task_rows.all_pauses(tx),
        held=queries.held(tx),
        unverified=queries.oldest_unverified(tx),
        good=queries.last_good(tx, now),
        undelivered=_undelivered(tx),
        proofs=proofs(tx, now),
        losses=_losses(tx),
    )


def _losses(tx: Transaction) -> Mapping[VaultName, int]:
    """The lost and damaged archives that kept snapshots need; entries are read only if there are any."""
    if not queries.has_spoiled(tx):
        return {}
    from backup.inventory.lost import needed_losses
    from backup.inventory.need import is_kept, kept_snapshots
    from backup.inventory.readings import bad_frames

    return needed_losses(tx, bad_frames(tx), partial(is_kept, kept_snapshots(tx)))


def _drill(drill: DrillSettings, tx: Transaction, known_since: datetime) -> DrillTimes:
    run = drills.newest_of(tx, drill.name, outcomes=[Outcome.DONE])
    good, when = None if run is None else run.started_at, drill.when
    begin = good or (None if when is None else next_due(when, None, known_since))
    return DrillTimes(drill.name, good, None if when is None or begin is None else overdue_from(when, begin))


def _undelivered(tx: Transaction) -> list[Undelivered]:
    """What channels could not be given, by channel; what was not tried yet only waits."""
    tried: dict[str, list[Delivery]] = {}
    for one in messages.waiting(tx):
        if one.attempts:
            tried.setdefault(one.channel, []).append(one)
    return [
        Undelivered(name, len(those), those[0].message.created_at, those[-1].answer or "")
        for name, those in tried.items()
    ]


def _disks(config: Config) -> list[DiskStatus]:
    """What is free where the state directory and directory vaults lie, as far as that can be seen."""
    places = [("the state directory", config.state_dir)]
    places += [(f"vault {one.name}", one.path) for one in config.vaults if one.path is not None]
    found: dict[int, DiskStatus] = {}
    for what, path in places:
        with suppress(OSError):
            disk = os.statvfs(path)
            free = disk.f_bavail * disk.f_frsize
            found.setdefault(os.stat(path).st_dev, DiskStatus(path, what, free, config.monitoring.min_free))
    return list(found.values())


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def config_changed_at(config: Config) -> datetime:
    """When the config was changed last: a job may have come with that. Long ago if nobody knows."""
    try:
        return datetime.fromtimestamp(os.stat(config.path).st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return datetime.fromtimestamp(0, UTC)


def _urgency(job: JobStatus) -> tuple[bool, float, str]:
    """The order of jobs: overdue ones first, then by when they are due, those without a schedule last."""
    return not job.is_overdue, job.next_at.timestamp() if job.next_at else float("inf"), job.name


def _job(
    job: JobSettings, rows: _Rows, facts: Sequence[RunFacts], now: datetime, known_since: datetime
) -> JobStatus:
    snapshots, backups, when = rows.snapshots.get(job.name), rows.backups.get(job.name), job.when
    good = snapshots.newest if snapshots else None
    last = backups.newest or backups.latest if backups else None
    since = min(backups.first if backups else known_since, now)  # when it was expected to be done at all
    ended = (one for one in facts if one.kind is RunKind.BACKUP and one.job == job.name)
    task = backup_task(job, socket.gethostname())
    row = rows.tasks.get(task.key) or TaskRow(*task.key, known_since=now)
    pause, jitter = rows.pauses.get(job.name), task.timing.jitter
    latest = [one.latest for one in (snapshots, backups) if one is not None]
    return JobStatus(
        name=job.name,
        vault=job.vault,
        schedule=job.schedule,
        has_policy=job.policy is not None,
        last_good=good,
        last_run=next((one for one in ended if one.outcome is not Outcome.RUNNING), None),
        next_at=due_at(task.timing, row, None if last is None else LastRun(last), now),
        overdue_from=None
        if when is None
        else overdue_from(when, good or next_due(when, None, since), jitter),
        is_overdue=when is not None and is_overdue(when, good, now, known_since=since, jitter=jitter),
        ahead=max((one for one in latest if one > now + FUTURE), default=None),
        paused_until=pause.until if pause is not None and pause.until > now else None,
        has_timer=has_timer(job.name),
        proof=sum((one for (_, name), one in rows.proofs.items() if name == job.name), Proof()),
        bound_to=snapshots.vault if snapshots is not None else None,
    )


def _vaults(config: Config, rows: _Rows, facts: Sequence[RunFacts], now: datetime) -> list[VaultStatus]:
    settings = {one.name: one for one in config.vaults}
    names = dict.fromkeys([*settings, *(one.vault for one in rows.held)])
    return [_vault(config, name, settings.get(name), rows, facts, now) for name in names]


def _vault(
    config: Config,
    name: VaultName,
    settings: VaultSettings | None,
    rows: _Rows,
    facts: Sequence[RunFacts],
    now: datetime,
) -> VaultStatus:
    held = [one for one in rows.held if one.vault == name]
    prune = settings.prune_when if settings else None
    prunes = (one.started_at for one in facts if one.kind is RunKind.PRUNE and one.vault == name)
    return VaultStatus(
        name=name,
        kind=kind_of(settings) if settings else UNKNOWN,
        archives=sum(one.archives for one in held),
        bytes=sum(one.bytes for one in held),
        month=_month(config, settings, held),
        is_free=settings is not None and settings.kind == "directory",
        unverified_since=rows.unverified.get(name),
        next_prune=None if prune is None else next_due(prune, max(prunes, default=None), now),
        checked_at=rows.good.get((RunKind.CHECK, name)),
        rebuild_drilled_at=rows.good.get((RunKind.REBUILD_DRILL, name)),
        stored_since=min((one.oldest for one in held if one.oldest), default=None),
    )


def _month(config: Config, settings: VaultSettings | None, held: Sequence[queries.Held]) -> Decimal | None:
    """What a month of this costs, as `stats` says it; None where no price is known."""
    if settings is None:
        return None
    terms, total = terms_of(config, price_table(config), settings), Decimal(0)
    if terms.is_free:
        return total
    for one in held:
        price = terms.prices[one.kind]
        if price is None:
            return None
        total += price.storing(one.bytes, one.archives, MONTH, short=one.short)
    return total


def _restore(config: Config, one: Restore, groups: Sequence[queries.RetrievalGroup]) -> RestoreStatus:
    from backup.app.state import State
    from backup.restorer.report import stage

    examples = [group.example for group in groups]
    settings = next((vault for vault in config.vaults if vault.name == one.vault), None)
    when = expected(settings, examples) if settings is not None else None
    note = HeldNotes(State(config.state_dir).restores).read(one.id)
    ready = [group.until for group in examples if group.state is RetrievalStage.READY and group.until]
    return RestoreStatus(
        id=one.id,
        snapshot=one.snapshot,
        vault=one.vault,
        target=one.target,
        stage=stage(one, examples) if one.state is RestoreStage.OPEN else str(one.state),
        retrievals=sum(group.count for group in groups),
        waiting=sum(group.count for group in groups if group.example.state not in SETTLED),
        failed=sum(group.count for group in groups if group.example.state is RetrievalStage.FAILED),
        expected_at=None if when is None else when.latest,
        ready_until=min(ready, default=None),
        held=note.why if note else None,
    )


def _certificate(config: Config) -> CertificateStatus | None:
    """The certificate in its file; None without one, or on a token, which is not touched. No key is used."""
    from backup.credentials.pkcs11_uri import is_pkcs11

    if config.identity is None or is_pkcs11(config.identity.certificate):
        return None
    from backup.app.vaults import identity_files
    from backup.credentials.identity import own_certificate

    try:
        found = own_certificate(identity_files(config))
    except NightvaultError as error:
        return CertificateStatus(None, None, str(error))
    return CertificateStatus(
        found.not_valid_before_utc, found.not_valid_after_utc, serial=found.serial_number
    )


def _renewal(config: Config, certificate: CertificateStatus | None) -> RenewalStatus | None:
    """How the certificate's renewal does; None if it is not renewed by itself, or cannot be looked at."""
    if config.identity is None or config.identity.renew is None or certificate is None:
        return None
    if certificate.not_before is None or certificate.not_after is None:
        return None
    from backup.app.asking_authority import way_of
    from backup.app.renewal import read_note

    note, renew = read_note(config), config.identity.renew
    due = renewal_due(certificate.not_before, certificate.not_after, certificate.serial)
    return RenewalStatus(way_of(renew), renew.files, due, note.failing_since, note.error, note.next_try)


def _suspended(locks: Mapping[str, Sequence[Holder]]) -> list[Suspended]:
    return [Suspended(name, one.process) for name, each in locks.items() for one in each if one.is_suspended]
