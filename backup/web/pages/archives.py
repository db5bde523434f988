"""The page of archives and costs: bytes stored and dead, cost by vault, job and month; and checks.

Sums of dead bytes and versions read every entry: seconds for a million. They are computed once after each
run, by one request at a time, and cached until another run begins or ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from threading import Lock

from markupsafe import Markup
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.app.money.stats import Statistics, dead_archives, statistics_in
from backup.config import Config
from backup.inventory.pages import run_pages
from backup.inventory.questions import stats as queries
from backup.inventory.questions.stats import Contents, Stored
from backup.inventory.store.connections import Transaction
from backup.model import JobName, PackKind, VaultName
from backup.retention.ages import free_from, minimum_of
from backup.retention.stats import MONTH, Summary, Terms, months_of
from backup.web.charts.bars import Bar, bars
from backup.web.charts.lines import COLOURS, rounded_up
from backup.web.context import context_of
from backup.web.pages.html import framed, texts
from backup.web.pages.overview import total
from backup.web.pages.tested import CheckLine, DrillLine, ProvenLine, check_lines, drill_lines, proven_lines
from backup.web.texts import Texts
from backup.wording import size

_MOST_MONTHS = 120
_MONTHS = 12


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


class _Slow(Struct, frozen=True):
    """The figures that take a look at every entry."""

    dead: list[Stored]
    versions: list[Contents]


class _CachedSums:
    """The slow sums of the newest state of an inventory; others wait while they are made."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._key: tuple[object, ...] = ()
        self._found: _Slow | None = None

    def of(self, tx: Transaction, url: str) -> _Slow:
        """Return the sums as of the newest run."""
        key = (url, *run_pages.newest(tx), *run_pages.counts_of_marks(tx))
        with self._lock:
            if self._found is None or self._key != key:
                self._found = _Slow(dead_archives(tx), queries.versions(tx))
                self._key = key
            return self._found


_KEPT = _CachedSums()


def money(tx: Transaction, config: Config, now: datetime) -> MoneyPage:
    """Return the costs with their parts, and how much was read back and opened."""
    slow = _KEPT.of(tx, config.inventory_url)
    found = statistics_in(tx, config, now, dead=lambda _: slow.dead, versions=lambda _: slow.versions)
    table = found.table
    names = sorted({vault for vault, _ in found.rows.parts})
    vaults = [_vault(found, name) for name in names]
    return MoneyPage(
        now=now,
        today=found.today,
        currency=found.currency,
        prices_of=None if table is None else table.date,
        prices_from=found.unknown or "" if table is None else table.origin,
        month=total([vault.month for vault in vaults]),
        month_in_a_year=total([vault.month_in_a_year for vault in vaults]),
        vaults=vaults,
        jobs=[_job(vault, job, found.of_job(vault, job)) for vault, job in found.rows.parts],
        months=_months(found),
        checks=check_lines(tx, now, names),
        proven=proven_lines(tx, now),
        drills=drill_lines(tx),
    )


def _vault(found: Statistics, name: VaultName) -> VaultMoney:
    sums, terms = found.of_vault(name), found.terms[name]
    return VaultMoney(
        name=name,
        kind=terms.kind,
        region=terms.region,
        is_free=terms.is_free,
        archives=sums.all.archives,
        bytes=sums.all.bytes,
        month=sums.month,
        month_in_a_year=sums.month_in_a_year,
        uploads_cost=sums.requests.upload_cost,
        retrievals_cost=sums.requests.retrieval_cost,
        dead_archives=sums.dead.archives,
        dead_bytes=sums.dead.bytes,
        condemned_archives=sums.condemned.archives,
        condemned_bytes=sums.condemned.bytes,
        classes=[
            ClassLine(
                cost.name, cost.held.archives, cost.held.bytes, cost.overhead, cost.month, cost.in_a_year
            )
            for cost in sums.classes
        ],
        free_on=_free_on([row for row in found.rows.dead if row.vault == name], terms, found.today),
    )


def _free_on(dead: Sequence[Stored], terms: Terms, today: date) -> list[FreeOn]:
    """Dead archives by the month from which they are free to delete; an empty month: they are free now."""
    by_month: dict[str, list[Stored]] = {}
    for row in dead:
        price = terms.prices[row.kind]
        free = free_from(row.day, price.minimum_days if price else 0)
        by_month.setdefault("" if free <= today else f"{free:%Y-%m}", []).append(row)
    return [
        FreeOn(
            month=month,
            archives=sum(row.archives for row in of_month),
            bytes=sum(row.bytes for row in of_month),
            cost=None if _is_unpriced(of_month, terms) else minimum_of(of_month, terms.prices, today).early,
        )
        for month, of_month in sorted(by_month.items())
    ]


def _is_unpriced(rows: Sequence[Stored], terms: Terms) -> bool:
    return not terms.is_free and any(terms.prices[row.kind] is None for row in rows)


def _job(vault: VaultName, job: JobName | None, sums: Summary) -> JobMoney:
    return JobMoney(
        vault=vault,
        job=job,
        archives=sums.all.archives,
        bytes=sums.all.bytes,
        month=sums.month,
        month_in_a_year=sums.month_in_a_year,
        snapshots=sums.snapshots,
        versions_bytes=sums.version_bytes,
        deduplication=sums.deduplication,
        compression=sums.compression,
    )


def _months(found: Statistics) -> list[MonthLine]:
    """The bytes stored in each month that are there still, oldest first; the newest of very many."""
    lines = []
    for month in months_of(found.rows.stored):
        terms = found.terms[month.vault]
        costs: list[Decimal | None] = []
        for kind in PackKind:
            price, amount = terms.prices[kind], month.held[kind]
            known = Decimal(0) if terms.is_free or not amount.archives else None
            costs.append(known if price is None else price.storing(amount.bytes, amount.archives, MONTH))
        amounts = list(month.held.values())
        lines.append(
            MonthLine(
                month=month.month,
                vault=month.vault,
                job=month.job,
                archives=sum(amount.archives for amount in amounts),
                bytes=sum(amount.bytes for amount in amounts),
                cost=total(costs),
            )
        )
    return lines[-_MOST_MONTHS:]


class Months(Struct, frozen=True):
    """The chart of bytes stored in each month."""

    drawn: Markup
    top: int
    names: Sequence[str]
    labels: Sequence[str]


def months(it: MoneyPage, said: Texts) -> Months | None:
    """Return the chart of the last twelve months by job; jobs beyond the number of colours are one part."""
    if not it.months:
        return None
    labels = _until(max(month.month for month in it.months))
    by_job: dict[str, dict[str, int]] = {}
    for line in it.months:
        sums = by_job.setdefault(str(line.job or said.say("no job")), {})
        sums[line.month] = sums.get(line.month, 0) + line.bytes
    names = sorted(by_job, key=lambda name: -sum(by_job[name].values()))
    shown = names if len(names) <= COLOURS else names[: COLOURS - 1]
    row = []
    for month in labels:
        parts = [by_job[name].get(month, 0) for name in shown]
        if len(shown) < len(names):
            parts.append(sum(by_job[name].get(month, 0) for name in names[len(shown) :]))
        told = ", ".join(f"{name} {size(part)}" for name, part in zip(shown, parts, strict=False) if part)
        row.append(Bar(tuple(float(part) for part in parts), f"{month}: {told}"))
    top = rounded_up(max(sum(bar.parts) for bar in row))
    keys = shown if len(shown) == len(names) else [*shown, said.say("other jobs")]
    label = said.say("Bytes stored in each month; the table below has the figures")
    return Months(bars(row, top, label), int(top), keys, [month[2:] for month in labels])


def _until(newest: str) -> list[str]:
    """The twelve months that end with one such as 2026-11: also those in which nothing was stored."""
    year, month = map(int, newest.split("-"))
    last = 12 * year + month - 1
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(last - _MONTHS + 1, last + 1)]


async def show(request: Request) -> Response:
    """Show the page of archives and costs."""
    context = context_of(request)
    found = await context.reading.view(money, context.config, context.clock.now())
    return await framed(request, "archives.html", here="archives", it=found, months=months(found, texts()))


ARCHIVES = (Route("/archives", show, name="archives"),)
