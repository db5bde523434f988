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
    """Everything, whatever the screen shows of it."""
    return {
        "as_of": found.now,
        "prices": prices_document(found.table),
        "currency": found.currency or None,
        "vaults": [_vault(found, name) for name in found.terms],
        "jobs": [_job(found, vault, job) for vault, job in found.rows.parts],
        "months": [_month(one) for one in months_of(found.rows.stored)],
        "nights": [_night(one) for one in last_nights(found.rows.nights, NIGHTS_SHOWN)],
    }


def last_nights(nights: Sequence[Night], count: int) -> list[Night]:
    """The last nights of each job, oldest first."""
    newest: dict[tuple[VaultName, JobName], int] = {}
    kept: list[Night] = []
    for one in reversed(nights):
        key = one.vault, one.job
        newest[key] = newest.get(key, 0) + 1
        if newest[key] <= count:
            kept.append(one)
    return sorted(kept, key=lambda one: (one.day, one.vault, one.job))


def _vault(found: Statistics, vault: VaultName) -> dict[str, Any]:
    terms = found.terms[vault]
    jobs = [job for name, job in found.rows.parts if name == vault and job is not None]
    named = {"vault": vault, "kind": terms.kind, "region": terms.region, "jobs": jobs}
    return {**named, **_summary(found.of_vault(vault))}


def _job(found: Statistics, vault: VaultName, job: JobName | None) -> dict[str, Any]:
    shared = [
        {"job": one.other, "archives": one.archives, "bytes": one.bytes}
        for one in found.rows.of(vault, job).shared
    ]
    return {"vault": vault, "job": job, **_summary(found.of_job(vault, job)), "shared": shared}


def _summary(one: Summary) -> dict[str, Any]:
    return {
        **_amount(one.all),
        **_amounts(one.held),
        "condemned": _amount(one.condemned),
        "dead": {**_amount(one.dead), "minimum": _minimum(one.dead_minimum)},
        "snapshots": one.snapshots,
        "forgotten": one.forgotten,
        "newest_files": one.newest_files,
        "newest_bytes": one.newest_bytes,
        "snapshot_bytes": one.snapshot_bytes,
        "versions": one.versions,
        "version_bytes": one.version_bytes,
        "chunk_bytes": one.chunk_bytes,
        "sealed_bytes": one.sealed_bytes,
        "deduplication": _ratio(one.deduplication),
        "compression": _ratio(one.compression),
        "month": _money(one.month),
        "month_in_a_year": _money(one.month_in_a_year),
        "classes": [_class(each) for each in one.classes],
        "pace": _pace(one.pace),
        "requests": _requests(one.requests),
        "minimum": _minimum(one.minimum),
        "ages": [
            {"from": age.least, "to": age.most, **_amount(age.held), "minimum": _minimum(age.minimum)}
            for age in one.ages
        ],
    }


def _class(one: ClassCost) -> dict[str, Any]:
    return {
        "class": one.name,
        **_amount(one.held),
        "overhead": one.overhead,
        "month": _money(one.month),
        "month_in_a_year": _money(one.in_a_year),
        "unverified": [{"figure": figure.name, "as_in": figure.as_in} for figure in one.unverified],
    }


def _requests(one: Requests) -> dict[str, Any]:
    return {
        "days": MONTH,
        "archives": one.archives,
        "uploads": one.uploads,
        "upload_cost": _money(one.upload_cost),
        "retrievals": one.retrievals,
        "retrieved": one.bytes,
        "retrieval_cost": _money(one.retrieval_cost),
        "total": _money(one.total),
    }


def _minimum(one: Minimum) -> dict[str, Any]:
    first, last = (day.isoformat() if day else None for day in (one.first, one.last))
    return {**_amount(one.running), "first": first, "last": last, "early": _money(one.early)}


def _month(one: Month) -> dict[str, Any]:
    total = sum(one.held.values(), Amount())
    return {
        "month": one.month,
        "vault": one.vault,
        "job": one.job,
        **_amount(total),
        **_amounts(one.held),
    }


def _night(one: Night) -> dict[str, Any]:
    return {
        "night": one.day.isoformat(),
        "vault": one.vault,
        "job": one.job,
        "backups": one.backups,
        "bytes_uploaded": one.bytes_uploaded,
        "files_read": one.files_read,
        "unusual": list(_unusual(one)),
    }


def _unusual(one: Night) -> Iterator[dict[str, Any]]:
    for what, found in (("bytes_uploaded", one.unusual_bytes), ("files_read", one.unusual_files)):
        if found is not None:
            yield {"what": what, "direction": str(found.direction), "usual": round(found.usual)}


def _pace(pace: Amounts | None) -> dict[str, int] | None:
    return None if pace is None else _amount(sum(pace.values(), Amount()))


def _amounts(held: Amounts) -> dict[str, Any]:
    return {"data": _amount(held[PackKind.DATA]), "catalogs": _amount(held[PackKind.CATALOG])}


def _amount(one: Amount) -> dict[str, int]:
    return {"archives": one.archives, "bytes": one.bytes}


def _ratio(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.6f}"
