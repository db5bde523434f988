"""Sums of what archives hold, cost and grow by: pure, rows of the inventory in, values out.

    summary = summed(rows.of("cold"), terms, today)              # of a vault
    summary = summed(rows.of("cold", job="web"), terms, today)   # of a job in it
    summary.month, summary.month_in_a_year                       # Decimals; None without a price

Rules, which docs/prices.md tells users: a month is 30 days at today's prices; in a year nothing will have
been deleted; only requests that the inventory has recorded are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from backup.cost import Figure, Load, Price
from backup.format.treehash import part_size_for
from backup.model import MIB, JobName, PackKind, VaultName
from backup.retention.ages import Age, Minimum, ages_of, minimum_of
from backup.retention.nights import Amount, Amounts, Night, pace_of

if TYPE_CHECKING:
    from backup.inventory.questions.stats import Contents, Retrieved, Shared, Stored, Uploads

MONTH = 30
"""Days of a month that is billed, and of those whose requests are counted."""
_NOTHING = Decimal(0)


class Terms(Struct, frozen=True):
    """A vault's storage class and price for each kind of pack (price None: free, or not known).

    `endpoint` is that of a vault which is not at AWS, whose prices are used nevertheless.
    """

    vault: VaultName
    kind: str
    region: str | None
    is_free: bool
    classes: Mapping[PackKind, str]
    prices: Mapping[PackKind, Price | None]
    part_size: int
    endpoint: str | None = None


class _Row(Protocol):
    @property
    def vault(self) -> VaultName: ...
    @property
    def job(self) -> JobName | None: ...


class Rows(Struct, frozen=True):
    """The inventory's rows for statistics: all of them, or those of one vault or job."""

    stored: Sequence[Stored] = ()
    snapshots: Sequence[Contents] = ()
    versions: Sequence[Contents] = ()
    nights: Sequence[Night] = ()
    uploads: Sequence[Uploads] = ()
    retrieved: Sequence[Retrieved] = ()
    shared: Sequence[Shared] = ()
    dead: Sequence[Stored] = ()

    def of(self, vault: VaultName, *jobs: JobName | None) -> Rows:
        """The rows of a vault; if jobs are named, only of these (None: of archives without a job)."""
        return self._where(lambda row: row.vault == vault and (not jobs or row.job in jobs))

    def only(self, vault: VaultName | None, job: JobName | None) -> Rows:
        """The rows of one vault and one job; None: of all."""
        return self._where(lambda row: vault in {None, row.vault} and job in {None, row.job})

    def _where(self, fits: Callable[[_Row], bool]) -> Rows:
        return Rows(
            [row for row in self.stored if fits(row)],
            [contents for contents in self.snapshots if fits(contents)],
            [contents for contents in self.versions if fits(contents)],
            [night for night in self.nights if fits(night)],
            [row for row in self.uploads if fits(row)],
            [row for row in self.retrieved if fits(row)],
            [shared for shared in self.shared if fits(shared)],
            [row for row in self.dead if fits(row)],
        )

    @property
    def parts(self) -> list[tuple[VaultName, JobName | None]]:
        """Every pair of vault and job that has rows, in order."""
        rows: list[_Row] = [*self.stored, *self.snapshots, *self.nights]
        return sorted({(row.vault, row.job) for row in rows}, key=lambda pair: (pair[0], pair[1] or ""))


class ClassCost(Struct, frozen=True):
    """The monthly cost of archives in one storage class; None if no price is known.

    `overhead` are the bytes that are billed on top, `in_a_year` is the month's cost at the present pace.
    """

    name: str
    held: Amount
    overhead: int
    month: Decimal | None
    in_a_year: Decimal | None
    unverified: tuple[Figure, ...] = ()


class Requests(Struct, frozen=True):
    """Requests of the last 30 days: to upload `archives`, and to retrieve `bytes`; None without a price."""

    archives: int
    uploads: int
    upload_cost: Decimal | None
    retrievals: int
    bytes: int
    retrieval_cost: Decimal | None

    @property
    def total(self) -> Decimal | None:
        """Both together."""
        known = self.upload_cost, self.retrieval_cost
        return None if None in known else sum(filter(None, known), _NOTHING)


class Summary(Struct, frozen=True):
    """Everything about a vault, or about a job in it; `dead` are archives that no kept snapshot needs."""

    held: Amounts
    condemned: Amount
    dead: Amount
    dead_minimum: Minimum
    snapshots: int
    forgotten: int
    newest_files: int
    newest_bytes: int
    snapshot_bytes: int
    versions: int
    version_bytes: int
    chunk_bytes: int
    sealed_bytes: int
    classes: Sequence[ClassCost]
    pace: Amounts | None
    requests: Requests
    minimum: Minimum
    ages: Sequence[Age]

    @property
    def all(self) -> Amount:
        """The number of all archives."""
        return sum(self.held.values(), Amount())

    @property
    def deduplication(self) -> float | None:
        """Bytes of all versions of files for each byte of chunks that was stored."""
        return self.version_bytes / self.chunk_bytes if self.version_bytes and self.chunk_bytes else None

    @property
    def compression(self) -> float | None:
        """Bytes of chunks for each byte that they take, compressed and encrypted."""
        return self.chunk_bytes / self.sealed_bytes if self.sealed_bytes else None

    @property
    def month(self) -> Decimal | None:
        """The cost of storage for one month, now."""
        return _sum(cost.month for cost in self.classes)

    @property
    def month_in_a_year(self) -> Decimal | None:
        """The cost of storage for one month, a year from now at this pace; None without a pace."""
        return None if self.pace is None else _sum(cost.in_a_year for cost in self.classes)


def summed(rows: Rows, terms: Terms, today: date) -> Summary:
    """The summary of these rows, which must be of the vault whose terms these are; `today` is UTC's."""
    data = [row for row in rows.stored if row.kind is PackKind.DATA]
    condemned = (Amount(row.archives, row.bytes, row.short) for row in rows.stored if row.is_condemned)
    held = {kind: _amount(row for row in rows.stored if row.kind is kind) for kind in PackKind}
    pace = pace_of(rows.nights, today)
    return Summary(
        held=held,
        condemned=sum(condemned, Amount()),
        dead=_amount(rows.dead),
        dead_minimum=minimum_of(rows.dead, terms.prices, today),
        snapshots=sum(contents.count for contents in rows.snapshots),
        forgotten=sum(contents.forgotten for contents in rows.snapshots),
        newest_files=sum(contents.newest_files for contents in rows.snapshots),
        newest_bytes=sum(contents.newest_bytes for contents in rows.snapshots),
        snapshot_bytes=sum(contents.bytes for contents in rows.snapshots),
        versions=sum(contents.count for contents in rows.versions),
        version_bytes=sum(contents.bytes for contents in rows.versions),
        chunk_bytes=sum(row.raw for row in data),
        sealed_bytes=sum(row.sealed for row in data),
        classes=_classes(held, pace, terms),
        pace=pace,
        requests=_requests(rows, terms),
        minimum=minimum_of(rows.stored, terms.prices, today),
        ages=ages_of(rows.stored, terms.prices, today),
    )


def _amount(rows: Iterable[Stored]) -> Amount:
    return sum((Amount(row.archives, row.bytes, row.short) for row in rows), Amount())


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum; None if one is not known."""
    total = _NOTHING
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _classes(held: Amounts, pace: Amounts | None, terms: Terms) -> list[ClassCost]:
    """The cost of each class that has archives; data and catalogs may be in one class."""
    found: list[ClassCost] = []
    for name in dict.fromkeys(terms.classes[kind] for kind in PackKind):
        kinds = [kind for kind in PackKind if terms.classes[kind] == name]
        now = sum((held[kind] for kind in kinds), Amount())
        more = sum(((pace or {}).get(kind, Amount()) for kind in kinds), Amount())
        if (now + more).archives:
            later = None if pace is None else now + more
            found.append(_class(name, now, later, terms.prices[kinds[0]], is_free=terms.is_free))
    return found


def _class(name: str, now: Amount, later: Amount | None, price: Price | None, *, is_free: bool) -> ClassCost:
    if price is None:
        cost = _NOTHING if is_free else None
        return ClassCost(name, now, 0, cost, cost if later else None)
    month = price.storing(now.bytes, now.archives, MONTH, short=now.short)
    year = price.storing(later.bytes, later.archives, MONTH, short=later.short) if later else None
    used = {"storage", "upload", "complete"}
    unverified = tuple(figure for figure in price.figures if figure.as_in and figure.name in used)
    return ClassCost(name, now, price.on_top(now.archives, now.short), month, year, unverified)


def _requests(rows: Rows, terms: Terms) -> Requests:
    """The requests that these uploads and retrievals were; a free vault has none that cost."""
    retrieval_costs = (_retrieval_cost(terms, row) for row in rows.retrieved)
    return Requests(
        archives=sum(row.archives for row in rows.uploads),
        uploads=sum(row.archives * (1 + _begin_and_parts(row, terms)) for row in rows.uploads),
        upload_cost=_sum(_upload_cost(terms, row) for row in rows.uploads),
        retrievals=sum(row.requests for row in rows.retrieved),
        bytes=sum(row.bytes for row in rows.retrieved),
        retrieval_cost=_sum(retrieval_costs),
    )


def _begin_and_parts(row: Uploads, terms: Terms) -> int:
    """The requests that an upload begins with, and that send its parts; one more completes it."""
    size = row.mib * MIB
    return 1 + -(-size // part_size_for(size, terms.part_size))


def _upload_cost(terms: Terms, row: Uploads) -> Decimal | None:
    price = terms.prices[row.kind]
    if price is None:
        return _NOTHING if terms.is_free else None
    return price.uploading(row.archives, row.archives * _begin_and_parts(row, terms))


def _retrieval_cost(terms: Terms, row: Retrieved) -> Decimal | None:
    """The cost of the requests and of the bytes that they made readable, without fetching them."""
    price = terms.prices[row.kind]
    if price is None:
        return _NOTHING if terms.is_free else None
    load = Load(0, row.requests, 0, row.bytes, 0, 0)
    bill = price.retrieving(load, row.tier)
    return None if bill is None else bill.retrieval + bill.requests


class Month(Struct, frozen=True):
    """Archives that a job stored in one month (UTC) and that still exist; `month` is like 2026-11."""

    month: str
    vault: VaultName
    job: JobName | None
    held: Amounts


def months_of(rows: Sequence[Stored]) -> list[Month]:
    """The months in which something was stored, oldest first, by vault and job."""
    found: dict[tuple[str, VaultName, JobName | None], dict[PackKind, Amount]] = {}
    for row in rows:
        held = found.setdefault((f"{row.day:%Y-%m}", row.vault, row.job), dict.fromkeys(PackKind, Amount()))
        held[row.kind] += Amount(row.archives, row.bytes, row.short)
    ordered = sorted(found.items(), key=lambda pair: (pair[0][0], pair[0][1], pair[0][2] or ""))
    return [Month(*key, held) for key, held in ordered]
