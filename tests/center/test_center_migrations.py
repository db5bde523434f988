"""Migrations of a center's database that is filled: what is there stays, and is kept apart as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from backup.center.database import HEAD, opened_database, require_ready, set_up
from backup.center.tables import METADATA
from tests.support.centers import center_database, needs_postgresql, superuser

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

THEN = "2026-01-02T03:04:05+00"
HOST = {
    "host_id": "a" * 32, "name": "web1", "subject": "CN=web1", "anchor": "b" * 64, "certificate_ends": THEN,
    "first_at": THEN, "last_at": THEN, "program": "1.0", "chain": "c" * 32, "number": 7, "digest": b"d",
    "document": '{"well":true}',
}  # fmt: skip
GONE = {**HOST, "host_id": "e" * 32, "name": "old", "subject": "CN=old", "removed_at": THEN}
INVITE = {"name": "web1", "in_group": "", "made_at": THEN, "ends_at": THEN}
ROWS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "0001": [
        ("hosts", HOST),
        ("hosts", GONE),
        ("chains", {"host_id": HOST["host_id"], "chain": "c" * 32, "begun_at": THEN}),
        ("chains", {"host_id": GONE["host_id"], "chain": "c" * 32, "begun_at": THEN}),
    ],
    "0002": [
        (
            "days",
            {
                "host_id": HOST["host_id"], "day": "2026-01-02", "reports": 3, "standing": "well", "why": "",
                "bytes": 5, "month": "1.25",
            },
        )
    ],
    "0003": [
        ("invites", {**INVITE, "invite": word, "used_by": by})
        for word, by in (("used", GONE["host_id"]), ("kept", HOST["host_id"]), ("open", None))
    ],
}  # fmt: skip
"""Rows that a center of each version may have, for which the next migration is made."""


@pytest.fixture(scope="module")
def filled() -> Iterator[psycopg.Connection[Any]]:
    """A database that was brought up from version to version, with rows of each; seen by its superuser."""
    with center_database() as (server, url), closing(superuser(server, "nightvault")) as connection:
        engine = opened_database(url)
        for number in range(1, int(HEAD) + 1):
            set_up(engine, f"{number:04}")
            for table, row in ROWS.get(f"{number:04}", ()):
                names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))
        require_ready(engine)
        yield connection
        engine.dispose()


def rows(connection: psycopg.Connection[Any], question: str) -> list[tuple[Any, ...]]:
    return connection.execute(question).fetchall()


def test_what_a_server_told_stays(filled: psycopg.Connection[Any]) -> None:
    told = rows(
        filled, "SELECT name, chain, number, document, joined_at = first_at, told_standing FROM hosts"
    )
    assert told == [("web1", "c" * 32, 7, '{"well":true}', True, "warning")]
    assert rows(filled, "SELECT host_id, chain FROM chains") == [("a" * 32, "c" * 32)]
    assert rows(filled, "SELECT reports, month::text FROM days") == [(3, "1.250000")]
    assert rows(filled, "SELECT invite FROM invites ORDER BY 1") == [("kept",), ("open",)]


def test_tables_are_as_the_program_says(filled: psycopg.Connection[Any]) -> None:
    asked = (
        "SELECT table_name, column_name, is_nullable FROM information_schema.columns WHERE table_schema = "
    )
    found = {(row[0], row[1]): row[2] == "YES" for row in rows(filled, f"{asked}'public'")}
    said = {
        (table.name, column.name): bool(column.nullable)
        for table in METADATA.tables.values()
        for column in table.columns
    }
    assert {key: null for key, null in found.items() if key[0] != "alembic_version"} == said


def test_each_table_is_kept_apart_also_from_its_owner(filled: psycopg.Connection[Any]) -> None:
    asked = "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relkind = 'r'"
    found = dict(rows(filled, f"{asked} AND relnamespace = 'public'::regnamespace"))
    assert {name for name, is_forced in found.items() if is_forced} == set(METADATA.tables)
    policies = dict(rows(filled, "SELECT tablename, count(*) FROM pg_policies GROUP BY 1"))
    assert policies == dict.fromkeys(METADATA.tables, 1)
