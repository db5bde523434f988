"""Values of the overview: jobs with their last thirty nights, vaults, concerns, tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.status.parts import Concern, Level, RestoreStatus, ScheduledStatus
from backup.model import JobName, VaultName


class NightOutcome(StrEnum):
    """The outcome of a job's night, the worst of its backups; none: no backup ran or was due.

    `missed`: the schedule had a time that day, and no backup began.
    """

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    MISSED = "missed"
    NONE = "none"


_NOT_OVER = frozenset({NightOutcome.NONE, NightOutcome.RUNNING})
_WRONG = frozenset({NightOutcome.FAILED, NightOutcome.INTERRUPTED, NightOutcome.MISSED})


class NightCell(Struct, frozen=True):
    """One night of a job in its strip: a day in this machine's zone.

    `run` is the backup that decided the outcome, None without one. `unusual` are sentences.
    """

    day: date
    outcome: NightOutcome
    run: int | None = None
    runs: int = 0
    bytes_uploaded: int = 0
    files_read: int | None = None
    unusual: Sequence[str] = ()


class LiveTask(Struct, frozen=True):
    """A task of the daemon: `state` is running, queued, waiting, paused or idle.

    A running task has `phase`, `done`, `total` and `seconds_left`; `run` is the daemon's own id of its run.
    """

    kind: str
    name: str
    text: str
    state: str
    run: str | None
    began_at: datetime | None
    queued_at: datetime | None
    next_at: datetime | None
    paused_until: datetime | None
    waits_for: str | None
    phase: str | None
    done: int
    total: int | None
    seconds_left: float | None


class JobCard(Struct, frozen=True):
    """A job in the overview; `level` is that of its worst problem, None without problems.

    `nights` are the last thirty, oldest first, and `uploaded` the bytes that they stored. `sizes` are the
    bytes of its newest snapshots, oldest first, at most one for each of these nights. `configured`: the job
    is still in the config. `live` is the daemon's task of its backup.
    """

    name: JobName
    vault: VaultName
    is_configured: bool
    schedule: str | None
    level: Level | None
    last_good: datetime | None
    last_run: int | None
    last_outcome: NightOutcome
    last_run_at: datetime | None
    last_error: str | None
    next_at: datetime | None
    overdue_from: datetime | None
    is_overdue: bool
    paused_until: datetime | None
    snapshots: int
    newest_snapshot: str | None
    files: int
    bytes: int
    uploaded: int
    sizes: Sequence[tuple[datetime, int]]
    nights: Sequence[NightCell]
    live: LiveTask | None
    last_drill: datetime | None = None  # when a restore of it was last proven

    @property
    def newest_failed(self) -> bool:
        """Whether the newest night that is over failed, was interrupted or was missed."""
        over = (night.outcome for night in reversed(self.nights) if night.outcome not in _NOT_OVER)
        return next(over, self.last_outcome) in _WRONG


class HostCard(Struct, frozen=True):
    """A server with its jobs, those with problems first."""

    name: str
    level: Level | None
    jobs: Sequence[JobCard]


class VaultCard(Struct, frozen=True):
    """A vault in the overview.

    `month` is its cost a month (None: no price is known), `why` its parts in words. `checked_at`: when a
    check last found nothing wrong; `unverified_since`: when the oldest archive was stored that was never
    read back, not even in part.
    """

    name: VaultName
    kind: str
    archives: int
    bytes: int
    month: Decimal | None
    is_free: bool
    why: str
    checked_at: datetime | None
    last_read_back: datetime | None
    unverified_since: datetime | None
    next_prune: datetime | None


class Overview(Struct, frozen=True):
    """The first page. `problems` are the concerns of `nightvault status`, critical ones first, with commands.

    `as_of`: the time of the daemon's answer; None without one, so that it is unknown what runs. `newest`:
    when the newest run in the inventory began or ended. `month`: the cost a month of all vaults, None if a
    price is unknown.
    """

    now: datetime
    as_of: datetime | None
    newest: datetime | None
    level: Level | None
    problems: Sequence[Concern]
    hosts: Sequence[HostCard]
    vaults: Sequence[VaultCard]
    restores: Sequence[RestoreStatus]
    tasks: Sequence[LiveTask]
    certificate: CertificateStatus | None
    month: Decimal | None
    currency: str
    last_read_back: datetime | None
    last_opened: datetime | None = None  # when what was read back was last opened with a recovery key
    scheduled: Sequence[ScheduledStatus] = ()  # all but the backups

    @property
    def is_well(self) -> bool:
        """Whether there are no problems."""
        return not self.problems
