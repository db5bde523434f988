"""Values of the page of archives and costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from msgspec import Struct

from backup.inventory.records.runs import Outcome
from backup.model import JobName, VaultName
from backup.web.views.values.runs import RunLine


class ClassLine(Struct, frozen=True):
    """A storage class of a vault: the bytes in it, and their cost a month."""

    name: str
    archives: int
    bytes: int
    overhead: int
    month: Decimal | None
    month_in_a_year: Decimal | None


class FreeOn(Struct, frozen=True):
    """Dead bytes whose minimum duration ends in a month such as 2026-11; empty: it is over already.

    `cost` is the extra charge for deleting them now.
    """

    month: str
    archives: int
    bytes: int
    cost: Decimal | None


class VaultMoney(Struct, frozen=True):
    """The costs of a vault. `dead`: needed by no kept snapshot; `condemned`: to be deleted.

    Costs of the last 30 days include only uploads and retrievals that the inventory has recorded.
    """

    name: VaultName
    kind: str
    region: str | None
    is_free: bool
    archives: int
    bytes: int
    month: Decimal | None
    month_in_a_year: Decimal | None
    uploads_cost: Decimal | None
    retrievals_cost: Decimal | None
    dead_archives: int
    dead_bytes: int
    condemned_archives: int
    condemned_bytes: int
    classes: Sequence[ClassLine]
    free_on: Sequence[FreeOn]


class JobMoney(Struct, frozen=True):
    """A job's part of a vault; job None: archives that belong to no job."""

    vault: VaultName
    job: JobName | None
    archives: int
    bytes: int
    month: Decimal | None
    month_in_a_year: Decimal | None
    snapshots: int
    versions_bytes: int
    deduplication: float | None
    compression: float | None


class MonthLine(Struct, frozen=True):
    """Bytes that a job stored in a month (UTC) such as 2026-11, and that still exist."""

    month: str
    vault: VaultName
    job: JobName | None
    archives: int
    bytes: int
    cost: Decimal | None  # of a month's storing it


class CheckLine(Struct, frozen=True):
    """The checks of a vault: when its list was last compared, and when data was last read back.

    `read_bytes` of `bytes` were read back at least once.
    """

    vault: VaultName
    checked_at: datetime | None
    last_read_back: datetime | None
    unverified_since: datetime | None
    unverified_archives: int
    archives: int
    runs: Sequence[RunLine]
    last_drill: datetime | None = None


class ProvenLine(Struct, frozen=True):
    """Shares (0 to 1, None without bytes) of a job's `bytes` ever read back or opened, and when last."""

    job: JobName
    bytes: int
    last_read_back: datetime | None
    read_back: float | None
    last_opened: datetime | None
    opened: float | None


class DrillLine(Struct, frozen=True):
    """A drill: what it read back or opened with a recovery key. `outcome` running: it waits for the vault."""

    run: int
    name: str
    is_opened: bool
    vault: VaultName
    outcome: Outcome
    started_at: datetime
    files: int
    archives: int
    bytes: int
    cost: Decimal
    error: str | None


class MoneyPage(Struct, frozen=True):
    """The page of archives and costs; without known prices `prices_of` is None, `prices_from` says why."""

    now: datetime
    today: date
    currency: str
    prices_of: date | None
    prices_from: str
    month: Decimal | None
    month_in_a_year: Decimal | None
    vaults: Sequence[VaultMoney]
    jobs: Sequence[JobMoney]
    months: Sequence[MonthLine]
    checks: Sequence[CheckLine]
    proven: Sequence[ProvenLine]
    drills: Sequence[DrillLine]
