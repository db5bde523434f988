"""Queries for drills: what each is to prove, and what it may have cost; rows before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, func, insert, select, update

from backup.inventory.database import Transaction
from backup.inventory.drill_tables import drill_costs, drills
from backup.inventory.readings import Grade
from backup.inventory.runs import Outcome, Run, find_run, open_drill
from backup.inventory.schema import micros, runs, vaults
from backup.model import VaultName


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill that was begun; `plan` says what one that opens restores, as the driller wrote it."""

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


@dataclass(frozen=True, slots=True)
class Charge:
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
    """Record a drill before anything is asked for."""
    run = open_drill(tx, now)
    number = tx.execute(select(vaults.c.number).where(vaults.c.name == vault)).scalar_one()
    row = {"run": run.number, "name": name, "grade": grade.value, "vault": number, "plan": plan or None}
    tx.execute(insert(drills).values(**row))
    return run


def charge(tx: Transaction, run: int, month: int, cost: int) -> None:
    """Record money before it may be spent."""
    tx.execute(insert(drill_costs).values(run=run, month=month, cost=cost))


def charges_of(tx: Transaction, name: str) -> list[Charge]:
    """All that drills of this name may have spent, in the order in which it was recorded."""
    query = select(drill_costs.c.run, drill_costs.c.month, drill_costs.c.cost).join(drills)
    rows = tx.execute(query.where(drills.c.name == name).order_by(drill_costs.c.number))
    return [Charge(row.run, row.month, row.cost) for row in rows]


def began_later_before(tx: Transaction, run: int, when: datetime) -> bool:
    """Whether a run that began after this one is dated before `when`."""
    query = select(runs.c.number).where(runs.c.number > run, runs.c.started_at < micros(when)).limit(1)
    return tx.execute(query).first() is not None


def find_open(tx: Transaction, name: str, grade: Grade) -> Drill | None:
    """The drill of that name and grade that has not ended; of several the newest."""
    query = _query().where(drills.c.name == name, drills.c.grade == grade.value)
    query = query.where(runs.c.outcome == Outcome.RUNNING)
    row = tx.execute(query.order_by(drills.c.run.desc()).limit(1)).first()
    return None if row is None else _drill(tx, row)


def open_runs(tx: Transaction) -> set[int]:
    """The runs of all drills that have not ended."""
    query = select(drills.c.run).join(runs, runs.c.number == drills.c.run)
    return set(tx.execute(query.where(runs.c.outcome == Outcome.RUNNING)).scalars())


def get_drill(tx: Transaction, run: int) -> Drill:
    """The drill of a run."""
    return _drill(tx, tx.execute(_query().where(drills.c.run == run)).one())


def list_drills(tx: Transaction, *, limit: int = 50) -> Sequence[Drill]:
    """The newest drills, newest first."""
    query = _query().order_by(drills.c.run.desc()).limit(limit)
    return [_drill(tx, row) for row in tx.execute(query)]


def newest_of(tx: Transaction, name: str, *, outcomes: Sequence[Outcome] = ()) -> Run | None:
    """The newest run of the drill of that name, with any of the outcomes, or any at all."""
    query = select(func.max(drills.c.run)).where(drills.c.name == name)
    if outcomes:
        query = query.join(runs, runs.c.number == drills.c.run).where(runs.c.outcome.in_(outcomes))
    number = tx.execute(query).scalar()
    return None if number is None else find_run(tx, number)


def keep_plan(tx: Transaction, run: int, plan: bytes) -> None:
    """Record how far a drill that opens has come."""
    tx.execute(update(drills).where(drills.c.run == run).values(plan=plan))


def _query() -> Select[Any]:
    costs = select(drill_costs.c.run, func.sum(drill_costs.c.cost).label("cost")).group_by(drill_costs.c.run)
    sums = costs.subquery()
    return (
        select(drills, vaults.c.name.label("vault_name"), func.coalesce(sums.c.cost, 0).label("cost"))
        .join(runs, runs.c.number == drills.c.run)
        .join(vaults, vaults.c.number == drills.c.vault)
        .join(sums, sums.c.run == drills.c.run, isouter=True)
    )


def _drill(tx: Transaction, row: Row[Any]) -> Drill:
    run = find_run(tx, row.run)
    assert run is not None  # noqa: S101  (a foreign key)
    return Drill(run, row.name, Grade(row.grade), VaultName(row.vault_name), row.cost, row.plan or b"")
