"""Many servers at a center, as rows that are copied into its PostgreSQL, with a year of days each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from msgspec.structs import asdict
from sqlalchemy import Table

from backup.center.identity import HostIdentity
from backup.center.summary import summary_of
from backup.center.tables import chains, days, hosts

Rows = Iterable[dict[str, Any]]


def fill(
    connection: psycopg.Connection[Any],
    count: int,
    each: int,
    now: datetime,
    known: Sequence[HostIdentity] = (),
) -> None:
    """So many servers with their days: of ten, one is not well; of a hundred, one is silent.

    Those that are `known` are spread among them, in places of even numbers.

    Row-level security knows no COPY, so that it is the superuser's.
    """
    identities = [identity_of(number) for number in range(count)]
    for place, identity in enumerate(known):
        identities[2 * (place * count // (2 * len(known)))] = identity
    found = [_host(number, identity, now) for number, identity in enumerate(identities)]
    _copied(connection, hosts, found)
    begun = {"begun_at": now, "told_at": now}
    _copied(connection, chains, ({**host, **begun} for host in found))
    _copied(connection, days, (day for host in found for day in _days(host, each, now)))
    connection.execute("VACUUM ANALYZE")


def _host(number: int, identity: HostIdentity, now: datetime) -> dict[str, Any]:
    then = now - timedelta(hours=1 + number % 20)
    told = _told(number, then, now)
    return {
        "host_id": identity.host_id,
        "name": identity.name,
        "subject": identity.subject,
        "anchor": identity.anchor,
        "certificate_ends": identity.ends,
        "first_at": now - timedelta(days=365),
        "last_at": then,
        "told_at": then,
        "program": "1.0",
        "chain": f"{number:032x}",
        "number": 1,
        "digest": b"",
        "document": msgspec.json.encode(told).decode(),
        **asdict(summary_of(told, then)),
        "joined_at": then,
        "stands_since": then,
        "in_group": "",
    }


def identity_of(number: int) -> HostIdentity:
    """Whose reports those of a server are."""
    name = f"server{number:05d}"
    ends = datetime(2035, 1, 1, tzinfo=UTC)
    return HostIdentity(host_id=f"{number:032x}", name=name, subject=f"CN={name}", anchor="a" * 64, ends=ends)


def _told(number: int, then: datetime, now: datetime) -> dict[str, Any]:
    """What a server with five jobs says."""
    due = now - timedelta(minutes=5) if number % 100 == 0 else now + timedelta(hours=20)
    concern = {"level": "warning" if number % 20 else "critical", "text": "job home: its last run failed"}
    jobs = [
        {"job": f"job{place}", "schedule": "daily 02:00", "last_good": then, "overdue_from": due}
        for place in range(5)
    ]
    return {
        "well": number % 10 != 0,
        "concerns": [] if number % 10 else [concern],
        "jobs": msgspec.to_builtins(jobs),
        "vaults": [{"vault": "cold", "bytes": 10**12 + number, "month": "1.234567"}],
        "currency": "USD",
        "rest": "x" * 8000,
    }


def _days(host: dict[str, Any], each: int, now: datetime) -> Iterator[dict[str, Any]]:
    shared = {"host_id": host["host_id"], "reports": 288, "why": host["told_why"], "month": host["month"]}
    for back in range(each):
        yield {
            **shared,
            "day": (now - timedelta(days=back)).date(),
            "standing": host["told_standing"],
            "good_since": host["good_since"],
            "bytes": host["bytes"],
        }


def _copied(connection: psycopg.Connection[Any], table: Table, rows: Rows) -> None:
    names = [column.name for column in table.columns]
    with connection.cursor().copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([row.get(name) for name in names])
