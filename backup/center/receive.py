"""Rows of reports: each counts once, in its order, for the host that signed it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backup.center.database import seeing
from backup.center.identity import HostIdentity, is_same
from backup.center.tables import chains, hosts
from backup.errors import DeniedError, FormatError, NightvaultError
from backup.format.host_report import HostReport, read_report, told_whole

MOST_CHAINS = 20
"""So many chains a host may begin in a day: each is a row that stays."""


class ChainBrokenError(NightvaultError):
    """A report that does not follow what was told before: its host begins a new chain (409)."""


class TooManyChainsError(NightvaultError):
    """A host begins one chain after the other: it is to come again later (429)."""


class Taken(StrEnum):
    """What became of a report."""

    NEW = "new"
    AGAIN = "again"  # it was sent twice, as its answer was lost


def take_report(engine: Engine, identity: HostIdentity, body: bytes, now: datetime) -> Taken:
    """Take a report of a host in. `FormatError`, `DeniedError`, `ChainBrokenError`, `TooManyChainsError`."""
    report = read_report(body)
    digest = hashlib.sha256(body).digest()
    with seeing(engine, identity.host_id) as connection:
        known = _locked(connection, identity, report, now)
        if known["removed_at"] is not None:
            raise DeniedError("this host was removed from the center")
        document, more = {}, {}
        if report.chain == known["chain"]:
            if report.number == known["number"] and is_same(digest, known["digest"]):
                return Taken.AGAIN
            _require_next(report, known)
            document = msgspec.json.decode(known["document"])
        else:
            more = _begin(connection, known, report, now)
        whole = _whole(document, report)
        values = _values(identity, report, whole, digest, now)
        connection.execute(update(hosts).where(hosts.c.host_id == identity.host_id).values(**values, **more))
    return Taken.NEW


def _locked(connection: Connection, identity: HostIdentity, report: HostReport, now: datetime) -> RowMapping:
    """The host's row, which nobody else changes meanwhile; made where there is none."""
    wanted = select(hosts).where(hosts.c.host_id == identity.host_id).with_for_update()
    found = connection.execute(wanted).mappings().one_or_none()
    if found is None:
        first = {**_values(identity, report, {}, b"", now), "first_at": now, "chain": "", "number": 0}
        connection.execute(insert(hosts).values(**first).on_conflict_do_nothing())
        found = connection.execute(wanted).mappings().one()
    return found


def _values(
    identity: HostIdentity, report: HostReport, whole: dict[str, Any], digest: bytes, now: datetime
) -> dict[str, Any]:
    return {
        "host_id": identity.host_id,
        "name": identity.name,
        "subject": identity.subject,
        "anchor": identity.anchor,
        "certificate_ends": identity.ends,
        "last_at": now,
        "told_at": datetime.fromtimestamp(report.at, UTC),
        "program": report.program.replace("\0", "�"),
        "chain": report.chain,
        "number": report.number,
        "digest": digest,
        "document": msgspec.json.encode(whole).decode(),
    }


def _whole(document: dict[str, Any], report: HostReport) -> dict[str, Any]:
    """What the host has told altogether; what does not fit to that begins a new chain."""
    try:
        return told_whole(document, report.changes)
    except FormatError as error:
        if report.number == 1:
            raise
        raise ChainBrokenError(str(error)) from error


def _require_next(report: HostReport, known: RowMapping) -> None:
    if report.number <= known["number"]:
        raise ChainBrokenError(f"number {report.number} was seen: the last one is {known['number']}")
    if report.number > known["number"] + 1:
        raise ChainBrokenError(f"number {report.number} does not follow {known['number']}")


def _begin(connection: Connection, known: RowMapping, report: HostReport, now: datetime) -> dict[str, Any]:
    """Note a new chain; what else is to be kept of the host: whether it was set back."""
    if report.number != 1:
        raise ChainBrokenError("this chain is not known")
    ours = chains.c.host_id == known["host_id"]
    lately = select(func.count()).where(ours, chains.c.begun_at > now - timedelta(days=1))
    if connection.execute(lately).scalar_one() >= MOST_CHAINS:
        raise TooManyChainsError(f"more than {MOST_CHAINS} chains in a day")
    row = insert(chains).values(host_id=known["host_id"], chain=report.chain, begun_at=now)
    made = connection.execute(row.on_conflict_do_nothing().returning(chains.c.chain)).one_or_none()
    if made is None:
        raise ChainBrokenError("this chain was told before, and another one follows it")
    why = _set_back(known, report)
    return {} if why is None else {"set_back_at": now, "set_back_why": why}


def _set_back(known: RowMapping, report: HostReport) -> str | None:
    """Why a host knows less of what it told than the center; None if it does not."""
    if not known["chain"]:
        return None
    if report.before != known["chain"]:
        return "it does not know the reports that it sent before: it was set up anew, or is an older image"
    missing = known["number"] - (report.before_number or 0)
    return f"it does not know its last {missing} reports: it is an older image" if missing > 0 else None
