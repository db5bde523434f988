"""The overview: is all well, job by job, with the last thirty nights of each."""

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
    """What became of a job in one night, the worst of its backups; none: nothing ran, and nothing had to.

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

    `run` is the backup that decided the outcome, None for none. `unusual` are sentences.
    """

    day: date
    outcome: NightOutcome
    run: int | None = None
    runs: int = 0
    bytes_uploaded: int = 0
    files_read: int | None = None
    unusual: Sequence[str] = ()


class LiveTask(Struct, frozen=True):
    """What the daemon does, or will do, now: `state` is running, queued, waiting, paused or idle.

    `phase`, `done`, `total` and `seconds_left` are of one that runs; `run` is the daemon's own id of it.
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
    """A job at a glance; `level` is that of its worst problem, None if it is well.

    `nights` are the last thirty, oldest first. `uploaded` is what they stored. `sizes` are the bytes of its
    newest snapshots, oldest first, at most one for each of these nights.
    `configured`: the config has it still. `live` is what the daemon says of its backup now.
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
        """Whether its newest night that is over failed, was interrupted or was missed."""
        over = (night.outcome for night in reversed(self.nights) if night.outcome not in _NOT_OVER)
        return next(over, self.last_outcome) in _WRONG


class HostCard(Struct, frozen=True):
    """A server with its jobs, those with problems first."""

    name: str
    level: Level | None
    jobs: Sequence[JobCard]


class VaultCard(Struct, frozen=True):
    """A vault at a glance.

    `month` is what it costs (None: no price is known), `why` says of what that is made. `checked_at` is when
    a check last found nothing wrong, `unverified_since` when the oldest archive was stored that no check has
    read anything of.
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
    """The first page. `problems` are those of `nightvault status`, the critical first, with their commands.

    `as_of`: when the daemon last said what it does, None if it gave no answer: then nobody knows what runs.
    `newest` is when the newest run began or ended that the inventory knows.
    `month` is what all vaults cost, None where a price is not known.
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
        """Whether there is no problem."""
        return not self.problems
