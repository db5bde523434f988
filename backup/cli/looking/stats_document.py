"""Statistics as JSON: sizes are bytes, money is text, days are dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from backup.cli.support.quoting import prices_document
from backup.model import JobName, PackKind, VaultName
from backup.retention.nights import Amount, Night
from backup.retention.stats import MONTH, months_of

if TYPE_CHECKING:
    from backup.app.money.stats import Statistics
    from backup.retention.ages import Minimum
    from backup.retention.nights import Amounts
    from backup.retention.stats import ClassCost, Month, Requests, Summary

NIGHTS_SHOWN = 30


def stats_document(found: Statistics) -> dict[str, Any]:
    """Return all statistics as a JSON document, whatever part of them the screen shows."""
    return {
        "as_of": found.now,
        "prices": prices_document(found.table),
        "currency": found.currency or None,
        "vaults": [_vault(found, name) for name in found.terms],
        "jobs": [_job(found, vault, job) for vault, job in found.rows.parts],
        "months": [_month(month) for month in months_of(found.rows.stored)],
        "nights": [_night(night) for night in last_nights(found.rows.nights, NIGHTS_SHOWN)],
    }


def last_nights(nights: Sequence[Night], count: int) -> list[Night]:
    """Return the newest nights of each job, oldest first."""
    newest: dict[tuple[VaultName, JobName], int] = {}
    kept: list[Night] = []
    for night in reversed(nights):
        key = night.vault, night.job
        newest[key] = newest.get(key, 0) + 1
        if newest[key] <= count:
            kept.append(night)
    return sorted(kept, key=lambda night: (night.day, night.vault, night.job))


def _vault(found: Statistics, vault: VaultName) -> dict[str, Any]:
    terms = found.terms[vault]
    jobs = [job for name, job in found.rows.parts if name == vault and job is not None]
    named = {"vault": vault, "kind": terms.kind, "region": terms.region, "jobs": jobs}
    return {**named, **_summary(found.of_vault(vault))}


def _job(found: Statistics, vault: VaultName, job: JobName | None) -> dict[str, Any]:
    shared = [
        {"job": overlap.other, "archives": overlap.archives, "bytes": overlap.bytes}
        for overlap in found.rows.of(vault, job).shared
    ]
    return {"vault": vault, "job": job, **_summary(found.of_job(vault, job)), "shared": shared}


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        **_amount(summary.all),
        **_amounts(summary.held),
        "condemned": _amount(summary.condemned),
        "dead": {**_amount(summary.dead), "minimum": _minimum(summary.dead_minimum)},
        "snapshots": summary.snapshots,
        "forgotten": summary.forgotten,
        "newest_files": summary.newest_files,
        "newest_bytes": summary.newest_bytes,
        "snapshot_bytes": summary.snapshot_bytes,
        "versions": summary.versions,
        "version_bytes": summary.version_bytes,
        "chunk_bytes": summary.chunk_bytes,
        "sealed_bytes": summary.sealed_bytes,
        "deduplication": _ratio(summary.deduplication),
        "compression": _ratio(summary.compression),
        "month": _money(summary.month),
        "month_in_a_year": _money(summary.month_in_a_year),
        "classes": [_class(cost) for cost in summary.classes],
        "pace": _pace(summary.pace),
        "requests": _requests(summary.requests),
        "minimum": _minimum(summary.minimum),
        "ages": [
            {"from": age.least, "to": age.most, **_amount(age.held), "minimum": _minimum(age.minimum)}
            for age in summary.ages
        ],
    }


def _class(cost: ClassCost) -> dict[str, Any]:
    return {
        "class": cost.name,
        **_amount(cost.held),
        "overhead": cost.overhead,
        "month": _money(cost.month),
        "month_in_a_year": _money(cost.in_a_year),
        "unverified": [{"figure": figure.name, "as_in": figure.as_in} for figure in cost.unverified],
    }


def _requests(requests: Requests) -> dict[str, Any]:
    return {
        "days": MONTH,
        "archives": requests.archives,
        "uploads": requests.uploads,
        "upload_cost": _money(requests.upload_cost),
        "retrievals": requests.retrievals,
        "retrieved": requests.bytes,
        "retrieval_cost": _money(requests.retrieval_cost),
        "total": _money(requests.total),
    }


def _minimum(minimum: Minimum) -> dict[str, Any]:
    first, last = (day.isoformat() if day else None for day in (minimum.first, minimum.last))
    return {**_amount(minimum.running), "first": first, "last": last, "early": _money(minimum.early)}


def _month(month: Month) -> dict[str, Any]:
    total = sum(month.held.values(), Amount())
    return {
        "month": month.month,
        "vault": month.vault,
        "job": month.job,
        **_amount(total),
        **_amounts(month.held),
    }


def _night(night: Night) -> dict[str, Any]:
    return {
        "night": night.day.isoformat(),
        "vault": night.vault,
        "job": night.job,
        "backups": night.backups,
        "bytes_uploaded": night.bytes_uploaded,
        "files_read": night.files_read,
        "unusual": list(_unusual(night)),
    }


def _unusual(night: Night) -> Iterator[dict[str, Any]]:
    for what, unusual in (("bytes_uploaded", night.unusual_bytes), ("files_read", night.unusual_files)):
        if unusual is not None:
            yield {"what": what, "direction": str(unusual.direction), "usual": round(unusual.usual)}


def _pace(pace: Amounts | None) -> dict[str, int] | None:
    return None if pace is None else _amount(sum(pace.values(), Amount()))


def _amounts(held: Amounts) -> dict[str, Any]:
    return {"data": _amount(held[PackKind.DATA]), "catalogs": _amount(held[PackKind.CATALOG])}


def _amount(amount: Amount) -> dict[str, int]:
    return {"archives": amount.archives, "bytes": amount.bytes}


def _ratio(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.6f}"
