"""Queries for drills: the plan of each and its possible cost, recorded before anything is requested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from sqlite3 import Row
from typing import Any, Final

from msgspec import Struct

from backup.inventory.records.readings import Grade
from backup.inventory.records.runs import Run, find_run, open_drill
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    marks,
    needed_record,
    number_of,
    raw_rows,
    record_of,
    records,
    row_of,
    value_of,
)
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import VaultName

_DRILLS: Final = """
SELECT d.*, v.name AS vault_name, coalesce(c.cost, 0) AS cost
FROM drills d JOIN runs r ON r.number = d.run JOIN vaults v ON v.number = d.vault
LEFT JOIN (SELECT run, sum(cost) AS cost FROM drill_costs GROUP BY run) c ON c.run = d.run"""


class Drill(Struct, frozen=True):
    """A drill that was begun; `plan`, of a drill that opens: what it restores, as the driller wrote it."""

    run: Run
    name: str
    grade: Grade
    vault: VaultName
    cost: int  # millionths, all months together
    plan: bytes = b""

    @property
    def is_open(self) -> bool:
        """Whether it has no recorded end."""
        return self.run.outcome is Outcome.RUNNING


class Charge(Struct, frozen=True):
    """Money that a drill may have spent in a month: `cost` in millionths."""

    run: int
    month: int
    cost: int


def month_of(now: datetime) -> int:
    """The month of a time: months since year 0, by the calendar of UTC."""
    at = now.astimezone(UTC)
    return at.year * 12 + at.month - 1


def begin_drill(
    tx: Transaction, name: str, grade: Grade, vault: VaultName, now: datetime, plan: bytes = b""
) -> Run:
    """Record a drill before anything is requested."""
    run = open_drill(tx, now)
    number = number_of(tx, "SELECT number FROM vaults WHERE name = ?", (vault,))
    row = {"run": run.number, "name": name, "grade": grade.value, "vault": number, "plan": plan or None}
    insert_row(tx, "drills", **row)
    return run


def name_broken_drill(tx: Transaction, run: int, report: Mapping[str, Any]) -> None:
    """List a run that broke off among the drills of the name in its report; none if its vault is unknown."""
    vault = value_of(tx, "SELECT number FROM vaults WHERE name = ?", (report["vault"],))
    if vault is not None:
        grade = {"opened": Grade.OPENED, "loaded": Grade.LOADED}.get(report["grade"], Grade.READ_BACK)
        insert_row(tx, "drills", run=run, name=report["drill"], grade=grade.value, vault=vault, plan=None)


def charge(tx: Transaction, run: int, month: int, cost: int) -> None:
    """Record money before it may be spent."""
    insert_row(tx, "drill_costs", run=run, month=month, cost=cost)


def charges_of(tx: Transaction, name: str) -> list[Charge]:
    """All that drills of this name may have spent, in the order in which it was recorded."""
    sql = """SELECT c.run, c.month, c.cost FROM drill_costs c JOIN drills d ON d.run = c.run
             WHERE d.name = ? ORDER BY c.number"""
    return [Charge(*row) for row in raw_rows(tx, sql, (name,))]


def began_later_before(tx: Transaction, run: int, when: datetime) -> bool:
    """Whether a run that began after this one is dated before `when`."""
    sql = "SELECT 1 FROM runs WHERE number > ? AND started_at < ? LIMIT 1"
    return row_of(tx, sql, (run, micros(when))) is not None


def find_open(tx: Transaction, name: str, grade: Grade) -> Drill | None:
    """The drill of that name and grade that has not ended; of several the newest."""
    sql = f"""{_DRILLS} WHERE d.name = ? AND d.grade = ? AND r.outcome = ?
              ORDER BY d.run DESC LIMIT 1"""
    row = record_of(tx, sql, (name, grade.value, Outcome.RUNNING))
    return None if row is None else _drill(tx, row)


def open_runs(tx: Transaction) -> set[int]:
    """The runs of all drills that have not ended."""
    sql = "SELECT d.run FROM drills d JOIN runs r ON r.number = d.run WHERE r.outcome = ?"
    return {row[0] for row in raw_rows(tx, sql, (Outcome.RUNNING,))}


def get_drill(tx: Transaction, run: int) -> Drill:
    """The drill of a run."""
    return _drill(tx, needed_record(tx, f"{_DRILLS} WHERE d.run = ?", (run,)))


def list_drills(tx: Transaction, *, limit: int = 50) -> Sequence[Drill]:
    """The newest drills, newest first."""
    rows = records(tx, f"{_DRILLS} ORDER BY d.run DESC LIMIT ?", (limit,))
    return [_drill(tx, row) for row in rows]


def newest_of(tx: Transaction, name: str, *, outcomes: Sequence[Outcome] = ()) -> Run | None:
    """The newest run of the drill of that name, with any of the outcomes, or any at all."""
    sql = "SELECT max(d.run) FROM drills d JOIN runs r ON r.number = d.run WHERE d.name = ?"
    sql += f" AND r.outcome IN ({marks(outcomes)})" if outcomes else ""
    number = value_of(tx, sql, (name, *outcomes))
    return None if number is None else find_run(tx, number)


def keep_plan(tx: Transaction, run: int, plan: bytes) -> None:
    """Record the progress of a drill that opens."""
    changed(tx, "UPDATE drills SET plan = ? WHERE run = ?", (plan, run))


def _drill(tx: Transaction, row: Row) -> Drill:
    run = find_run(tx, row["run"])
    assert run is not None  # noqa: S101  (a foreign key)
    return Drill(
        run, row["name"], Grade(row["grade"]), VaultName(row["vault_name"]), row["cost"], row["plan"] or b""
    )
