"""A file of what no server tells anew if the database is lost: who has joined, groups, and excuses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, Engine, Table, select
from sqlalchemy.dialects.postgresql import insert

from backup.center.database import seeing
from backup.center.excuses import Excuse
from backup.center.identity import HostIdentity
from backup.center.joining import ANEW, new_host
from backup.center.summary import Standing
from backup.center.tables import excuses, hosts
from backup.errors import FormatError

_VERSION = 1
MOST_BYTES = 256 << 20
_Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class KeptHost(Struct, frozen=True):
    """A server that has joined: its identity and group, and since when it stands as people know it."""

    host_id: _Id
    name: str
    subject: str
    anchor: str
    certificate_ends: datetime
    in_group: str
    told_standing: Standing
    stands_since: datetime
    due_from: datetime | None
    due_job: str | None
    silence_told_at: datetime | None


class KeptExcuse(Struct, frozen=True):
    """An acknowledgement or a maintenance, with its id."""

    excuse: str
    what: Excuse


class Kept(Struct, frozen=True):
    """All that is kept, and when; it holds no secret, and nothing that servers tell."""

    version: Annotated[int, Meta(ge=1, le=_VERSION)]
    at: datetime
    hosts: Sequence[KeptHost]
    excuses: Sequence[KeptExcuse]


def kept_of(engine: Engine, now: datetime) -> bytes:
    """Return what is to be kept, in JSON."""
    who = select(*(hosts.c[name] for name in KeptHost.__struct_fields__)).where(
        hosts.c.joined_at.is_not(None)
    )
    why = select(excuses.c.excuse, *(excuses.c[name] for name in Excuse.__struct_fields__))
    with seeing(engine, None) as connection:
        joined = [KeptHost(**row) for row in connection.execute(who.order_by(hosts.c.host_id)).mappings()]
        known = [
            KeptExcuse(row["excuse"], Excuse(**{name: row[name] for name in Excuse.__struct_fields__}))
            for row in connection.execute(why.where(excuses.c.ends_at > now)).mappings()
        ]
    return msgspec.json.encode(Kept(_VERSION, now, joined, known))


def read_kept(data: bytes) -> Kept:
    """Read such a file. `FormatError`."""
    try:
        return msgspec.json.decode(data, type=Kept)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FormatError(f"no export of a center: {str(error)[:200]}") from error


def take_back(engine: Engine, kept: Kept, now: datetime) -> tuple[int, int]:
    """Take in what was kept and is not there: so many servers and excuses. What is there stays as it is.

    The servers count as joined from now on, so that no chain of before can be replayed.
    """
    with seeing(engine, None) as connection:
        made = sum(_made(connection, hosts, _row(host, kept.at, now)) for host in kept.hosts)
        known = {None, *connection.execute(select(hosts.c.host_id)).scalars()}
        brought = sum(
            _made(connection, excuses, {"excuse": known_as.excuse, **asdict(known_as.what)})
            for known_as in kept.excuses
            if known_as.what.ends_at > now and known_as.what.host_id in known
        )
    return made, brought


def _made(connection: Connection, table: Table, row: dict[str, object]) -> int:
    """Insert a row unless it is there; 1 or 0."""
    made = insert(table).values(**row).on_conflict_do_nothing().returning(*table.primary_key)
    return len(connection.execute(made).all())


def _row(host: KeptHost, at: datetime, now: datetime) -> dict[str, object]:
    """The row of a server that has told nothing since, but stands as it did where it was not well."""
    identity = HostIdentity(host.host_id, host.name, host.subject, host.anchor, host.certificate_ends)
    row = {**new_host(identity, now), **ANEW, "joined_at": now, "in_group": host.in_group}
    if host.told_standing is not Standing.WELL:
        row |= {"told_standing": host.told_standing, "stands_since": host.stands_since}
    if host.due_from is not None and host.due_from < at:  # it was silent
        names = ("due_from", "due_job", "silence_told_at")
        row |= {name: getattr(host, name) for name in names}
    return row
