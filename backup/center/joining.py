"""Servers join by an invitation that is used once, and names the server as its certificate does."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backup.center.database import seeing
from backup.center.identity import HostIdentity
from backup.center.summary import HostSummary, summary_of
from backup.center.tables import hosts, invites
from backup.errors import DeniedError, FormatError
from backup.format.host_report import JoinRequest

_MOST = 4096
_FIRST_REPORT = timedelta(hours=26)
ANEW = {
    "chain": "",
    "number": 0,
    "digest": b"",
    "set_back_at": None,
    "set_back_why": None,
    "contradicted_at": None,
    "contradicted_why": None,
}
"""The columns of a server that begins a chain as its next report."""


class Invited(Struct, frozen=True):
    """An invitation: `secret` is shown once, and not kept."""

    name: str
    secret: str
    ends_at: datetime


def invite(engine: Engine, name: str, group: str, now: datetime, ends_at: datetime) -> Invited:
    """Invite a server by the common name of its certificate; those that ran out unused go."""
    secret = secrets.token_urlsafe(32)
    with seeing(engine, None) as connection:
        connection.execute(delete(invites).where(invites.c.ends_at < now, invites.c.used_by.is_(None)))
        values = {"name": name, "in_group": group, "made_at": now, "ends_at": ends_at}
        connection.execute(insert(invites).values(invite=_digest(secret), **values))
    return Invited(name, secret, ends_at)


def join(engine: Engine, identity: HostIdentity, body: bytes, now: datetime) -> None:
    """Let a server in by its invitation. `FormatError`, `DeniedError`, which says no more than it must.

    An invitation that this very server has used is answered again: its first answer may have been lost.
    """
    digest = _digest(_read(body).secret)
    with seeing(engine, identity.host_id) as connection:
        connection.execute(select(func.set_config("nightvault.invite", digest, True)))
        found = (
            connection.execute(select(invites).where(invites.c.invite == digest).with_for_update())
            .mappings()
            .one_or_none()
        )
        if found is None or (found["used_by"] is None and found["ends_at"] < now):
            raise DeniedError("this invitation is unknown here, or ran out")
        if found["name"] != identity.name:
            raise DeniedError("this invitation is for a server of another name")
        if found["used_by"] is not None:
            if found["used_by"] == identity.host_id:
                return
            raise DeniedError("this invitation was used already")
        known = {"joined_at": now, "in_group": found["in_group"], **ANEW}
        row = insert(hosts).values(**new_host(identity, now), **known)
        connection.execute(row.on_conflict_do_update(index_elements=[hosts.c.host_id], set_=known))
        connection.execute(update(invites).where(invites.c.invite == digest).values(used_by=identity.host_id))


def _read(body: bytes) -> JoinRequest:
    try:
        if len(body) > _MOST:
            raise FormatError("no request to join")
        return msgspec.json.decode(body, type=JoinRequest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FormatError("no request to join") from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def new_host(identity: HostIdentity, now: datetime) -> dict[str, object]:
    """Return the row of a server that has told nothing yet, and is due within a day and some."""
    nothing: HostSummary = replace(summary_of({}, now), due_from=now + _FIRST_REPORT)
    return {
        **identity.columns(),
        **msgspec.structs.asdict(nothing),
        "told_why": "it has joined, and told nothing yet",
        "first_at": now,
        "stands_since": now,
        "last_at": now,
        "program": "",
        "document": "{}",
    }
