"""Glacier may not know for a while what it accepted: nothing is asked for twice, no listing dropped."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from backup.checker import read_sample
from backup.checker.check import compare_with_vault
from backup.checker.sample import Amount
from backup.inventory.content import archives
from backup.inventory.store.times import micros
from backup.model import MIB, Tier, VaultName
from backup.restorer.restore import advance, begin_restore, deliver, is_ready, plan_restore
from backup.transfer.retrievals.confirm import confirm_archives
from backup.vault.glacier import GlacierVault
from backup.wording import local_time
from tests.support.backups import Site
from tests.support.checks import check_world
from tests.support.doubles import NO_LIMIT
from tests.support.emulated import RunningEmulator
from tests.support.rebuilds import bare
from tests.support.rigs import HOUR, glacier_client
from tests.support.trees import assert_same_tree

_numbers = itertools.count()
UNKNOWN_SECONDS = 60.0


@dataclass
class EmulatorClock:
    """The clock of a machine that agrees with the emulator's."""

    emulator: RunningEmulator

    def now(self) -> datetime:
        return datetime.fromisoformat(self.emulator.now())

    def sleep(self, seconds: float) -> None:
        self.emulator.advance(seconds)


@dataclass
class Slow:
    """A site on a Glacier vault whose jobs are unknown for a minute after they were accepted."""

    site: Site
    emulator: RunningEmulator
    client: Any
    name: str

    def jobs(self, action: str) -> int:
        """How many were begun, by the service's list a while later."""
        self.emulator.advance(2 * UNKNOWN_SECONDS)
        found = self.client.list_jobs(vaultName=self.name)["JobList"]
        return sum(job["Action"] == action for job in found)


@pytest.fixture
def slow(emulator: RunningEmulator, tmp_path: Path, source: Path) -> Iterator[Slow]:
    client = glacier_client(emulator)
    name = f"slow-{next(_numbers)}"
    vault = GlacierVault(VaultName("cold"), client, name)
    vault.create()
    (source / "file").write_bytes(random.Random(3).randbytes(MIB))
    site = Site.create(tmp_path / "site", vault, [source], clock=EmulatorClock(emulator))
    site.backup()
    emulator.make_inventories()
    emulator.advance(3 * HOUR)  # so that clocks need not be exact
    emulator.make_inventories()
    emulator.set_faults([{"operation": "InitiateJob", "count": 99, "unknown_seconds": UNKNOWN_SECONDS}])
    yield Slow(site, emulator, client, name)
    emulator.set_faults([])
    site.close()


def test_a_check_keeps_the_listing_that_it_has_just_asked_for(slow: Slow) -> None:
    world = check_world(slow.site)
    for _ in range(3):
        assert compare_with_vault(world).state == "waiting"
    assert slow.jobs("InventoryRetrieval") == 1
    slow.emulator.advance(5 * HOUR)
    report = compare_with_vault(world)
    assert (report.state, report.findings) == ("done", ())
    assert slow.jobs("InventoryRetrieval") == 1


def test_a_confirmation_keeps_the_listing_that_it_has_just_asked_for(slow: Slow) -> None:
    site = slow.site
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database, database:
        database.execute("UPDATE archives SET state = 'unconfirmed'")
    for _ in range(2):
        left = confirm_archives(site.inventory, site.vault, site.clock, site.progress)
        assert left > 1
        told = "archives of vault cold are not confirmed by its list yet: what they hold is stored again"
        assert site.progress.notes[-1].startswith(f"{left} {told}")
    assert not [note for note in site.progress.notes if "gives no list" in note]
    slow.emulator.advance(5 * HOUR)
    assert confirm_archives(site.inventory, site.vault, site.clock, site.progress) == 0
    assert slow.jobs("InventoryRetrieval") == 1
    with site.inventory.reading() as tx:
        assert archives.count_unconfirmed(tx, site.vault.name) == 0


def test_where_lists_are_late_one_made_five_days_later_confirms_what_was_taken_back(slow: Slow) -> None:
    site = slow.site
    taken = site.clock.now()
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database, database:
        database.execute("UPDATE archives SET state = 'unconfirmed', taken_up_at = ?", (micros(taken),))
    confirm_archives(site.inventory, site.vault, site.clock, site.progress)
    counts = local_time(taken + timedelta(days=5))
    assert f"(one that is made after {counts} confirms them)" in site.progress.notes[-1]


def test_a_listing_that_stays_unknown_is_given_up(slow: Slow) -> None:
    slow.emulator.set_faults([{"operation": "InitiateJob", "count": 1, "unknown_seconds": 9 * HOUR}])
    world = check_world(slow.site)
    assert compare_with_vault(world).state == "waiting"
    slow.emulator.advance(HOUR)
    assert compare_with_vault(world).state == "waiting"  # it is asked for again
    slow.emulator.set_faults([])
    assert slow.jobs("InventoryRetrieval") == 2


def test_a_rebuild_asks_once(slow: Slow, tmp_path: Path) -> None:
    new = bare(tmp_path, slow.site)
    for _ in range(2):
        assert new.act().state == "waiting"
    slow.emulator.advance(5 * HOUR)
    for _ in range(2):
        assert new.act().state == "waiting"
    slow.emulator.advance(5 * HOUR)
    assert new.rebuild(wait=lambda: slow.emulator.advance(5 * HOUR)).state == "done"
    assert slow.jobs("InventoryRetrieval") == 1
    assert slow.jobs("ArchiveRetrieval") <= 2


def test_a_restore_asks_once(slow: Slow, source: Path, tmp_path: Path) -> None:
    world, out = slow.site.restore_world, tmp_path / "out"
    plan = plan_restore(slow.site.snapshot(), os.fsencode(source), world)
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [slow.site.key]
    )
    for _ in range(3):
        assert not is_ready(advance(restore, world))
    slow.emulator.advance(5 * HOUR)
    known = advance(restore, world)
    assert is_ready(known)
    deliver(restore, known, world)
    assert_same_tree(source, out)
    assert slow.jobs("ArchiveRetrieval") == len(known)


def test_a_check_that_reads_asks_once(slow: Slow) -> None:
    world = check_world(slow.site, keys=[slow.site.key])
    pieces = read_sample.plan_sample(Amount(share=Fraction(1)), world)
    run = read_sample.begin_reading(pieces, world, NO_LIMIT)
    for _ in range(3):
        assert read_sample.go_on(run, world).state == "waiting"
    slow.emulator.advance(5 * HOUR)
    report = read_sample.go_on(run, world)
    assert (report.state, report.findings) == ("done", ())
    assert slow.jobs("ArchiveRetrieval") == len(pieces)
