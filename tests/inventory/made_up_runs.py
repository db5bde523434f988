"""Runs made up, what refers to them, and everything that the program asks about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from backup.driller.money import first_of, spent
from backup.inventory.content.snapshots import record_snapshot
from backup.inventory.questions import stats, status
from backup.inventory.records import drills, retrievals, runs
from backup.inventory.records.drills import month_of
from backup.inventory.records.readings import Grade
from backup.inventory.store import message_tables, schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.drill_tables import drill_costs
from backup.inventory.store.drill_tables import drills as drill_table
from backup.inventory.store.driver import insert_row
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.retention.unusual import NIGHTS
from tests.support.doubles import START
from tests.support.made_up_inventories import Ledger, snapshot

NOW, DAY = START, timedelta(days=1)
KEEP = timedelta(days=90)
JOBS, VAULTS, NAMES = ("job", "other"), ("v", "w"), ("weekly", "yearly")
OF_VAULTS = frozenset({RunKind.PRUNE, RunKind.CHECK, RunKind.DRILL, RunKind.REBUILD_DRILL})
SORTS: Sequence[dict[str, Any]] = (
    {"read": {}, "policy": {"keep_last": 3}, "fetched": 0, "seconds": 1},
    {"compared": {}, "policy": None, "fetched": 2**30, "seconds": 9},
    {"laws": {}, "taken_back": 1, "fetched": 2**30, "seconds": 0},
)
TABLES = (
    *(drill_costs, drill_table, message_tables.messages, schema.readings, schema.archives, schema.domains),
    schema.staged_entries,
    *(schema.retrievals, schema.restores, schema.snapshots, schema.runs),
)


class Row(NamedTuple):
    """A run as it is made up; `pace` days after the one before it, whose clock was `ahead` by so many."""

    kind: RunKind
    who: int
    outcome: Outcome
    sort: int
    pace: int
    ahead: int
    hours: int
    needed_by: str
    month: int


ENDED = [outcome for outcome in Outcome if outcome is not Outcome.RUNNING]


def fill(tx: Transaction, ledger: Ledger, rows: Sequence[Row]) -> None:
    """The rows, the last of which began some days ago."""
    for table in TABLES:
        tx.connection.execute(f'DELETE FROM "{table.name}"')
    values = {"number": 1, "id": b"d", "vault": 1, "recipients": b"", "created_at": 0}
    insert_row(tx, "domains", **values)
    at = NOW - timedelta(days=sum(row.pace for row in rows))
    made = []
    for number, row in enumerate(rows, 1):
        at += timedelta(days=row.pace)
        made.append(values_of(number, row, at + timedelta(days=row.ahead)))
    for run in made:
        insert_row(tx, "runs", **run)
    for number, row in enumerate(rows, 1):
        if row.kind is RunKind.DRILL:
            add_drill(tx, number, row, made[number - 1]["started_at"])
        if row.needed_by:
            need(tx, ledger, number, row)


def values_of(number: int, row: Row, at: datetime) -> dict[str, Any]:
    """One run as values of its row."""
    is_running = row.outcome is Outcome.RUNNING
    report = SORTS[row.sort] | {"number": number}
    if row.kind is not RunKind.FORGET:
        report = {key: value for key, value in report.items() if key not in {"policy", "taken_back"}}
    if row.kind in OF_VAULTS:
        report |= {"vault": VAULTS[row.who]}
    if row.kind is RunKind.DRILL:
        report |= {"drill": NAMES[row.sort % 2], "grade": "read back"}
    return {
        "number": number,
        "kind": row.kind,
        "job": None if row.kind in OF_VAULTS else row.who + 1,
        "outcome": row.outcome,
        "started_at": micros(at),
        "finished_at": None if is_running else micros(at + timedelta(hours=row.hours)),
        "report": None if is_running else json.dumps(report),
    }


def add_drill(tx: Transaction, run: int, row: Row, began: int) -> None:
    """What a drill proves, and what it may have cost."""
    grade = Grade.OPENED if row.sort else Grade.READ_BACK
    insert_row(tx, drill_table.name, run=run, name=NAMES[row.sort % 2], grade=grade, vault=1)
    month = month_of(moment(began)) + row.month
    insert_row(tx, drill_costs.name, run=run, month=month, cost=10**6 + run)


def need(tx: Transaction, ledger: Ledger, run: int, row: Row) -> None:
    """Something that refers to a run."""
    if row.needed_by == "snapshot":
        record_snapshot(tx, snapshot(ledger.job, run, f"{run:016x}"))
        tx.connection.execute("UPDATE snapshots SET run = number WHERE number = ?", (run,))
    elif row.needed_by in {"archive", "reading"}:
        values = {"number": run, "domain": 1, "run": run, "kind": 1, "state": "stored", "size": 1}
        values |= {"pack_id": b"%d" % run, "header": b"", "tree_hash": b"t" * 32, "submitted_at": 0}
        if row.needed_by == "reading":
            values["run"] = None
        insert_row(tx, "archives", **values)
        if row.needed_by == "reading":
            piece: dict[str, Any] = {
                "run": run,
                "archive": run,
                "start": 0,
                "end": 1,
                "asked_from": 0,
                "asked_to": 1,
            }
            piece |= {"tier": "bulk", "token": f"t{run}", "state": "read"}
            insert_row(tx, "readings", **piece)
    elif row.needed_by == "staged":
        entry = {"directory": 1, "name": b"n", "kind": 1, "mode": 0, "owner": 1, "mtime_ns": 0, "size": 0}
        hint = {"inode": 1, "ctime_ns": 0, "is_mount": 0}
        insert_row(tx, "staged_entries", run=run, **entry, **hint)
    elif row.needed_by == "message":
        values = {"key": f"k{run}", "kind": "run", "run": run, "created_at": 0, "title": "", "document": "{}"}
        insert_row(tx, "messages", **values)


def answers(tx: Transaction, now: datetime) -> dict[str, Any]:
    """Everything that the program asks about runs, but for the lists that people read."""
    jobs = [job for name in JOBS if (job := runs.find_job(tx, JobName(name))) is not None]
    found: dict[str, Any] = {
        "status": status.newest_runs(tx),
        "dates": status.backup_dates(tx, now),
        "good": status.last_good(tx, now),
        "nights": [run for run in stats.backup_runs(tx, now - 30 * DAY) if run.started_at <= now],
        "speed": retrievals.restore_speed(tx, least=2**20),
        "longest": runs.longest_run(tx),
        "open drills": drills.open_runs(tx),
    }
    for job in jobs:
        newest = [runs.newest_of_kind(tx, job.name, kind) for kind in RunKind]
        usual = runs.reports_before(tx, job.name, 10**6, limit=NIGHTS)
        by_policy = runs.last_policy_run(tx, job.name)
        found[job.name] = newest, usual, by_policy, runs.last_report(tx, job, before=10**6)
    for kind in OF_VAULTS:
        found[kind] = [runs.last_of_vault(tx, kind, VaultName(vault)) for vault in VAULTS]
    for name in NAMES:
        ends = [drills.newest_of(tx, name, outcomes=some) for some in ((), (Outcome.DONE,), tuple(ENDED))]
        found[name] = [*ends, *(drills.find_open(tx, name, grade) for grade in Grade), money(tx, name, now)]
    return found


def money(tx: Transaction, name: str, now: datetime) -> int:
    """What the month has had of a drill's money."""
    month = month_of(now)
    begin = first_of(month)
    charges = drills.charges_of(tx, name)
    return spent(charges, month, lambda run: drills.began_later_before(tx, run, begin))


def numbers(tx: Transaction) -> set[int]:
    """The runs that are there."""
    return {run.number for run in runs.list_runs(tx, limit=10**6)}


def plain(kind: RunKind, pace: int, *, who: int = 0, outcome: Outcome = Outcome.DONE) -> Row:
    return Row(kind, who, outcome, 0, pace, 0, 1, "", 0)
