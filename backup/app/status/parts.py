"""The parts of a status as frozen values: jobs, vaults, open restores, the certificate, and concerns.

A concern is something that an admin should look at; without one all is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from backup.app.base.certificate_dates import CertificateStatus
from backup.inventory.content.strangers import OpenStranger
from backup.inventory.questions.proofs import NOTHING_PROVEN, LoadProof, Proof
from backup.inventory.questions.status import Undeleted
from backup.inventory.records.readings import LockDate, VaultLock
from backup.inventory.records.runs import Run
from backup.kinds import RunKind, TaskKind
from backup.model import JobName, SnapshotId, VaultName

if TYPE_CHECKING:
    from backup.inventory.content.shrunk import Wait

UNKNOWN = "unknown"
"""The kind of a vault that the config does not have any more."""


class Level(StrEnum):
    """How bad a concern is; part of the JSON interface."""

    WARNING = "warning"
    CRITICAL = "critical"


class Topic(StrEnum):
    """The topic of a concern; part of the JSON interface."""

    OVERDUE = "overdue"
    RUN = "run"
    CLOCK = "clock"
    DAEMON = "daemon"
    CERTIFICATE = "certificate"
    LOCK = "lock"
    PROTECTION = "protection"
    RESTORE = "restore"
    DISK = "disk"
    COST = "cost"
    CHECK = "check"
    MESSAGES = "messages"
    VAULT = "vault"
    SHRUNK = "shrunk"
    AWAY = "away"
    UNKNOWN = "unknown"


class Concern(Struct, frozen=True):
    """Something that is not well; `command` shows more, or is what to do.

    `about` tells it from others of its topic, and is the same as long as it lasts: a job, a vault, a path.
    `kind`: of a run that was not well.
    """

    level: Level
    topic: Topic
    text: str
    command: str | None = None
    job: JobName | None = None
    about: str = ""
    kind: RunKind | None = None


class JobStatus(Struct, frozen=True):
    """A configured job. `last_good` is when the newest backup began that made a snapshot which is kept.

    `next_at` is when it is due by its schedule, which may be past; `ahead` is a date of its runs or snapshots
    that is still to come. `has_timer`: a timer of systemd keeps its schedule, whether or not the daemon runs.
    `bound_to` is the vault that holds its snapshots: no backup of it goes into another.
    """

    name: JobName
    vault: VaultName
    schedule: str | None
    has_policy: bool
    last_good: datetime | None
    last_run: Run | None
    next_at: datetime | None
    overdue_from: datetime | None
    is_overdue: bool
    ahead: datetime | None
    paused_until: datetime | None = None
    has_timer: bool = False
    proof: Proof = NOTHING_PROVEN
    databases: tuple[LoadProof, ...] = ()  # of which it has dumps
    bound_to: VaultName | None = None
    failed_at: datetime | None = None  # when the daemon's newest attempt failed, if that is the last
    locks: LockDate | None = None  # until when it restores, where its vault locks what is stored
    lock_for: timedelta | None = None  # for how long that is to be, at least; None: its vault locks nothing
    holds: tuple[SnapshotId, ...] = ()  # the snapshots for which objects are under a legal hold


class VaultStatus(Struct, frozen=True):
    """A vault with archives. `month` is what it costs, None where no price is known; 0 if it is free.

    `unverified_since`: when the oldest archive was stored that no check has read anything of. `is_away`: it
    is a directory that should be there, and is not. `is_silent`: its mount does not answer. `not_set_up`: a
    sentence, "" of one that is.
    """

    name: VaultName
    kind: str
    archives: int
    bytes: int
    month: Decimal | None
    is_free: bool
    unverified_since: datetime | None
    next_prune: datetime | None
    checked_at: datetime | None = None  # when the last check began that found nothing wrong
    stored_since: datetime | None = None  # when the first archive that it holds was stored
    rebuild_drilled_at: datetime | None = None  # when the last drill of a rebuild began that was good
    is_away: bool = False
    is_silent: bool = False
    not_set_up: str = ""
    lock: VaultLock | None = None  # of a Glacier vault, as it was begun or completed here


class RestoreStatus(Struct, frozen=True):
    """An open restore. Of its `retrievals`, `waiting` are not readable yet and `failed` never will be."""

    id: str
    snapshot: SnapshotId
    vault: VaultName
    target: bytes
    stage: str
    retrievals: int
    waiting: int
    failed: int
    expected_at: datetime | None
    ready_until: datetime | None
    held: str | None


class RenewalStatus(Struct, frozen=True):
    """The renewal of the certificate: `way` in words; with `files` another program decides when.

    `failing_since` is None unless the newest attempt failed, with `error`.
    """

    way: str
    files: bool
    due_at: datetime
    failing_since: datetime | None = None
    error: str | None = None
    next_try: datetime | None = None


class Suspended(Struct, frozen=True):
    """A process that holds a lock and is suspended."""

    lock: str
    process: int


class TaskStatus(Struct, frozen=True):
    """A task as the daemon reports it: `state` is running, queued, waiting, paused or idle.

    `last` is the outcome of its newest run: new (there was none), done, failed, interrupted and so on. Of a
    running one: its id and number, its start, its phase and the figures of that; None if not known.
    """

    kind: str
    name: str
    text: str
    vault: VaultName | None
    state: str
    last: str = "new"
    run: str | None = None
    number: int | None = None
    began_at: datetime | None = None
    queued_at: datetime | None = None
    next_at: datetime | None = None
    paused_until: datetime | None = None
    waits_for: str | None = None
    phase: str | None = None
    done: int = 0
    total: int | None = None
    seconds_left: float | None = None


class DiskStatus(Struct, frozen=True):
    """Free space on a disk that we use: `what` names the use, "the state directory" or a vault."""

    path: str
    what: str
    free: int
    least: int


class Undelivered(Struct, frozen=True):
    """Messages that a channel did not take: how many, since when, and its last answer."""

    channel: str
    messages: int
    since: datetime
    answer: str


class ScheduledStatus(Struct, frozen=True):
    """Any scheduled task except backups: a prune, check, drill, the certificate's renewal, …

    `kind` is that of the daemon's task, `text` how the log names it, `command` does it by hand. `last_good`
    is when the newest began that ended well. `overdue_from` is None where nothing is stored yet that it could
    be done with, or where nobody knows. `failed_at`: when the daemon's newest attempt failed, if no run came
    since.
    """

    kind: str
    name: str
    text: str
    command: str
    vault: VaultName | None
    schedule: str
    last_good: datetime | None
    next_at: datetime | None
    overdue_from: datetime | None
    is_overdue: bool
    paused_until: datetime | None = None
    failed_at: datetime | None = None


class Unknown(Struct, frozen=True):
    """A part of a status that could not be determined, and why; `level` says how bad that is."""

    what: str
    why: str
    level: Level = Level.WARNING


class BucketSetting(Struct, frozen=True):
    """A setting of a vault's bucket that does harm, or was switched on or off (`is_gone`) `since` then."""

    vault: VaultName
    told: str
    since: datetime | None = None
    is_gone: bool = False

    @property
    def text(self) -> str:
        """The setting in words."""
        since = "" if self.since is None else f", since {self.since.astimezone():%Y-%m-%d}"
        return f"vault {self.vault}{since}{' no longer' * self.is_gone}: {self.told}"


class Status(Struct, frozen=True):
    """The answer to "is all well?"; `daemon_runs` is None where the system does not tell.

    `tasks` are the daemon's own words; None: it was not asked, or gave no answer (`is_silent`).
    """

    now: datetime
    jobs: Sequence[JobStatus]
    running: Sequence[Run]
    ended: Sequence[Run]
    restores: Sequence[RestoreStatus]
    vaults: Sequence[VaultStatus]
    certificate: CertificateStatus | None
    daemon_runs: bool | None
    suspended: Sequence[Suspended]
    currency: str
    concerns: Sequence[Concern] = ()
    tasks: Sequence[TaskStatus] | None = None
    waits_for_clock: bool = False
    is_silent: bool = False
    disks: Sequence[DiskStatus] = ()
    undelivered: Sequence[Undelivered] = ()
    most_month: Decimal | None = None  # what storing may cost a month
    check_age: timedelta | None = None  # how old the last good check of a vault may be
    renewal: RenewalStatus | None = None
    proof: Proof = NOTHING_PROVEN  # of all archives
    drills: Sequence[str] = ()  # those of the config
    scheduled: Sequence[ScheduledStatus] = ()  # all but the backups, which are their jobs'
    unknown: Sequence[Unknown] = ()
    strangers: Sequence[OpenStranger] = ()  # nobody answered to them
    losses: Mapping[VaultName, int] = {}  # archives that are lost or damaged, and that kept snapshots need
    undeleted: Sequence[Undeleted] = ()  # what waits too long for whoever deletes in place of this server
    waits: Sequence[Wait] = ()  # jobs of which nothing is deleted before somebody answers
    settings: Sequence[BucketSetting] = ()  # as backups have seen them
    has_unit: bool = True  # whether systemd has a unit of the daemon
    dead: frozenset[int] = frozenset()  # numbers of runs that were cut off

    @property
    def backups(self) -> Mapping[JobName | None, Run]:
        """The backups that run now, by job; not those whose process died."""
        return {
            run.job: run for run in self.running if run.kind is RunKind.BACKUP and run.number not in self.dead
        }

    def vault_of(self, run: Run) -> VaultName | None:
        """The vault of a run; that of its job, where the report of a backup or forget names none."""
        if run.vault is None and run.kind in {RunKind.BACKUP, RunKind.FORGET}:
            return next((job.vault for job in self.jobs if job.name == run.job), None)
        return run.vault

    @property
    def for_daemon(self) -> Mapping[tuple[str, str], str]:
        """All scheduled tasks that only the daemon runs: texts by kind and name."""
        jobs = [job for job in self.jobs if job.schedule and not job.has_timer]
        others = [task for task in self.scheduled if task.kind != TaskKind.RENEWAL]
        return {
            **{(str(TaskKind.BACKUP), job.name): f"job {job.name}" for job in jobs},
            **{(task.kind, task.name): task.text for task in others},
        }

    @property
    def unread(self) -> Sequence[str]:
        """The part of `for_daemon` that the daemon does not schedule, as it has read another config."""
        known = {(task.kind, task.name) for task in self.tasks or () if task.next_at or task.state != "idle"}
        looked = bool(self.tasks) and not self.waits_for_clock
        return [text for key, text in self.for_daemon.items() if looked and key not in known]

    @property
    def is_well(self) -> bool:
        """Whether there is no concern."""
        return not self.concerns

    @property
    def worst(self) -> Level | None:
        """The level of the worst concern."""
        levels = {concern.level for concern in self.concerns}
        return next((level for level in (Level.CRITICAL, Level.WARNING) if level in levels), None)
