"""Archives: what is dead and from when it is free, and what was checked; money by month and job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from msgspec import Struct

from backup.inventory.records.runs import Outcome
from backup.model import JobName, VaultName
from backup.web.views.values.runs import RunLine


class ClassLine(Struct, frozen=True):
    """A storage class of a vault: what it holds, and what that costs a month."""

    name: str
    archives: int
    bytes: int
    overhead: int
    month: Decimal | None
    month_in_a_year: Decimal | None


class FreeOn(Struct, frozen=True):
    """Dead bytes whose minimum duration ends in that month, such as 2026-11; empty: they are free now.

    `cost` is what deleting them now would be billed on top.
    """

    month: str
    archives: int
    bytes: int
    cost: Decimal | None


class VaultMoney(Struct, frozen=True):
    """A vault in money. `dead` is what nothing kept needs, `condemned` what is to be deleted.

    Costs of the last 30 days are what the inventory can prove: uploads and retrievals.
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
    """A job's part of a vault; job None: archives that belong to none."""

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
    """What a job stored in a month by UTC, such as 2026-11, and is there still."""

    month: str
    vault: VaultName
    job: JobName | None
    archives: int
    bytes: int
    cost: Decimal | None  # of a month's storing it


class CheckLine(Struct, frozen=True):
    """How far a vault was proven: when its list was last compared, when something of it was last read back.

    `read_bytes` of `bytes` were read back since they were stored.
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
    """What was ever proven of a job's `bytes`: shares from 0 to 1, None of nothing; and when last."""

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
    """Archives and money; `prices_of` is None where nobody knows the prices, `prices_from` says why then."""

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
