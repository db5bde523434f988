"""Rows of reports: each counts once, in its order, for the host that signed it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import asdict
from sqlalchemy import Connection, Engine, RowMapping, ScalarSelect, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backup.center.database import seeing
from backup.center.identity import HostIdentity, is_same
from backup.center.summary import HostSummary, Standing, summary_of
from backup.center.tables import chains, days, hosts
from backup.errors import DeniedError, FormatError, NightvaultError
from backup.format.host_report import HostReport, read_report, told_whole

MOST_CHAINS = 20
"""So many chains a host may begin in a day: each is a row that stays as long as it could be told again."""
KEPT_DAYS = 400
"""So long rows of days and chains are kept; a chain that is told as older than that cannot be begun."""
_CLOCKS, _CLOCK = timedelta(days=10), timedelta(days=1)
_NEVER = datetime(1970, 1, 2, tzinfo=UTC)


class ChainBrokenError(NightvaultError):
    """A report that does not follow what was told before: its host begins a new chain (409)."""


class TooManyError(NightvaultError):
    """A host sends one request, or begins one chain, after the other: it is to come again later (429)."""


class Taken(StrEnum):
    """What became of a report."""

    NEW = "new"
    AGAIN = "again"  # it was sent twice, as its answer was lost


def take_report(
    engine: Engine,
    identity: HostIdentity,
    body: bytes,
    now: datetime,
    *,
    uninvited: bool = False,
    most_chains: int = MOST_CHAINS,
) -> Taken:
    """Take a report of a host in, which has joined unless `uninvited`, and began no more chains in a day.

    `FormatError`, `DeniedError`, `ChainBrokenError`, `TooManyError`.
    """
    report = read_report(body)
    digest = hashlib.sha256(body).digest()
    with seeing(engine, identity.host_id) as connection:
        known = _locked(connection, identity, report, now, makes=uninvited)
        if known is None or (known["joined_at"] is None and not uninvited):
            raise DeniedError("this server has not joined the center: it needs an invitation")
        document, more = {}, {}
        if report.chain == known["chain"]:
            if report.number == known["number"] and is_same(digest, known["digest"]):
                return Taken.AGAIN
            _require_next(report, known)
            document = msgspec.json.decode(known["document"])
        else:
            more = _begin(connection, known, report, now, most_chains)
        whole = _whole(document, report)
        summary = summary_of(whole, now)
        values = {**_values(identity, report, whole, digest, now), **asdict(summary)}
        if summary.told_standing != known["told_standing"]:
            values["stands_since"] = now
        connection.execute(update(hosts).where(hosts.c.host_id == identity.host_id).values(**values, **more))
        _note_day(connection, identity.host_id, summary, now)
    return Taken.NEW


def _locked(
    connection: Connection, identity: HostIdentity, report: HostReport, now: datetime, *, makes: bool
) -> RowMapping | None:
    """The host's row, which nobody else changes meanwhile; with `makes` made where there is none."""
    wanted = select(hosts).where(hosts.c.host_id == identity.host_id).with_for_update()
    found = connection.execute(wanted).mappings().one_or_none()
    if found is None and makes:
        first = {
            **_values(identity, report, {}, b"", now),
            **asdict(summary_of({}, now)),
            "first_at": now,
            "stands_since": now,
            "chain": "",
            "number": 0,
        }
        connection.execute(insert(hosts).values(**first).on_conflict_do_nothing())
        found = connection.execute(wanted).mappings().one()
    return found


def _values(
    identity: HostIdentity, report: HostReport, whole: dict[str, Any], digest: bytes, now: datetime
) -> dict[str, Any]:
    return {
        **identity.columns(),
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


def _begin(
    connection: Connection, known: RowMapping, report: HostReport, now: datetime, most: int
) -> dict[str, Any]:
    """Note a new chain; what else is to be kept of the host: whether it was set back."""
    if report.number != 1:
        raise ChainBrokenError("this chain is not known")
    ours = chains.c.host_id == known["host_id"]
    lately = select(func.count()).where(ours, chains.c.begun_at > now - timedelta(days=1))
    if connection.execute(lately).scalar_one() >= most:
        raise TooManyError(f"more than {most} chains in a day")
    told_at = datetime.fromtimestamp(report.at, UTC)
    first = max(now - timedelta(days=KEPT_DAYS) + _CLOCKS, (known["joined_at"] or _NEVER) - _CLOCK)
    if told_at < first:
        raise ChainBrokenError(
            f"a chain that says it began on {told_at:%Y-%m-%d}, too long ago: is the server's clock right?"
        )
    row = insert(chains).values(host_id=known["host_id"], chain=report.chain, begun_at=now, told_at=told_at)
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


def _note_day(connection: Connection, host_id: str, summary: HostSummary, now: datetime) -> None:
    """Note how the host is today; with the first report of a day, what is too old to be kept goes."""
    facts = {"good_since": summary.good_since, "bytes": summary.bytes, "month": summary.month}
    told = {"standing": summary.told_standing, "why": summary.told_why}
    row = insert(days).values(host_id=host_id, day=now.date(), reports=1, **told, **facts)
    order = {str(standing): place for place, standing in enumerate(Standing)}
    is_worse = case(order, value=row.excluded.standing) <= case(order, value=days.c.standing)
    worst = {name: case((is_worse, row.excluded[name]), else_=days.c[name]) for name in told}
    noted = row.on_conflict_do_update(
        index_elements=[days.c.host_id, days.c.day], set_={"reports": days.c.reports + 1, **worst, **facts}
    )
    if connection.execute(noted.returning(days.c.reports)).scalar_one() == 1:
        first = now - timedelta(days=KEPT_DAYS)
        connection.execute(delete(days).where(days.c.host_id == host_id, days.c.day < first.date()))
        last_used = func.greatest(chains.c.begun_at, chains.c.told_at)  # NULL counts for nothing here
        is_old = (chains.c.host_id == host_id) & (last_used < first)
        connection.execute(delete(chains).where(is_old, chains.c.chain != _current(host_id)))


def _current(host_id: str) -> ScalarSelect[str]:
    return select(hosts.c.chain).where(hosts.c.host_id == host_id).scalar_subquery()
