"""The view of archives and costs: bytes stored and dead, cost by vault, job and month; and checks.

Sums of dead bytes and versions read every entry: seconds for a million. They are computed once after each
run, by one request at a time, and cached until another run begins or ends.
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
    """Return each job with the shares that were ever read back and opened, and when last."""
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
    """Return the newest drills, newest first."""
    return [_line(drill) for drill in list_drills(tx, limit=_MOST_DRILLS)]


def _line(drill: Drill) -> DrillLine:
    report = drill.run.report
    read, opened = _counts(report.get("read")), _counts(report.get("opened"))
    return DrillLine(
        run=drill.run.number,
        name=drill.name,
        is_opened=drill.grade is Grade.OPENED,
        vault=drill.vault,
        outcome=drill.run.outcome,
        started_at=drill.run.started_at,
        files=opened.get("files", 0),
        archives=read.get("archives", 0),
        bytes=opened.get("bytes", 0) or read.get("bytes", 0),
        cost=Decimal(drill.cost) / _MILLION,
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
    """What was stored in each month and is there still, oldest first; the newest of very many."""
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


def _checks(tx: Transaction, now: datetime, names: Sequence[VaultName]) -> list[CheckLine]:
    good, unread, oldest = last_good(tx, now), count_unread(tx), oldest_unverified(tx)
    proven, there = proofs(tx, now), held(tx)
    lines: dict[str | None, list[run_pages.RunRow]] = {}
    for row in run_pages.proving_runs(tx, limit=_CHECKS * 20):
        lines.setdefault(row.vault if isinstance(row.vault, str) else None, []).append(row)
    found = []
    for name in names:
        proof = sum((vault_proof for (vault, _), vault_proof in proven.items() if vault == name), Proof())
        found.append(
            CheckLine(
                vault=name,
                checked_at=good.of(RunKind.CHECK, name, (Outcome.DONE,)),
                last_read_back=proof.last_read_back,
                unverified_since=oldest.get(name),
                unverified_archives=unread.get(name, 0),
                archives=sum(class_held.archives for class_held in there if class_held.vault == name),
                runs=[run_line(row) for row in lines.get(name, [])[:_CHECKS]],
                last_drill=proof.last_opened,
            )
        )
    return found
