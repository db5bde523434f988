"""The grade "read back", without a key: pieces of archives are retrieved and compared with stored hashes."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from backup.checker import read_sample
from backup.checker.report import CheckReport
from backup.driller import budget, planning
from backup.driller.context import DrillContext
from backup.driller.report import DrillReport
from backup.inventory.records import drills
from backup.inventory.records.readings import Grade, Reading
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import StepStage


def step(context: DrillContext) -> DrillReport:
    """Begin a drill, or continue the open one: "waiting" until all was read, then "done"."""
    with context.inventory.reading() as tx:
        found = drills.find_open(tx, context.name, Grade.READ_BACK)
    run = found.run.number if found is not None else begin(context)
    if run is None:
        return _report(context)
    with context.inventory.reading() as tx:
        known = drills.get_drill(tx, run)
    report = replace(_report(context), run=run, cost=known.cost)

    def may_ask_again(tx: Transaction, reading: Reading) -> bool:
        return budget.may_ask_again(tx, context, run, budget.piece_of(reading))

    def summary(checked: CheckReport) -> dict[str, object]:
        return report.read_back(checked).summary()

    at = replace(context, may_ask_again=may_ask_again)
    return report.read_back(read_sample.go_on(run, at, summary))


def begin(context: DrillContext) -> int | None:
    """Record a drill with its cost; returns the number of its run. None if nothing is stored yet."""
    chosen = planning.plan(context, Grade.READ_BACK)
    if chosen is None:
        return None
    if not chosen.pieces:
        raise planning.nothing_readable(context, chosen)

    def open_run(tx: Transaction, now: datetime) -> Run:
        return budget.begin(tx, context, Grade.READ_BACK, chosen.cost, now)

    return read_sample.begin_reading(chosen.pieces, context, chosen.limit, open_run)


def _report(context: DrillContext) -> DrillReport:
    return DrillReport(StepStage.DONE, context.name, Grade.READ_BACK, context.vault.name, context.currency)
