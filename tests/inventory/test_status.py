"""What `status` asks of the database, against the same said naively over all rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.inventory.content.snapshots import record_snapshot
from backup.inventory.questions import status
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import insert_row
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome, RunKind
from backup.model import JobName, PackKind, VaultName
from tests.support.doubles import START
from tests.support.made_up_inventories import fresh_ledger, snapshot

JOBS = ("job", "other")
NOW = micros(START)
HOUR = 3_600_000_000
OF_VAULTS = {
    *(RunKind.COMPACT, RunKind.PRUNE, RunKind.CHECK, RunKind.DRILL, RunKind.REBUILD_DRILL, RunKind.EXTEND),
}
MAY_BE_OVER = OF_VAULTS | {RunKind.COPY}
ASKED = MAY_BE_OVER | {RunKind.FORGET}
SORTS = ("read", "compared", "laws")


class Row(NamedTuple):
    """A run as it is made up: a prune, check or drill is of a vault, anything else of a job."""

    kind: RunKind
    who: int
    outcome: Outcome
    hours: int
    sort: str
    over: bool  # it broke off, and the same went well since


ROWS = st.builds(
    Row,
    st.sampled_from(RunKind),
    st.integers(0, 1),
    st.sampled_from(Outcome),
    st.integers(-5, 5),
    st.sampled_from(SORTS),
    st.sampled_from([False, False, True]),
)


def values_of(row: Row, number: int, jobs: list[int]) -> dict[str, object]:
    of_vault = row.kind in OF_VAULTS
    report: dict[str, object] = {"vault": f"v{row.who}"} if of_vault else {}
    if row.kind is RunKind.COPY:
        report = {"vault": "v"}
    if row.kind is RunKind.DRILL:
        report = {"vault": "v", "drill": f"d{row.who}", "grade": row.sort}
    if row.kind is RunKind.CHECK:
        report |= {sort: {} if sort == row.sort else None for sort in SORTS}
    if row.over:
        report["over"] = 1
    return {
        "number": number,
        "kind": row.kind,
        "job": None if of_vault else jobs[row.who],
        "outcome": row.outcome,
        "started_at": NOW + row.hours * HOUR,
        "report": None if row.outcome is Outcome.RUNNING else json.dumps(report),
    }


@pytest.fixture(scope="module")
def two_jobs() -> Iterator[tuple[Inventory, list[int]]]:
    """An inventory with two jobs, and their numbers."""
    with fresh_ledger() as ledger:
        with ledger.inventory.writing() as tx:
            other = runs.get_or_create_job(tx, JobName("other"), ledger.job.vault, b"o" * 16)
        yield ledger.inventory, [ledger.job.number, other.number]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, max_size=14))
def test_newest_runs_and_dates(two_jobs: tuple[Inventory, list[int]], rows: list[Row]) -> None:
    inventory, jobs = two_jobs
    with inventory.writing() as tx:
        tx.connection.execute("DELETE FROM runs")
        for number, row in enumerate(rows, 1):
            insert_row(tx, "runs", **values_of(row, number, jobs))
        found = status.newest_runs(tx)
        dates = status.backup_dates(tx, START)
        good = status.last_good(tx, START)
    newest: dict[tuple[object, ...], int] = {}
    for number, row in enumerate(rows, 1):
        if row.outcome is Outcome.RUNNING:
            newest[("running", number)] = number
        elif row.outcome is Outcome.INTERRUPTED:  # it says nothing, and hides nothing
            if row.kind is RunKind.BACKUP:
                newest[("interrupted", row.who)] = number
        elif row.kind not in {RunKind.RESTORE, RunKind.MARK} and not (row.over and row.kind in MAY_BE_OVER):
            sort = row.sort if row.kind in {RunKind.CHECK, RunKind.DRILL} else ""
            newest[(row.kind, row.who, sort)] = number
    assert [run.number for run in found] == sorted(newest.values(), reverse=True)
    for kind, who, outcome, reads in product(RunKind, (0, 1), (Outcome.DONE, Outcome.PARTIAL), (True, False)):
        ended = [row for row in rows if (row.kind, row.who, row.outcome) == (kind, who, outcome)]
        past = [NOW + row.hours * HOUR for row in ended if row.hours <= 0 and kind in ASKED]
        if kind is RunKind.CHECK:
            past = [
                NOW + row.hours * HOUR for row in ended if row.hours <= 0 and (row.sort == "read") == reads
            ]
        name = f"d{who}" if kind is RunKind.DRILL else f"v{who}" if kind in OF_VAULTS else JOBS[who]
        name += "@v" if kind is RunKind.COPY else ""
        found_good = good.of(kind, name, [outcome], reads_back=reads if kind is RunKind.CHECK else None)
        assert found_good == (moment(max(past)) if past else None)
    for who, name in enumerate(JOBS):
        began = [NOW + row.hours * HOUR for row in rows if row.kind is RunKind.BACKUP and row.who == who]
        assert (JobName(name) in dates) == bool(began)
        if began:
            past = [time for time in began if time <= NOW]
            expected = (moment(min(began)), moment(max(past)) if past else None, moment(max(began)))
            one = dates[JobName(name)]
            assert (one.first, one.newest, one.latest) == expected


def test_what_waits_for_whoever_deletes_elsewhere() -> None:
    """From when the last job condemned it, its floor and the minimum duration of its kind are over."""
    day, floor = timedelta(days=1), timedelta(days=30)
    minimum = {PackKind.DATA: 180 * day, PackKind.CATALOG: timedelta()}
    # Kind, state, days since it was stored, and since each job condemned it; since when it waits in days.
    rows: list[tuple[PackKind, str, int, list[int], int | None]] = [
        (PackKind.DATA, "condemned", 400, [90, 100], 60),
        (PackKind.DATA, "deleting", 220, [200], 40),
        (PackKind.DATA, "condemned", 209, [200], None),
        (PackKind.CATALOG, "condemned", 209, [200], 170),
        (PackKind.CATALOG, "condemned", 400, [59, 300], None),
        (PackKind.DATA, "stored", 400, [], None),
        (PackKind.DATA, "deleted", 400, [300], None),
    ]
    with fresh_ledger() as ledger, ledger.inventory.writing() as tx:
        other = runs.get_or_create_job(tx, JobName("other"), ledger.job.vault, b"o" * 16)
        domain = (1, b"d" * 16, ledger.job.vault, b"r" * 16, 0)
        insert_rows(tx, schema.domains, [domain])
        for number, (kind, state, stored, condemned, _) in enumerate(rows, 1):
            pack, at = number.to_bytes(16, "big"), micros(START - stored * day)
            size = 10**number
            row = (
                number,
                1,
                None,
                int(kind),
                state,
                pack,
                b"",
                size,
                b"t" * 32,
                f"a{number}",
                at,
                at,
                None,
                None,
            )
            insert_rows(tx, schema.archives, [row])
            for job, days in zip((ledger.job.number, other.number), condemned, strict=False):
                insert_rows(tx, schema.condemnations, [(number, job, micros(START - days * day))])
        vault = VaultName("v")
        found = status.undeleted(tx, vault, floor, minimum, START - 30 * day)
        assert status.undeleted(tx, VaultName("w"), floor, minimum, START) is None
        assert status.undeleted(tx, vault, floor, minimum, START - 171 * day) is None
    waiting = {number: row[4] for number, row in enumerate(rows, 1) if row[4] is not None}
    size, longest = sum(10**number for number in waiting), max(waiting.values())
    assert found == status.Undeleted(vault, len(waiting), size, START - longest * day)


def test_forgotten_snapshots_and_those_to_come_are_not_the_newest() -> None:
    with fresh_ledger() as ledger, ledger.inventory.writing() as tx:
        assert status.snapshot_dates(tx, START) == {}
        for number in range(1, 6):
            record_snapshot(tx, snapshot(ledger.job, number, f"{number:016x}"))
        day, name = timedelta(days=1), ledger.job.name
        found = status.snapshot_dates(tx, START + 3 * day)[name]
        assert (found.newest, found.latest) == (START + 3 * day, START + 5 * day)
        found = status.snapshot_dates(tx, START)[name]
        assert (found.newest, found.latest) == (None, START + 5 * day)
        table = schema.snapshots
        tx.connection.execute("UPDATE snapshots SET forgotten_at = ? WHERE number >= 4", (NOW,))
        found = status.snapshot_dates(tx, START + 9 * day)[name]
        assert (found.newest, found.latest) == (START + 3 * day, START + 3 * day)
        tx.connection.execute(f'DELETE FROM "{table.name}"')
        assert status.snapshot_dates(tx, START) == {}
