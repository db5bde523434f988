"""Each law of the inventory is broken once, and named; a sound one has nothing to tell."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from backup.checker.invariants import check_invariants
from backup.checker.report import CheckReport
from backup.errors import InventoryDamagedError
from backup.inventory.records import runs
from backup.inventory.store.database import open_inventory
from backup.inventory.store.invariants import INVARIANTS
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, Silent, cut_at
from tests.support.rebuilds import bare

FIRST_FILE = "(SELECT number FROM entries WHERE chunks IS NOT NULL AND length(chunks) > 0 LIMIT 1)"
FIRST_CHUNK = "(SELECT min(number) FROM chunks)"
BREACHES = {
    "counters": "UPDATE counters SET next = 2 WHERE name = 'chunks'",
    "job-counters": "UPDATE jobs SET next_catalog = 2",
    "intervals": "UPDATE entries SET removed_in = added_in WHERE number = " + FIRST_FILE,
    "snapshot-numbers": "UPDATE jobs SET next_snapshot = 2",
    "snapshots": "DELETE FROM entries WHERE number = " + FIRST_FILE,
    "owners": "UPDATE entries SET owner = 4711 WHERE number = " + FIRST_FILE,
    "content": "UPDATE entries SET content_id = NULL WHERE number = " + FIRST_FILE,
    "archives": "UPDATE archives SET archive_id = NULL WHERE number = 1",
    "uploads": "UPDATE archives SET state = 'submitted' WHERE number = 1",
    "frames": "UPDATE frames SET sealed_length = sealed_length + 9000000 WHERE archive = 1 AND number = 0",
    "chunks": f'UPDATE chunks SET "offset" = 99999999 WHERE number = {FIRST_CHUNK}',
    "staged": "INSERT INTO staged_entries SELECT 1, 4711, 1, x'00', 1, 0, 1, 0, 0, NULL, NULL, NULL, 1, 1, 0",
    "prefixes": f"DELETE FROM chunk_prefixes WHERE chunk = {FIRST_CHUNK}",
    "chunk-lists": f"DELETE FROM chunks WHERE number = {FIRST_CHUNK}",
    "content-ids": f"UPDATE chunks SET id = zeroblob(32) WHERE number = {FIRST_CHUNK}",
    "stored": "UPDATE archives SET state = 'deleted' WHERE number = 1",
    "catalogs": "UPDATE catalogs SET parent = zeroblob(16) WHERE number = (SELECT max(number) FROM catalogs)",
    "named": "DELETE FROM catalog_archives WHERE archive = 1",
    "references": "UPDATE entries SET directory = 4711 WHERE number = " + FIRST_FILE,
}

OTHER_BREACHES = (
    ("prefixes", "INSERT INTO chunk_prefixes VALUES (5, 4711)"),
    ("staged", "INSERT INTO staged_entries SELECT 1, 1, 4711, x'', 1, 0, 1, 0, 0, NULL, NULL, NULL, 1, 1, 0"),
)


def check(folder: Path, site: Site) -> CheckReport:
    inventory = open_inventory(f"sqlite:///{folder / 'inventory.sqlite'}", lock_directory=str(folder))
    try:
        return check_invariants(inventory, site.keys.secret.content_key, ManualClock(), Silent())
    finally:
        inventory.close()


def test_a_sound_inventory(site: Site) -> None:
    report = check_invariants(site.inventory, site.keys.secret.content_key, site.clock, site.progress)
    assert (report.findings, report.is_grave) == ((), False)
    assert report.laws is not None
    assert report.laws.laws >= len(BREACHES)
    assert report.laws.entries > 10
    with site.inventory.reading() as tx:
        assert (runs.list_runs(tx)[0].kind, runs.list_runs(tx)[0].outcome) == ("check", "done")


def test_each_law_is_held(site: Site, tmp_path: Path) -> None:
    assert {law.name for law in INVARIANTS} < BREACHES.keys()
    site.close()
    for number, (name, breach) in enumerate([*BREACHES.items(), *OTHER_BREACHES]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(site.folder / "inventory.sqlite", folder)
        with sqlite3.connect(folder / "inventory.sqlite") as database:
            assert database.execute(breach).rowcount > 0, name
        database.close()
        report = check(folder, site)
        assert name in {finding.what for finding in report.findings if finding.kind == "law"}, (
            name,
            report.findings,
        )
        assert report.is_grave


def test_a_damaged_file(site: Site, tmp_path: Path) -> None:
    """A page in the middle is turned over: SQLite says so, or refuses to read on; never is all well."""
    site.close()
    path = site.folder / "inventory.sqlite"
    with path.open("r+b") as file:
        file.seek(os.path.getsize(path) // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    try:
        report = check(site.folder, site)
    except InventoryDamagedError as error:
        told = {"rebuild" if "rebuild" in error.advice else error.advice}
    else:
        told = {finding.what for finding in report.findings}
        assert report.run is None, "nothing is written into a damaged file"
    assert told & {"rebuild", "integrity"}


def test_what_is_known_as_lost_is_told(site: Site) -> None:
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE archives SET state = 'lost' WHERE number = 1")
    report = check_invariants(site.inventory, site.keys.secret.content_key, site.clock, site.progress)
    assert report.findings == ()
    assert report.affected.files > 0
    assert report.is_grave


@pytest.mark.parametrize("size", [3, 20_000])
def test_batches_of_any_size_find_the_same(site: Site, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("backup.checker.invariants.NUMBERS_A_BATCH", size)
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE chunks SET length = length - 1")
    (tally,) = [
        finding
        for finding in check_invariants(
            site.inventory, site.keys.secret.content_key, site.clock, site.progress
        ).findings
        if finding.what == "content-ids"
    ]
    with site.inventory.reading() as tx:
        count = tx.connection.execute(
            "SELECT count(*) FROM entries WHERE chunks IS NOT NULL AND length(chunks) > 0"
        ).fetchone()[0]
    assert f"not so {count} times" in tally.detail


def test_a_rebuilt_inventory_keeps_them(site: Site, tmp_path: Path) -> None:
    machine = bare(tmp_path, site)
    machine.rebuild()
    after = machine.site()
    report = check_invariants(after.inventory, after.keys.secret.content_key, after.clock, after.progress)
    assert report.findings == ()
    after.close()


def test_they_hold_while_a_run_is_cut_off(site: Site, source: Path) -> None:
    """At each call that a backup sends to the vault, what is recorded then contradicts nothing."""
    (source / "more").write_bytes(os.urandom(1_500_000))
    cuts = 0
    for call in range(0, 40, 3):
        faulty = FaultyVault(site.vault, cut_at(call))
        there = site.reopen(faulty)
        try:
            there.backup()
        except PowerCut:
            cuts += 1
        key = site.keys.secret.content_key
        assert check_invariants(there.inventory, key, site.clock, site.progress).findings == ()
        there.close()
        if not faulty.faults[0].met:
            break
    assert cuts >= 3, "each goes further than the one before"
