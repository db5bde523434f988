"""Sums for statistics: which archives count, to which job they belong, and what nights and requests tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backup.format.pack import describe
from backup.inventory.content.archives import ArchiveState
from backup.inventory.questions import stats
from backup.inventory.store import schema
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import insert_row
from backup.inventory.store.times import micros
from backup.model import MIB, ArchiveLabel, Generation, InventoryId, PackId, PackKind, Tier
from tests.support.made_up_inventories import fresh_ledger

MONDAY = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
DATA, CATALOG = PackKind.DATA, PackKind.CATALOG


@dataclass
class Rows:
    """An inventory with one vault and two jobs, `job` (1) and `other` (2), into which rows are put."""

    inventory: Inventory
    archives: int = 0
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)

    def put(self, table: Any, **values: Any) -> None:
        with self.inventory.writing() as tx:
            insert_row(tx, table.name, **values)

    def run(self, job: int | None, at: datetime = MONDAY, **values: Any) -> int:
        """A backup that began then; with `report` it is done."""
        given = {"kind": "backup", "outcome": "done", "started_at": micros(at), "job": job} | values
        given["report"] = json.dumps(given.get("report", {}))
        with self.inventory.writing() as tx:
            return insert_row(tx, "runs", **given)

    def archive(self, size: int, run: int | None = None, at: datetime = MONDAY, **values: Any) -> int:
        """A stored archive of data, with two frames."""
        self.archives += 1
        number, at_ = self.archives, micros(at)
        given: dict[str, Any] = {
            "number": number,
            "domain": 1,
            "run": run,
            "kind": 1,
            "state": ArchiveState.STORED,
        }
        given |= {"pack_id": b"%016d" % number, "header": b"", "size": size, "tree_hash": b"t"}
        given |= {"archive_id": f"id{number}", "submitted_at": at_, "stored_at": at_}
        self.put(schema.archives, **(given | values))
        for frame in range(2):
            place = {"archive": number, "number": frame, "offset": 0}
            told = {"sealed_length": size // 4, "raw_length": size, "flags": 0, "digest": b"d"}
            self.put(schema.frames, **place, **told)
        return number

    def catalog(self, job: int, number: int, names: list[int], at: datetime = MONDAY, **values: Any) -> int:
        """A catalog of a job that names these archives."""
        archive = self.archive(1000, at=at, kind=CATALOG, **values)
        self.put(schema.catalogs, archive=archive, job=job, number=number, generation=1)
        for name in names:
            self.put(schema.catalog_archives, catalog=archive, archive=name)
        return archive

    def stored(self) -> list[stats.Stored]:
        with self.inventory.reading() as tx:
            return stats.stored(tx)

    def owners(self) -> dict[int, str | None]:
        """The jobs of archives of data, by the sum of their sizes."""
        return {row.bytes: row.job for row in self.stored() if row.kind is DATA}


@pytest.fixture
def rows() -> Iterator[Rows]:
    with fresh_ledger() as ledger:
        found = Rows(ledger.inventory)
        found.put(schema.jobs, id=b"o" * 16, name="other", vault=1, next_snapshot=1, next_catalog=1)
        found.put(schema.domains, id=b"d" * 16, vault=1, recipients=b"", created_at=0)
        yield found


def test_an_empty_inventory(rows: Rows) -> None:
    with rows.inventory.reading() as tx:
        found = [
            *(stats.stored(tx), stats.snapshots(tx), stats.versions(tx), stats.backup_runs(tx, MONDAY)),
            *(stats.uploads(tx, MONDAY), stats.retrieved(tx, MONDAY), stats.shared(tx), stats.unknown(tx)),
        ]
    assert found == [[]] * 8


def test_what_is_deleted_lost_or_on_its_way_costs_nothing(rows: Rows) -> None:
    """Of all states, those count in which the archive lies in its vault."""
    for place, state in enumerate(ArchiveState):
        rows.archive(2**place, state=state)
    states = list(ArchiveState)
    there = set(states) - {"submitted", "deleted", "lost"}
    condemned = 2 ** states.index(ArchiveState.CONDEMNED)
    found = rows.stored()
    assert sum(row.bytes for row in found) == sum(2 ** states.index(ArchiveState(state)) for state in there)
    assert [row.bytes for row in found if row.is_condemned] == [condemned]


def test_sums_by_day_job_and_kind(rows: Rows) -> None:
    run, other = rows.run(1), rows.run(2)
    evening = MONDAY.replace(hour=23, minute=59)
    rows.archive(400, run)
    rows.archive(600, run, at=evening)
    rows.archive(800, run, at=evening + timedelta(minutes=1))
    rows.archive(100, other)
    rows.catalog(1, 1, [], run=run)
    monday, tuesday = date(2026, 11, 23), date(2026, 11, 24)
    found = rows.stored()
    assert [
        (row.day, row.job, row.kind, row.archives, row.bytes, row.raw, row.sealed) for row in found
    ] == [
        (monday, "job", DATA, 2, 1000, 2000, 500),
        (monday, "job", CATALOG, 1, 1000, 2000, 500),
        (monday, "other", DATA, 1, 100, 200, 50),
        (tuesday, "job", DATA, 1, 800, 1600, 400),
    ]  # fmt: skip


def test_after_a_rebuild_the_first_catalog_that_names_it_says_whose_an_archive_is(rows: Rows) -> None:
    for size in (1, 2, 4, 8):
        rows.archive(size)
    later = MONDAY + timedelta(days=1)
    rows.catalog(2, 7, [1, 2], at=later)
    rows.catalog(1, 9, [2, 3])
    rows.catalog(1, 10, [1], at=later + timedelta(hours=1))
    assert rows.owners() == {1: "other", 2 + 4: "job", 8: None}
    assert {row.job for row in rows.stored() if row.kind is CATALOG} == {"job", "other"}


def test_what_only_the_newest_list_of_the_vault_shows_is_billed_and_no_jobs(rows: Rows) -> None:
    rows.archive(400)
    label = ArchiveLabel(CATALOG, PackId(b"p" * 16), InventoryId(b"i" * 16), 7, Generation.FULL, b"j" * 16)
    lines = [("id1", "", 400), ("catalog", describe(label), 1000), ("what", "of somebody else", 70)]
    for listing, shown in ((1, [("gone since", "", 1)]), (2, lines)):
        at = micros(MONDAY) + listing
        given = {"vault": 1, "token": f"t{listing}", "state": "kept", "requested_at": at, "as_of": at}
        rows.put(schema.listings, number=listing, **given)
        for name, description, size in shown:
            line = {"archive_id": name, "description": description, "size": size, "created_at": at}
            rows.put(schema.listed_archives, listing=listing, **line)
    rows.put(schema.listings, number=3, **(given | {"token": "t3", "state": "waiting"}))
    with rows.inventory.reading() as tx:
        found = stats.unknown(tx)
    assert [(row.job, row.kind, row.day, row.archives, row.bytes, row.short) for row in found] == [
        (None, DATA, date(2026, 11, 23), 1, 70, 128 * 1024 - 70),
        (None, CATALOG, date(2026, 11, 23), 1, 1000, 128 * 1024 - 1000),
    ]


def test_a_run_says_it_better_than_a_catalog(rows: Rows) -> None:
    rows.archive(1, rows.run(2))
    rows.archive(2)
    rows.catalog(1, 1, [1, 2])
    assert rows.owners() == {1: "other", 2: "job"}


def test_archives_that_another_job_needs_too(rows: Rows) -> None:
    mine, theirs = rows.run(1), rows.run(2)
    rows.archive(10, mine)
    rows.archive(20, mine)
    rows.archive(30, theirs)
    rows.archive(40, mine, state=ArchiveState.DELETED)
    rows.catalog(1, 1, [1, 2, 4], run=mine)
    for number in (1, 2):
        rows.catalog(2, number, [1, 3, 4], run=theirs)
    with rows.inventory.reading() as tx:
        assert [(shared.job, shared.other, shared.archives, shared.bytes) for shared in stats.shared(tx)] == [
            ("job", "other", 1, 10)
        ]


def test_nights(rows: Rows) -> None:
    """A run whose report was lost is told by its archives; a failed one made no snapshot, but stored."""
    day = timedelta(days=1)
    rows.run(1, MONDAY - 9 * day)
    failed = rows.run(1, MONDAY - 2 * day, outcome="failed", report={"error": "no network"})
    rows.archive(7, failed)
    recovered = rows.run(1, MONDAY - day, report={"recovered": True, "files": 3})
    rows.archive(100, recovered)
    rows.archive(50, recovered, state=ArchiveState.DELETED)
    rows.catalog(1, 1, [], run=recovered)
    rows.run(1, MONDAY, report={"bytes_uploaded": 5000, "files_read": 12})
    rows.run(1, MONDAY, outcome="running")
    rows.run(1, MONDAY, kind="check")
    with rows.inventory.reading() as tx:
        found = stats.backup_runs(tx, MONDAY - 2 * day)
        assert stats.backup_runs(tx, MONDAY - 10 * day)[0].is_first
    assert [run.started_at for run in found] == [MONDAY - 2 * day, MONDAY - day, MONDAY]
    assert [run.made_snapshot for run in found] == [False, True, True]
    assert [run.bytes_uploaded for run in found] == [7, 1100, 5000]
    assert [run.files_read for run in found] == [None, None, 12]
    assert [(run.data_archives, run.data_bytes) for run in found] == [(1, 7), (1, 100), (0, 0)]
    assert [(run.catalogs, run.catalog_bytes) for run in found] == [(0, 0), (1, 1000), (0, 0)]
    assert not any(run.is_first for run in found)


def test_runs_before_the_first_snapshot_belong_to_the_first(rows: Rows) -> None:
    rows.run(2, report={})
    for outcome in ("failed", "interrupted", "partial", "done"):
        rows.run(1, outcome=outcome)
    rows.run(2, outcome="failed")
    with rows.inventory.reading() as tx:
        found = [(run.job, run.is_first) for run in stats.backup_runs(tx, MONDAY)]
    first = [("job", True)] * 3 + [("job", False)]
    assert found == [("other", True), *first, ("other", False)]


def test_uploads_by_size_whatever_became_of_them(rows: Rows) -> None:
    run = rows.run(1)
    for size in (1, MIB, MIB + 1, 3 * MIB):
        rows.archive(size, run)
    rows.archive(2 * MIB, run, state=ArchiveState.DELETED)
    rows.archive(9 * MIB, run, at=MONDAY - timedelta(seconds=1))
    rows.archive(9 * MIB, run, state=ArchiveState.SUBMITTED, archive_id=None, stored_at=None)
    with rows.inventory.reading() as tx:
        assert [(row.mib, row.archives) for row in stats.uploads(tx, MONDAY)] == [(1, 2), (2, 2), (3, 1)]


def test_retrievals_of_restores_and_checks(rows: Rows) -> None:
    """One output that serves two restores was paid for once; one that was never requested, not at all."""
    run = rows.run(1)
    archive = rows.archive(9 * MIB, run)
    snapshot = {"id": "s" * 16, "job": 1, "number": 1, "started_at": 0, "finished_at": 0, "host": "h"}
    rows.put(schema.snapshots, **snapshot, sources=b"", problems=b"", files=0, bytes=0)
    at = micros(MONDAY)
    for number in (1, 2):
        named = {"number": number, "id": f"r{number}", "snapshot": "s" * 16, "vault": 1, "path": b"/"}
        rows.put(schema.restores, **named, target=b"/t", tier="bulk", state="open", created_at=at)
        for token in range(3):
            asked = {"retrieval_id": f"job{token}", "requested_at": at, "asked_from": 0, "asked_to": 4 * MIB}
            place = {"restore": number, "archive": archive, "start": MIB, "end": 2 * MIB}
            never = {"state": "planned"}
            told = {"state": "ready", **asked} if token < 2 else never
            rows.put(schema.retrievals, **place, tier="bulk", token=f"{number}-{token}", **told)
    with rows.inventory.writing() as tx:
        tx.connection.execute("UPDATE retrievals SET requested_at = ? WHERE retrieval_id = 'job1'", (at - 1,))
    reading = {"run": run, "archive": archive, "start": 0, "end": 1, "asked_from": 0, "asked_to": MIB}
    asked = {"tier": "standard", "token": "t", "retrieval_id": "x", "state": "read", "requested_at": at}
    rows.put(schema.readings, **reading, **asked)
    with rows.inventory.reading() as tx:
        found = [(row.job, row.tier, row.requests, row.bytes) for row in stats.retrieved(tx, MONDAY)]
    assert found == [("job", Tier.BULK, 1, 4 * MIB), ("job", Tier.STANDARD, 1, MIB)]


def test_snapshots_and_versions(rows: Rows) -> None:
    more = {"started_at": 0, "finished_at": 0, "host": "h", "sources": b"", "problems": b""}
    for number, size in ((1, 100), (2, 90), (3, 500)):
        rows.put(schema.snapshots, id=f"a{number}", job=1, number=number, files=number, bytes=size, **more)
    rows.put(schema.snapshots, id="a4", job=1, number=4, files=77, bytes=777, forgotten_at=5, **more)
    rows.put(schema.snapshots, id="b1", job=2, number=1, files=9, bytes=9, forgotten_at=5, **more)
    rows.put(schema.owners, number=1, uid=0, gid=0, user="", group="")
    rows.put(schema.directories, number=1, job=1, path=b"/")
    entry = {"directory": 1, "mode": 0, "owner": 1, "mtime_ns": 0}
    for number, (kind, size, removed) in enumerate([(1, 10, 2), (1, 20, None), (2, 0, None), (1, 5, None)]):
        rows.put(
            schema.entries, name=b"%d" % number, kind=kind, size=size, added_in=1, removed_in=removed, **entry
        )
    with rows.inventory.reading() as tx:
        found, files = stats.snapshots(tx), stats.versions(tx)
    assert [(contents.job, contents.count, contents.bytes) for contents in found] == [
        ("job", 3, 690),
        ("other", 0, 0),
    ]
    assert [(contents.newest_files, contents.newest_bytes, contents.forgotten) for contents in found] == [
        (3, 500, 1),
        (0, 0, 1),
    ]
    assert [(contents.job, contents.count, contents.bytes) for contents in files] == [("job", 3, 35)]
