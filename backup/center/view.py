"""What a center shows of its hosts: how each stands, the worst first; each is believed only of itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, RowMapping, select, update

from backup.center.database import seeing
from backup.center.tables import hosts
from backup.errors import UsageError

_SHOWN = 200
_MOST_CONCERNS = 50


class Standing(StrEnum):
    """How a host stands; the first is looked at first."""

    SILENT = "silent"  # a job's time went by, and nothing was told since
    SET_BACK = "set back"  # it knows less of what it told than the center
    CRITICAL = "critical"
    WARNING = "warning"
    WELL = "well"
    REMOVED = "removed"


class HostView(Struct, frozen=True):
    """A host as it is shown; times are the center's, but for `told_at`, which is the host's own."""

    name: str
    host_id: str
    subject: str
    standing: Standing
    why: str
    program: str
    first_at: datetime
    last_at: datetime
    told_at: datetime | None
    certificate_ends: datetime
    reports: int
    set_back_at: datetime | None
    removed_at: datetime | None


def all_hosts(engine: Engine, now: datetime) -> Sequence[HostView]:
    """All hosts, the worst first, then by name."""
    with seeing(engine, None) as connection:
        rows = connection.execute(select(hosts)).mappings().all()
    order = list(Standing)
    return sorted((_view(row, now) for row in rows), key=lambda host: (order.index(host.standing), host.name))


def host_named(engine: Engine, name: str, now: datetime) -> tuple[HostView, dict[str, Any]]:
    """A host by its name or id, and what it has told. `UsageError` if none or several have it."""
    with seeing(engine, None) as connection:
        wanted = select(hosts).where((hosts.c.name == name) | (hosts.c.host_id == name))
        rows = connection.execute(wanted.limit(2)).mappings().all()
    if len(rows) != 1:
        raise UsageError(
            f"{name!r}: {'several hosts have' if rows else 'no host has'} that name",
            advice="`nightvault center list --json` names all, with their ids",
        )
    return _view(rows[0], now), _document(rows[0])


def set_removed(engine: Engine, host_id: str, at: datetime | None) -> None:
    """Take a host off the center: what it told is gone, and it is not listened to; None takes that back."""
    what: dict[str, Any] = {"removed_at": at}
    if at is not None:
        what |= {"document": "{}", "set_back_at": None, "set_back_why": None}
    with seeing(engine, host_id) as connection:
        connection.execute(update(hosts).where(hosts.c.host_id == host_id).values(**what))


def set_seen(engine: Engine, host_id: str) -> None:
    """Note that a person has seen that a host was set back."""
    with seeing(engine, host_id) as connection:
        gone = {"set_back_at": None, "set_back_why": None}
        connection.execute(update(hosts).where(hosts.c.host_id == host_id).values(**gone))


def _view(row: RowMapping, now: datetime) -> HostView:
    standing, why = _standing(row, _document(row), now)
    shared = {name: row[name] for name in HostView.__struct_fields__ if name in row}
    return HostView(**shared, standing=standing, why=why, reports=row["number"])


def _document(row: RowMapping) -> dict[str, Any]:
    found = msgspec.json.decode(row["document"])
    return found if isinstance(found, dict) else {}


def _standing(row: RowMapping, told: dict[str, Any], now: datetime) -> tuple[Standing, str]:
    if row["removed_at"] is not None:
        return Standing.REMOVED, ""
    late = [job for job in _mappings(told, "jobs") if _is_past(job.get("overdue_from"), row["last_at"], now)]
    if late:
        return Standing.SILENT, f"job {_text(late[0].get('job'))} was due, and nothing was told since"
    if row["set_back_at"] is not None:
        return Standing.SET_BACK, row["set_back_why"] or ""
    concerns = _mappings(told, "concerns")
    worst = [concern for concern in concerns if concern.get("level") == "critical"]
    if told.get("well") is True and not concerns:
        return Standing.WELL, ""
    first = (worst or concerns or [{}])[0]
    text = _text(first.get("text")) or "it does not say that all is well"
    return (Standing.CRITICAL if worst else Standing.WARNING), text


def _mappings(told: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = told.get(key)
    return (
        [item for item in found[:_MOST_CONCERNS] if isinstance(item, dict)] if isinstance(found, list) else []
    )


def _is_past(told: object, last_at: datetime, now: datetime) -> bool:
    """Whether a time that a host has told went by since its last report."""
    if not isinstance(told, str):
        return False
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        return False
    return last_at < (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) < now


def _text(value: object) -> str:
    return value[:_SHOWN] if isinstance(value, str) else ""
