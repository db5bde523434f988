"""What a center shows of its hosts: how each stands, the worst first; each is believed only of itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Case, ColumnElement, Engine, case, delete, func, literal, select, update

from backup.center.database import seeing
from backup.center.summary import Standing
from backup.center.tables import days, hosts, invites
from backup.errors import UsageError

_NIGHTS = 30


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
    jobs: int
    schedule: str
    good_since: datetime | None
    due_from: datetime | None
    bytes: int
    month: Decimal
    currency: str
    in_group: str
    joined_at: datetime | None


class DayView(Struct, frozen=True):
    """A day (UTC) of a host: the worst that it told on it, and the rest as it told it last."""

    day: date
    standing: Standing
    why: str
    reports: int
    good_since: datetime | None
    bytes: int
    month: Decimal


class Overview(Struct, frozen=True):
    """All hosts: how many stand how, what they have stored and pay a month, and those that are not well."""

    hosts: dict[Standing, int]
    bytes: int
    month: dict[str, Decimal]
    not_well: Sequence[HostView]


def overview(engine: Engine, now: datetime) -> Overview:
    """Return the overview of all hosts; of those that are well only their number."""
    standing = _standing(now)
    each = select(standing.label("standing"), hosts.c.currency, hosts.c.bytes, hosts.c.month).subquery()
    sums = select(
        each.c.standing, each.c.currency, func.count(), func.sum(each.c.bytes), func.sum(each.c.month)
    )
    with seeing(engine, None) as connection:
        found = connection.execute(sums.group_by(each.c.standing, each.c.currency)).all()
        is_bad = standing != Standing.WELL
        bad = _views(connection.execute(_shown(now).where(is_bad)).mappings())
    counts, money = dict.fromkeys(Standing, 0), dict[str, Decimal]()
    for name, currency, count, _, month in found:
        counts[Standing(name)] += count
        if month:
            money[currency] = money.get(currency, Decimal(0)) + month
    return Overview(counts, sum(int(row[3]) for row in found), dict(sorted(money.items())), bad)


def all_hosts(engine: Engine, now: datetime) -> Sequence[HostView]:
    """All hosts, the worst first, then by name."""
    with seeing(engine, None) as connection:
        return _views(connection.execute(_shown(now)).mappings())


def host_named(engine: Engine, name: str, now: datetime) -> tuple[HostView, dict[str, Any]]:
    """A host by its name or id, and what it has told. `UsageError` if none or several have it."""
    wanted = _shown(now).add_columns(hosts.c.document)
    wanted = wanted.where((hosts.c.name == name) | (hosts.c.host_id == name)).limit(2)
    with seeing(engine, None) as connection:
        rows = connection.execute(wanted).mappings().all()
    if len(rows) != 1:
        raise UsageError(
            f"{name!r}: {'several hosts have' if rows else 'no host has'} that name",
            advice="`nightvault center list --json` names all, with their ids",
        )
    told = msgspec.json.decode(rows[0]["document"])
    return _views(rows)[0], told if isinstance(told, dict) else {}


def days_of(engine: Engine, host_id: str, now: datetime) -> Sequence[DayView]:
    """The last thirty days of a host, the newest first; a day on which it told nothing is not there."""
    wanted = select(*(days.c[name] for name in DayView.__struct_fields__)).order_by(days.c.day.desc())
    lately = days.c.day > (now - timedelta(days=_NIGHTS)).date()
    with seeing(engine, host_id) as connection:
        rows = connection.execute(wanted.where(days.c.host_id == host_id, lately)).mappings()
        return [DayView(**{**row, "standing": Standing(row["standing"])}) for row in rows]


def remove_host(engine: Engine, host_id: str) -> None:
    """Take a host off the center: all rows of it, and invitations that it used or that name it."""
    with seeing(engine, None) as connection:
        gone = delete(hosts).where(hosts.c.host_id == host_id).returning(hosts.c.name)
        name = connection.execute(gone).scalar_one_or_none()
        is_its = (invites.c.used_by == host_id) | (invites.c.used_by.is_(None) & (invites.c.name == name))
        connection.execute(delete(invites).where(is_its))


def set_seen(engine: Engine, host_id: str) -> None:
    """Note that a person has seen that a host was set back."""
    with seeing(engine, host_id) as connection:
        gone = {"set_back_at": None, "set_back_why": None}
        connection.execute(update(hosts).where(hosts.c.host_id == host_id).values(**gone))


def _standing(now: datetime) -> Case[str]:
    return _by_standing(now, Standing.SILENT, Standing.SET_BACK, hosts.c.told_standing)


def _by_standing(now: datetime, silent: Any, set_back: Any, told: ColumnElement[str]) -> Case[str]:
    return case(
        (hosts.c.due_from < now, silent),
        (hosts.c.set_back_at.is_not(None), set_back),
        else_=told,
    )


def _shown(now: datetime) -> Any:
    """Rows as they are shown: the worst first, then by name; without what was told in full."""
    was_due = literal("job ") + func.coalesce(hosts.c.due_job, "") + " was due, and nothing was told since"
    computed = {
        "standing": _standing(now),
        "why": _by_standing(now, was_due, func.coalesce(hosts.c.set_back_why, ""), hosts.c.told_why),
        "reports": hosts.c.number,
    }
    columns = [
        computed[name].label(name) if name in computed else hosts.c[name]
        for name in HostView.__struct_fields__
    ]
    order = {str(standing): place for place, standing in enumerate(Standing)}
    return select(*columns).order_by(case(order, value=_standing(now)), hosts.c.name)


def _views(rows: Any) -> Sequence[HostView]:
    shared = HostView.__struct_fields__
    return [
        HostView(**{name: row[name] for name in shared} | {"standing": Standing(row["standing"])})
        for row in rows
    ]
