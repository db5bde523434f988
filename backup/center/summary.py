"""The summary of a host for tables of all: made of each report when it comes; pure.

Nothing that a host says is trusted to be of the right kind, or of a size that a database takes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from msgspec import Struct

SHOWN = 200
_MOST = 1000
_MOST_BYTES = 1 << 62
_MOST_MONEY = 10**9
_YEARS = range(2000, 2200)


class Standing(StrEnum):
    """The standing of a host, the worst first."""

    SILENT = "silent"  # a job's time went by, and nothing was told since
    CONTRADICTED = "contradicted"  # its vault lacks what it says was stored
    SET_BACK = "set back"  # it knows less of what it told than the center
    CRITICAL = "critical"
    WARNING = "warning"
    KNOWN = "known"  # one of these, and somebody has said why: `excuses.py`
    WELL = "well"


class HostSummary(Struct, frozen=True):
    """A host in one row: the fields are columns of `hosts`.

    `due_from`: when the first of its jobs is overdue by its own schedule, unless it tells something before
    that. `good_since`: the oldest of the last good runs of its jobs, None if one was never good.
    """

    told_standing: Standing
    told_why: str
    jobs: int
    schedule: str
    good_since: datetime | None
    due_from: datetime | None
    due_job: str | None
    bytes: int
    month: Decimal
    currency: str


def summary_of(told: dict[str, Any], now: datetime) -> HostSummary:
    """Sum up what a host has told altogether, at the moment at which it told it."""
    standing, why = _standing(told)
    jobs = _mappings(told, "jobs")
    good = [_moment(job.get("last_good")) for job in jobs]
    dues = [(due, _text(job.get("job"))) for job in jobs if (due := _moment(job.get("overdue_from")))]
    due, job = min(((due, job) for due, job in dues if due > now), default=(None, None))
    vaults = _mappings(told, "vaults")
    schedules = dict.fromkeys(_text(job.get("schedule")) for job in jobs)
    return HostSummary(
        told_standing=standing,
        told_why=why,
        jobs=len(jobs),
        schedule=", ".join(filter(None, schedules))[:SHOWN],
        good_since=min(filter(None, good), default=None) if all(good) else None,
        due_from=due,
        due_job=job,
        bytes=min(sum(_size(vault.get("bytes")) for vault in vaults), _MOST_BYTES),
        month=min(sum((_money(vault.get("month")) for vault in vaults), Decimal(0)), Decimal(_MOST_MONEY)),
        currency=_text(told.get("currency"))[:3],
    )


def stored_claims(told: dict[str, Any]) -> list[tuple[datetime, str]]:
    """For each S3 vault the newest good run that a host says was stored there, and its job."""
    vaults = [vault for vault in _mappings(told, "vaults") if _text(vault.get("kind")).split(":")[0] == "s3"]
    buckets = {_text(vault.get("vault")) for vault in vaults}
    newest: dict[str, tuple[datetime, str]] = {}
    for job in _mappings(told, "jobs"):
        vault, good = _text(job.get("vault")), _moment(job.get("last_good"))
        if vault in buckets and good is not None:
            newest[vault] = max(newest.get(vault, (good, "")), (good, _text(job.get("job"))))
    return list(newest.values())


def _standing(told: dict[str, Any]) -> tuple[Standing, str]:
    """Return the standing that a host claims: well only if it says so, and names no concern."""
    concerns = _mappings(told, "concerns")
    worst = [concern for concern in concerns if concern.get("level") == "critical"]
    if told.get("well") is True and not concerns:
        return Standing.WELL, ""
    first = (worst or concerns or [{}])[0]
    text = _text(first.get("text")) or "it does not say that all is well"
    return (Standing.CRITICAL if worst else Standing.WARNING), text


def _mappings(told: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = told.get(key)
    return [item for item in found[:_MOST] if isinstance(item, dict)] if isinstance(found, list) else []


def _moment(told: object) -> datetime | None:
    """A time that a host has told; None for what is none, or of no year in which anybody backs up."""
    if not isinstance(told, str):
        return None
    try:
        moment = datetime.fromisoformat(told)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment.year in _YEARS else None


def _size(told: object) -> int:
    return min(max(told, 0), _MOST_BYTES) if isinstance(told, int) else 0


def _money(told: object) -> Decimal:
    if not isinstance(told, str) or len(told) > 40:
        return Decimal(0)
    try:
        found = Decimal(told)
    except InvalidOperation:
        return Decimal(0)
    return min(max(found, Decimal(0)), Decimal(_MOST_MONEY)) if found.is_finite() else Decimal(0)


def _text(value: object) -> str:
    return value[:SHOWN] if isinstance(value, str) else ""
