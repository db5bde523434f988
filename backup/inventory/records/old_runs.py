"""Old runs with their drills, and restores that ended long ago: removing those that nothing needs.

A run is old if a later one, by its number, began before the day from which everything is kept, or is the
first that began after it: a clock that was wrong for a while makes no run old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from backup.inventory.records.drills import month_of
from backup.inventory.records.ended_runs import NEWEST_ENDED
from backup.inventory.records.retrievals import RESTORES_MEASURED
from backup.inventory.records.runs import LONGEST_RUN
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import changed, numerals, raw_rows, row_of
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros

ENOUGH_BACKUPS: Final = 40
"""So many of a job's good backups stay, however old: by the thirty before it a night is called unusual."""

_BATCH: Final = 2_000  # rows of a transaction, so that others need not wait for long
_GOOD: Final = "kind = 'backup' AND outcome IN ('done', 'partial')"
_TOOK: Final = "finished_at - started_at"

# The runs that stay, however old they are, by what needs them; `?` is now.
_NEEDED: Final = (
    # Rows that are there: each needs its run's job or time.
    "SELECT run FROM snapshots WHERE run IS NOT NULL",
    "SELECT run FROM archives WHERE run IS NOT NULL",
    "SELECT run FROM readings",
    "SELECT run FROM messages WHERE run IS NOT NULL",
    *(f"SELECT run FROM staged_{name}" for name in ("entries", "removals", "hints")),
    # What `status` shows, and when each task is due next: the newest with each end.
    NEWEST_ENDED,
    """SELECT max(number) FROM runs
       GROUP BY kind, job, outcome, json_extract(report, '$.vault'),
                coalesce(report, '') LIKE '%"taken_%', coalesce(report, '') LIKE '%"policy": null%'""",
    "SELECT max(d.run) FROM drills d JOIN runs r ON r.number = d.run GROUP BY d.name, d.grade, r.outcome",
    # Dates of jobs and vaults, which go by the clock. SQLite gives the number of the row with that date.
    "SELECT number FROM (SELECT number, min(started_at) FROM runs WHERE kind = 'backup' GROUP BY job)",
    "SELECT number FROM (SELECT number, max(started_at) FROM runs WHERE kind = 'backup' GROUP BY job)",
    """SELECT number FROM (SELECT number, max(started_at) FROM runs WHERE started_at <= ?
       GROUP BY kind, job, outcome, json_extract(report, '$.vault'), json_extract(report, '$.drill'),
                json_type(report, '$.read'), coalesce(report, '') LIKE '%"taken_%',
                coalesce(report, '') LIKE '%"policy": null%')""",
    # A job's first good backup, which statistics leave out; its newest, by which a night is usual or not.
    f"SELECT min(number) FROM runs WHERE {_GOOD} GROUP BY job",
    f"""SELECT number FROM (
            SELECT number, row_number() OVER (PARTITION BY job ORDER BY number DESC) AS place
            FROM runs WHERE {_GOOD}) WHERE place <= {ENOUGH_BACKUPS}""",
    # How long a backup takes, which a prune's grace covers, and how fast a restore is.
    f"""SELECT number FROM (SELECT number, max({_TOOK}) FROM runs
                            WHERE {_GOOD} AND {_TOOK} < {LONGEST_RUN} GROUP BY kind)""",
    f"""SELECT number FROM (SELECT number FROM runs WHERE kind = 'restore' AND report IS NOT NULL
                            ORDER BY number DESC LIMIT {RESTORES_MEASURED})""",
)
_FIRST_KEPT: Final = "SELECT min(number) FROM runs WHERE started_at >= ? AND started_at <= ?"
# The newest of the old stays: by its date it is seen that a clock was ahead when a drill's cost was recorded.
_OLD_RUNS: Final = f"""
SELECT number FROM runs
WHERE number < ? AND outcome <> 'running'
  AND number NOT IN (SELECT run FROM drill_costs WHERE month >= ?)
  AND number <> (SELECT coalesce(max(number), 0) FROM runs WHERE number < ? AND started_at < ?)
  AND number NOT IN ({" UNION ALL ".join(_NEEDED)})
ORDER BY number LIMIT ?"""
_OLD_RESTORES: Final = f"""
SELECT number FROM restores WHERE state <> '{RestoreStage.OPEN}'
  AND created_at < ? AND coalesce(finished_at, created_at) < ?
ORDER BY number LIMIT ?"""
_OF_RUNS: Final = (("drill_costs", "run"), ("drills", "run"), ("runs", "number"))
_OF_RESTORES: Final = (("retrievals", "restore"), ("restores", "number"))
_NO_LIMIT: Final = -1


class OldRuns(Struct, frozen=True):
    """The runs and restores from before a time that nothing needs."""

    before: datetime
    runs: int = 0
    restores: int = 0


def find_old_runs(tx: Transaction, keep: timedelta, now: datetime) -> OldRuns:
    """The numbers of runs and restores that are older than `keep` and that nothing needs."""
    before = now - keep
    return OldRuns(
        before,
        len(_old_runs(tx, before, now, _NO_LIMIT)),
        len(_old_restores(tx, before, _NO_LIMIT)),
    )


def remove_old_runs(inventory: Inventory, keep: timedelta, now: datetime) -> OldRuns:
    """Delete what is older than `keep`, and needed by nothing; the free pages are used again.

    Some thousand rows in each transaction, chosen in it: whatever comes to need one meanwhile keeps it.
    """
    before = now - keep
    restores = _delete_all(inventory, _OF_RESTORES, lambda tx: _old_restores(tx, before, _BATCH))
    runs = _delete_all(inventory, _OF_RUNS, lambda tx: _old_runs(tx, before, now, _BATCH))
    return OldRuns(before, runs, restores)


def _old_runs(tx: Transaction, before: datetime, now: datetime, most: int) -> list[int]:
    (first,) = row_of(tx, _FIRST_KEPT, (micros(before), micros(now)))
    if first is None:
        return []
    times = [micros(now)] * sum(needed.count("?") for needed in _NEEDED)
    values = (first, month_of(now), first, micros(before), *times, most)
    return [number for (number,) in raw_rows(tx, _OLD_RUNS, values)]


def _old_restores(tx: Transaction, before: datetime, most: int) -> list[int]:
    return [number for (number,) in raw_rows(tx, _OLD_RESTORES, (micros(before), micros(before), most))]


def _delete_all(
    inventory: Inventory, tables: Sequence[tuple[str, str]], find: Callable[[Transaction], Sequence[int]]
) -> int:
    """Delete what is found, a batch in each transaction; returns how many."""
    count, found = 0, _BATCH
    while found == _BATCH:
        with inventory.writing() as tx:
            numbers = find(tx)
            among = numerals(numbers)
            for table, column in tables if numbers else ():
                changed(tx, f"DELETE FROM {table} WHERE {column} IN ({among})", ())
        found = len(numbers)
        count += found
    return count
