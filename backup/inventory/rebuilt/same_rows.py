"""Compares a rebuilt inventory with the one in use, row by row, as of the catalogs that were rebuilt.

The inventory in use may have gone on meanwhile: entries and snapshots of later catalogs are left out of it,
and what later catalogs changed is counted apart. It is read in one transaction, so writers are not held up.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from backup.errors import InventoryDamagedError, LockedError, NightvaultError, SpoolError
from backup.inventory.rebuilt.carried_rows import PAIRINGS
from backup.inventory.rebuilt.row_pairing import Pairing
from backup.inventory.store.times import micros
from backup.model import Generation, VaultName

MOST_EXAMPLES: Final = 5
_LONG: Final = 40

MISSING, EXTRA = "missing in the rebuilt one", "only in the rebuilt one"
"""Kinds of differences besides columns: a row of one side alone."""


@dataclass(slots=True)
class RowDifference:
    """Rows that differ in one way: a table, the column (or the side that lacks them), how many, and a few.

    `why` is empty for differences; else it explains them.
    """

    table: str
    kind: str
    why: str = ""
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Comparison(Struct, frozen=True):
    """The result of a comparison: rows compared by table, differences, and differences that are explained."""

    rows: dict[str, int]
    differences: Sequence[RowDifference]
    explained: Sequence[RowDifference]

    @property
    def are_same(self) -> bool:
        """Whether nothing differs that a rebuild should have brought back."""
        return not self.differences


class Catalogs(Struct, frozen=True):
    """The catalogs of which an inventory was rebuilt: their number and bytes."""

    count: int = 0
    size: int = 0


def catalogs_in(rebuilt: str) -> Catalogs:
    """The catalogs in a rebuilt inventory's file."""
    sql = "SELECT count(*), coalesce(sum(a.size), 0) FROM archives a JOIN catalogs c ON c.archive = a.number"
    with closing(sqlite3.connect(rebuilt)) as database:
        return Catalogs(*database.execute(sql).fetchone())


def compare(
    rebuilt: str,
    used: str,
    vault: VaultName,
    *,
    jobs: Collection[str] = (),
    shown_until: datetime | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare two inventories in files; `jobs` are those that were rebuilt, all if empty.

    `shown_until`: the rebuild went by all catalogs that were stored earlier; None where it was not to. The
    rebuilt file is written to.
    """
    values = {
        "vault": vault,
        "jobs": json.dumps(sorted(jobs)),
        "listed": 0 if shown_until is None else micros(shown_until),
        "full": int(Generation.FULL),
        "delta": int(Generation.DELTA),
    }
    rows: dict[str, int] = {}
    counting = _Counting()
    try:
        with closing(_both(rebuilt, used)) as database:
            database.execute("BEGIN")
            for sql in _PREPARING:
                database.execute(sql, values)
            for pairing in PAIRINGS:
                tell(pairing.table)
                rows[pairing.table] = _compare(database, pairing, values, counting)
    except sqlite3.Error as error:
        raise _ours(used, error) from error
    every = list(counting.found.values())
    return Comparison(
        rows,
        [difference for difference in every if not difference.why],
        [difference for difference in every if difference.why],
    )


_PREPARING: Final = (
    """CREATE TABLE drill_jobs AS
       SELECT k.*, EXISTS (SELECT 1 FROM used.catalogs c JOIN used.archives a ON a.number = c.archive
                           WHERE c.job = k.used AND c.number > k.catalog AND c.generation = :delta
                             AND a.state <> 'submitted') AS moved,
              coalesce((SELECT min(r.snapshot_number) FROM used.catalogs c
                        JOIN used.archives a ON a.number = c.archive JOIN used.runs r ON r.number = a.run
                        WHERE c.job = k.used AND c.number > k.catalog AND c.generation = :delta), 1 << 62)
                  AS first_later
       FROM (SELECT u.number AS used, b.number AS built,
                    (SELECT max(number) FROM main.catalogs c WHERE c.job = b.number) AS catalog,
                    (SELECT min(number) FROM main.catalogs c WHERE c.job = b.number) AS base
             FROM used.jobs u JOIN main.jobs b ON b.id = u.id) k""",
    """CREATE TABLE drill_archives AS
       SELECT u.number AS used, b.number AS built,
              u.state <> 'deleted' AND b.state <> 'deleted' AS whole
       FROM used.archives u JOIN main.archives b ON b.pack_id = u.pack_id""",
    "CREATE INDEX drill_used ON drill_archives (used)",
    "CREATE INDEX drill_built ON drill_archives (built)",
    """CREATE TABLE drill_named AS
       SELECT DISTINCT n.archive FROM used.catalog_archives n
       JOIN drill_archives a ON a.used = n.catalog JOIN main.catalogs c ON c.archive = a.built""",
    "CREATE UNIQUE INDEX drill_name ON drill_named (archive)",
)


def _both(rebuilt: str, used: str) -> sqlite3.Connection:
    """A connection to the rebuilt file, with the inventory in use attached for reading."""
    database = sqlite3.connect(f"file:{quote(os.fsencode(rebuilt))}", uri=True, isolation_level=None)
    database.text_factory = bytes  # names need be no text
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=MEMORY"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("ATTACH DATABASE ? AS used", (f"file:{quote(os.fsencode(used))}?mode=ro",))
    database.execute("PRAGMA used.busy_timeout=60000")
    return database


class _Counting:
    """Collects what differs."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], RowDifference] = {}

    def add(self, table: str, kind: str, why: bytes | None, shown: object) -> None:
        """Add a row that differs."""
        reason = (why or b"").decode()
        difference = self.found.setdefault((table, kind, reason), RowDifference(table, kind, reason))
        difference.count += 1
        if len(difference.examples) < MOST_EXAMPLES:
            difference.examples.append(_text_of(shown))


def _compare(database: sqlite3.Connection, pairing: Pairing, values: dict[str, Any], found: _Counting) -> int:
    """Compare a table; the number of rows that both have."""
    for kind, only, key in (
        (MISSING, pairing.missing, pairing.key),
        (EXTRA, pairing.extra, pairing.extra_key),
    ):
        for why, shown in database.execute(f"SELECT {only.why}, {key} FROM {only.rows}", values):
            found.add(pairing.table, kind, why, shown)
    if pairing.fields:
        _differing(database, pairing, values, found)
    (count,) = database.execute(f"SELECT count(*) FROM {pairing.pairs}", values).fetchone()
    return int(count)


def _differing(
    database: sqlite3.Connection, pairing: Pairing, values: dict[str, Any], found: _Counting
) -> None:
    values_of = [f"{compared.used}, {compared.built}, {compared.why}" for compared in pairing.fields]
    differ = " OR ".join(f"({compared.used}) IS NOT ({compared.built})" for compared in pairing.fields)
    joins = "AND" if " WHERE " in pairing.pairs else "WHERE"
    sql = f"SELECT {pairing.key}, {', '.join(values_of)} FROM {pairing.pairs} {joins} ({differ})"
    for shown, *rest in database.execute(sql, values):
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        for compared, (used, built, why) in zip(pairing.fields, triples, strict=True):
            if used != built:
                text = f"{_text_of(shown)}: {_value(used)} here, {_value(built)} rebuilt"
                found.add(pairing.table, compared.name, why, text)


def _value(value: object) -> str:
    """A value in an example; a long one is cut."""
    if value is None:
        return "nothing"
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, bytes) and not text.isprintable():
        text = value.hex()
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _text_of(shown: object) -> str:
    """A row's name as text; bytes that are none are escaped."""
    return shown.decode(errors="backslashreplace") if isinstance(shown, bytes) else str(shown)


def _ours(path: str, error: sqlite3.Error) -> NightvaultError:
    """An error of the database in our words."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return SpoolError(f"no space left to compare a rebuilt inventory with {path}")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LockedError(f"the inventory {path} is in use: {error}")
    return InventoryDamagedError(
        f"the inventory {path} cannot be compared: {error}", advice="`nightvault inventory verify` says more"
    )
