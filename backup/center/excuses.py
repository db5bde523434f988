"""Excuses: why a host, or each of a group, may be silent or not well; it is shown apart, and not told.

An acknowledgement is about what is the case: it ends with its time, and sooner for a host that stands
otherwise since, or has told something and is silent anew. A maintenance is about a time, whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, Engine, delete, func, insert, select

from backup.center.database import seeing
from backup.center.tables import excuses, hosts
from backup.errors import UsageError

_MOST = 500
_LONGEST = timedelta(days=366)
_KEPT = timedelta(days=30)


class ExcuseKind(StrEnum):
    """The kind of an excuse."""

    ACK = "ack"
    MAINTENANCE = "maintenance"


class Excuse(Struct, frozen=True):
    """An excuse of a host, by its id, or of a group; the fields are columns of `excuses`."""

    host_id: str | None
    in_group: str | None
    kind: ExcuseKind
    why: str
    made_by: str
    made_at: datetime
    begins_at: datetime
    ends_at: datetime


def make_excuse(engine: Engine, excuse: Excuse) -> None:
    """Note an excuse, in place of one of its kind for the same host or group.

    `UsageError` for a time that is none, or a group in which nobody is.
    """
    if excuse.ends_at <= max(excuse.begins_at, excuse.made_at):
        raise UsageError(f"{excuse.ends_at:%Y-%m-%d %H:%M} is no end: it is over, or before the beginning")
    if excuse.ends_at > excuse.made_at + _LONGEST:
        raise UsageError(
            "it would last for more than a year", advice="give an earlier end, and later another"
        )
    with seeing(engine, None) as connection:
        _require_group(connection, excuse.in_group)
        _end(connection, excuse.kind, excuse.host_id, excuse.in_group)
        words = {"why": excuse.why.replace("\0", "")[:_MOST], "made_by": excuse.made_by[:_MOST]}
        connection.execute(insert(excuses).values(excuse=os.urandom(16).hex(), **{**asdict(excuse), **words}))


def end_excuses(engine: Engine, kind: ExcuseKind, host_id: str | None, in_group: str | None) -> int:
    """End the excuse of that kind of a host or group; how many there were."""
    with seeing(engine, None) as connection:
        return _end(connection, kind, host_id, in_group)


def list_excuses(engine: Engine, now: datetime) -> Sequence[tuple[str | None, Excuse]]:
    """Return those that have not ended, with the names of their hosts, in the order of their ends."""
    columns = [excuses.c[name] for name in Excuse.__struct_fields__]
    wanted = select(hosts.c.name.label("host"), *columns).select_from(excuses.outerjoin(hosts))
    with seeing(engine, None) as connection:
        rows = connection.execute(wanted.where(excuses.c.ends_at > now).order_by(excuses.c.ends_at))
        return [
            (host, Excuse(host_id, in_group, ExcuseKind(kind), *more))
            for host, host_id, in_group, kind, *more in rows
        ]


def remove_old(connection: Connection, now: datetime) -> None:
    """Delete those that ended long ago."""
    connection.execute(delete(excuses).where(excuses.c.ends_at < now - _KEPT))


def _end(connection: Connection, kind: ExcuseKind, host_id: str | None, in_group: str | None) -> int:
    of = excuses.c.host_id == host_id if in_group is None else excuses.c.in_group == in_group
    return connection.execute(delete(excuses).where(excuses.c.kind == kind, of)).rowcount


def _require_group(connection: Connection, in_group: str | None) -> None:
    if in_group is None:
        return
    count = select(func.count()).where(hosts.c.in_group == in_group)
    if not in_group or connection.execute(count).scalar_one() == 0:
        raise UsageError(f"no server is in a group {in_group!r}", advice="`center list` names groups")
