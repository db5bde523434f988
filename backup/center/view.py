"""What a center shows of its hosts: how each stands, the worst first; each is believed only of itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Case,
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Table,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    update,
)

from backup.center.database import seeing
from backup.center.excuses import ExcuseKind
from backup.center.summary import Standing
from backup.center.tables import days, excuses, hosts, invites, places, watches
from backup.errors import UsageError

_NIGHTS = 30
GRACE = timedelta(minutes=90)
"""So long after a pause, its own or of a maintenance, nobody counts as silent who may not have had a turn."""


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
    contradicted_at: datetime | None
    jobs: int
    schedule: str
    good_since: datetime | None
    due_from: datetime | None
    bytes: int
    month: Decimal
    currency: str
    in_group: str
    joined_at: datetime | None
    stands_since: datetime
    known_until: datetime | None
    known_why: str | None
    known_by: str | None


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
    """All hosts: how many stand how, what they have stored and pay a month, and those that are not well.

    Those that are `known` are apart. `listening_since`: since when the center can be told without a gap, if
    that is so short that a silent host may not have had its turn.
    """

    hosts: dict[Standing, int]
    bytes: int
    month: dict[str, Decimal]
    not_well: Sequence[HostView]
    known: Sequence[HostView]
    listening_since: datetime | None


def overview(engine: Engine, now: datetime) -> Overview:
    """Return the overview of all hosts; of those that are well only their number."""
    excuse = _excuse(now)
    standing = _standing(now, excuse)
    columns = select(standing.label("standing"), hosts.c.currency, hosts.c.bytes, hosts.c.month)
    each = columns.select_from(hosts.outerjoin(excuse, true())).subquery()
    sums = select(
        each.c.standing, each.c.currency, func.count(), func.sum(each.c.bytes), func.sum(each.c.month)
    )
    with seeing(engine, None) as connection:
        found = connection.execute(sums.group_by(each.c.standing, each.c.currency)).all()
        bad = _views(connection.execute(_shown(now).where(_is_bad(now))).mappings())
        since = connection.execute(select(watches.c.listening_since)).scalar_one()
    counts, money = dict.fromkeys(Standing, 0), dict[str, Decimal]()
    for name, currency, count, _, month in found:
        counts[Standing(name)] += count
        if month:
            money[currency] = money.get(currency, Decimal(0)) + month
    known = [host for host in bad if host.standing is Standing.KNOWN]
    return Overview(
        hosts=counts,
        bytes=sum(int(row[3]) for row in found),
        month=dict(sorted(money.items())),
        not_well=[host for host in bad if host.standing is not Standing.KNOWN],
        known=known,
        listening_since=since if since is not None and now - since < GRACE else None,
    )


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
    """Take a host off the center: its rows and places, and invitations that it used or that name it."""
    with seeing(engine, None) as connection:
        gone = delete(hosts).where(hosts.c.host_id == host_id).returning(hosts.c.name)
        name = connection.execute(gone).scalar_one_or_none()
        is_its = (invites.c.used_by == host_id) | (invites.c.used_by.is_(None) & (invites.c.name == name))
        connection.execute(delete(invites).where(is_its))
        connection.execute(delete(places).where(places.c.host_id == host_id))


def set_seen(engine: Engine, host_id: str) -> None:
    """Note that a person has seen that a host was set back."""
    with seeing(engine, host_id) as connection:
        gone = {"set_back_at": None, "set_back_why": None}
        connection.execute(update(hosts).where(hosts.c.host_id == host_id).values(**gone))


def silent_hosts(connection: Connection, now: datetime) -> Sequence[RowMapping]:
    """Return hosts that are silent without an excuse and of which people are to be told, by group and name.

    They were not told yet, or an excuse has ended since.
    """
    excuse = _excuse(now)
    is_over = (excuses.c.ends_at > hosts.c.silence_told_at) & (excuses.c.ends_at <= now)
    was_excused = exists().where(_is_of(hosts), is_over)
    is_new = or_(hosts.c.silence_told_at.is_(None), was_excused)
    columns = [hosts.c[name] for name in ("host_id", "name", "in_group", "due_job", "due_from", "last_at")]
    wanted = select(*columns).select_from(hosts.outerjoin(excuse, true()))
    wanted = wanted.where(hosts.c.due_from < now, is_new, excuse.c.kind.is_(None))
    return connection.execute(wanted.order_by(hosts.c.in_group, hosts.c.name)).mappings().all()


def _is_bad(now: datetime) -> ColumnElement[bool]:
    is_bad = or_(
        hosts.c.contradicted_at.is_not(None),
        hosts.c.set_back_at.is_not(None),
        hosts.c.told_standing != Standing.WELL,
    )
    return or_(func.coalesce(hosts.c.due_from < now, false()), is_bad)


def _excuse(now: datetime) -> Any:
    """For each host that is not well the excuse that counts, if any: the one that ends last."""
    stands_since = _by_standing(
        now, hosts.c.due_from, hosts.c.contradicted_at, hosts.c.set_back_at, hosts.c.stands_since
    )
    is_ack = and_(
        excuses.c.kind == ExcuseKind.ACK, excuses.c.ends_at > now, excuses.c.made_at >= stands_since
    )
    is_maintenance = and_(excuses.c.kind == ExcuseKind.MAINTENANCE, excuses.c.ends_at > now - GRACE)
    columns = [excuses.c[name] for name in ("kind", "ends_at", "why", "made_by")]
    found = select(*columns).where(_is_bad(now), _is_of(hosts), excuses.c.begins_at <= now)
    found = found.where(or_(is_ack, is_maintenance)).order_by(excuses.c.ends_at.desc()).limit(1)
    return found.correlate(hosts).lateral("excuse")


def _is_of(host: Table) -> ColumnElement[bool]:
    return or_(excuses.c.host_id == host.c.host_id, excuses.c.in_group == host.c.in_group)


def _standing(now: datetime, excuse: Any) -> Case[str]:
    of_itself = _by_standing(
        now, Standing.SILENT, Standing.CONTRADICTED, Standing.SET_BACK, hosts.c.told_standing
    )
    return case((excuse.c.kind.is_not(None), Standing.KNOWN), else_=of_itself)


def _by_standing(
    now: datetime, silent: Any, contradicted: Any, set_back: Any, told: ColumnElement[Any]
) -> Case[Any]:
    return case(
        (hosts.c.due_from < now, silent),
        (hosts.c.contradicted_at.is_not(None), contradicted),
        (hosts.c.set_back_at.is_not(None), set_back),
        else_=told,
    )


def _shown(now: datetime) -> Any:
    """Rows as they are shown: the worst first, then by name; without what was told in full."""
    job_due = literal("job ") + hosts.c.due_job + " was due, and nothing was told since"
    was_due = func.coalesce(job_due, "it has told nothing since it joined")
    excuse = _excuse(now)
    standing = _standing(now, excuse)
    computed = {
        "standing": standing,
        "why": _by_standing(
            now,
            was_due,
            func.coalesce(hosts.c.contradicted_why, ""),
            func.coalesce(hosts.c.set_back_why, ""),
            hosts.c.told_why,
        ),
        "reports": hosts.c.number,
        "known_until": excuse.c.ends_at,
        "known_why": excuse.c.why,
        "known_by": excuse.c.made_by,
    }
    columns = [
        computed[name].label(name) if name in computed else hosts.c[name]
        for name in HostView.__struct_fields__
    ]
    order = {str(standing): place for place, standing in enumerate(Standing)}
    wanted = select(*columns).select_from(hosts.outerjoin(excuse, true()))
    return wanted.order_by(case(order, value=standing), hosts.c.name)


def _views(rows: Any) -> Sequence[HostView]:
    shared = HostView.__struct_fields__
    return [
        HostView(**{name: row[name] for name in shared} | {"standing": Standing(row["standing"])})
        for row in rows
    ]
