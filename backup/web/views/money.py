"""Archives and money: what is held, dead and billed, by vault, job and month; and what was checked.

What is dead and how many versions there are takes a look at every entry: seconds for a million. That is made
once after each run, by one request at a time, and kept until another run begins or ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from threading import Lock
from typing import Any

from msgspec import Struct

from backup.app.money.stats import Statistics, dead_archives, statistics_in
from backup.app.status.verified import proofs_of_jobs
from backup.config import Config
from backup.inventory.content.archives import count_unread
from backup.inventory.pages import run_pages
from backup.inventory.questions import stats as queries
from backup.inventory.questions.proofs import Proof, proofs
from backup.inventory.questions.stats import Contents, Stored
from backup.inventory.questions.status import held, last_good, oldest_unverified
from backup.inventory.records.drills import Drill, list_drills
from backup.inventory.records.readings import Grade
from backup.inventory.records.runs import Outcome, RunKind
from backup.inventory.store.connections import Transaction
from backup.model import JobName, PackKind, VaultName
from backup.retention.ages import free_from, minimum_of
from backup.retention.stats import MONTH, Summary, Terms, months_of
from backup.web.views.overview import total
from backup.web.views.run_pages import run_line
from backup.web.views.values.archives import (
    CheckLine,
    ClassLine,
    DrillLine,
    FreeOn,
    JobMoney,
    MoneyPage,
    MonthLine,
    ProvenLine,
    VaultMoney,
)

_MOST_DRILLS = 10
_MILLION = 1_000_000


def proven_lines(tx: Transaction, now: datetime) -> list[ProvenLine]:
    """Each job with the share that was ever proven in either grade, and when last."""
    return [
        ProvenLine(
            job=job,
            bytes=proof.bytes,
            last_read_back=proof.last_read_back,
            read_back=proof.share(Grade.READ_BACK),
            last_opened=proof.last_opened,
            opened=proof.share(Grade.OPENED),
        )
        for job, proof in sorted(proofs_of_jobs(tx, now).items())
    ]


def drill_lines(tx: Transaction) -> list[DrillLine]:
    """The newest drills, newest first."""
    return [_line(one) for one in list_drills(tx, limit=_MOST_DRILLS)]


def _line(one: Drill) -> DrillLine:
    report = one.run.report
    read, opened = _counts(report.get("read")), _counts(report.get("opened"))
    return DrillLine(
        run=one.run.number,
        name=one.name,
        is_opened=one.grade is Grade.OPENED,
        vault=one.vault,
        outcome=one.run.outcome,
        started_at=one.run.started_at,
        files=opened.get("files", 0),
        archives=read.get("archives", 0),
        bytes=opened.get("bytes", 0) or read.get("bytes", 0),
        cost=Decimal(one.cost) / _MILLION,
        error=report.get("error"),
    )


def _counts(told: Any) -> Mapping[str, int]:
    """Counts of a report, which may lack them."""
    return told if isinstance(told, dict) else {}


_MOST_MONTHS = 120
_CHECKS = 5


class _Slow(Struct, frozen=True):
    """What takes a look at every entry."""

    dead: list[Stored]
    versions: list[Contents]


class _CachedSums:
    """The slow sums of the newest state of an inventory; others wait while they are made."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._key: tuple[object, ...] = ()
        self._found: _Slow | None = None

    def of(self, tx: Transaction, url: str) -> _Slow:
        """The sums as of the newest run."""
        key = (url, *run_pages.newest(tx), *run_pages.counts_of_marks(tx))
        with self._lock:
            if self._found is None or self._key != key:
                self._found = _Slow(dead_archives(tx), queries.versions(tx))
                self._key = key
            return self._found


_KEPT = _CachedSums()


def money(tx: Transaction, config: Config, now: datetime) -> MoneyPage:
    """What everything costs and why, and what was proven of it."""
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
        month=total([one.month for one in vaults]),
        month_in_a_year=total([one.month_in_a_year for one in vaults]),
        vaults=vaults,
        jobs=[_job(vault, job, found.of_job(vault, job)) for vault, job in found.rows.parts],
        months=_months(found),
        checks=_checks(tx, now, names),
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
            ClassLine(one.name, one.held.archives, one.held.bytes, one.overhead, one.month, one.in_a_year)
            for one in sums.classes
        ],
        free_on=_free_on([one for one in found.rows.dead if one.vault == name], terms, found.today),
    )


def _free_on(dead: Sequence[Stored], terms: Terms, today: date) -> list[FreeOn]:
    """Dead archives by the month from which they are free to delete; an empty month: they are free now."""
    by_month: dict[str, list[Stored]] = {}
    for one in dead:
        price = terms.prices[one.kind]
        free = free_from(one.day, price.minimum_days if price else 0)
        by_month.setdefault("" if free <= today else f"{free:%Y-%m}", []).append(one)
    return [
        FreeOn(
            month=month,
            archives=sum(one.archives for one in some),
            bytes=sum(one.bytes for one in some),
            cost=None if _is_unpriced(some, terms) else minimum_of(some, terms.prices, today).early,
        )
        for month, some in sorted(by_month.items())
    ]


def _is_unpriced(rows: Sequence[Stored], terms: Terms) -> bool:
    return not terms.is_free and any(terms.prices[one.kind] is None for one in rows)


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
    """What was stored in each month and is there still, oldest first; the newest of very many."""
    lines = []
    for one in months_of(found.rows.stored):
        terms = found.terms[one.vault]
        costs: list[Decimal | None] = []
        for kind in PackKind:
            price, amount = terms.prices[kind], one.held[kind]
            known = Decimal(0) if terms.is_free or not amount.archives else None
            costs.append(known if price is None else price.storing(amount.bytes, amount.archives, MONTH))
        amounts = list(one.held.values())
        lines.append(
            MonthLine(
                month=one.month,
                vault=one.vault,
                job=one.job,
                archives=sum(amount.archives for amount in amounts),
                bytes=sum(amount.bytes for amount in amounts),
                cost=total(costs),
            )
        )
    return lines[-_MOST_MONTHS:]


def _checks(tx: Transaction, now: datetime, names: Sequence[VaultName]) -> list[CheckLine]:
    good, unread, oldest = last_good(tx, now), count_unread(tx), oldest_unverified(tx)
    proven, there = proofs(tx, now), held(tx)
    lines: dict[str | None, list[run_pages.RunRow]] = {}
    for row in run_pages.proving_runs(tx, limit=_CHECKS * 20):
        lines.setdefault(row.vault if isinstance(row.vault, str) else None, []).append(row)
    found = []
    for name in names:
        proof = sum((one for (vault, _), one in proven.items() if vault == name), Proof())
        found.append(
            CheckLine(
                vault=name,
                checked_at=good.of(RunKind.CHECK, name, (Outcome.DONE,)),
                last_read_back=proof.last_read_back,
                unverified_since=oldest.get(name),
                unverified_archives=unread.get(name, 0),
                archives=sum(one.archives for one in there if one.vault == name),
                runs=[run_line(row) for row in lines.get(name, [])[:_CHECKS]],
                last_drill=proof.last_opened,
            )
        )
    return found
