"""Years of renewals in a vault of three jobs, whose content grows, is forgotten and pruned.

Three of them, or as many as `NIGHTVAULT_TEST_LOCK_YEARS` says: ten before a release.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.app.money.prices import builtin_table
from backup.cost import Price
from backup.errors import NightvaultError
from backup.format import records
from backup.inventory.content.locks import needed_keys
from backup.inventory.store.times import micros
from backup.locker.extend import extend
from backup.locker.report import ExtendReport
from backup.model import ArchiveId, JobName
from backup.pruner.needed import needed_archives
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.integrity import list_now
from tests.support.locked_vaults import IDENTITY, RULES, LockedDirectory, lock_context
from tests.support.nightly_servers import DAY
from tests.support.trees import assert_same_tree, snapshot_of

TICK = 10
"""The days from renewal to renewal: a step."""
DAYS = 365 * int(os.environ.get("NIGHTVAULT_TEST_LOCK_YEARS", "3"))
NIGHTS = {"mail": 40, "web": 60, "films": 120}
"""The days from night to night of each job."""
KEEPS = {"mail": 6, "web": 3, "films": 1000}
PRUNED = 120
CENT = Decimal("0.01")


class Years:
    """A vault that locks, three jobs in it, and what each state of theirs has needed, and when last."""

    def __init__(self, folder: Path, price: Price) -> None:
        self.chance = random.Random(10)
        self.clock = ManualClock()
        self.vault = LockedDirectory(folder / "vault", self.clock, RULES)
        self.vault.create()
        self.price = price
        first = Site.create(folder / "state", self.vault, [folder / "mail"], name="mail", clock=self.clock)
        self.sites = {
            name: replace(
                first, job=replace(first.job, name=JobName(name), sources=(os.fsencode(folder / name),))
            )
            for name in NIGHTS
        }
        self.sources = {name: folder / name for name in NIGHTS}
        for source in self.sources.values():
            source.mkdir()
        self.site = first
        self.last_needed: dict[ArchiveId, datetime] = {}
        self.renewed: Counter[ArchiveId] = Counter()
        self.cuts = 0

    def night(self, name: str, number: int) -> None:
        """A backup of a job: a new file; mail and web lose older ones, films grow."""
        source = self.sources[name]
        (source / f"{number}").write_bytes(self.chance.randbytes(self.chance.randrange(1000, 20_000)))
        if name != "films":
            (source / f"{number - 3}").unlink(missing_ok=True)
        self.sites[name].backup()
        self.changed()

    def forget(self, name: str) -> None:
        """What its policy does not keep."""
        site = self.sites[name]
        numbers = [snapshot.number for snapshot in site.snapshots()][: -KEEPS[name]]
        if numbers:
            site.amend(records.ForgottenRecord(numbers, micros(self.clock.now())))
            self.changed()

    def prune(self) -> None:
        """Condemn and delete what nothing needs and no lock holds."""
        self.site.prune()
        self.changed()

    def changed(self) -> None:
        """All that is new is locked; what the state of this moment needs is known."""
        self.clock.advance(timedelta(seconds=1))
        self.vault.lock_new()
        now = self.clock.now()
        with self.site.inventory.reading() as tx:
            needed = needed_keys(tx, self.vault.name, now, needed_archives)
        self.last_needed |= dict.fromkeys((*needed, IDENTITY), now)

    def renew(self) -> tuple[ExtendReport, int]:
        """A renewal that is cut at one of its calls, at another each time, and the next, which does the rest.

        The report of that, and how many requests both have sent.
        """
        self.changed()
        context = lock_context(self.site, self.vault, self.price)
        due = extend(context, only_plan=True).due if self.cuts % 4 == 0 else 0
        self.vault.asked.clear()
        if due:
            self.vault.most = self.cuts // 4 % due
            with pytest.raises(NightvaultError):
                extend(context)
            self.vault.most = None
        self.cuts += 1
        report = extend(context)
        asked = [key for what, key in self.vault.asked if what == "lock"]
        assert len(asked) == len(set(asked)) == report.due + (due - report.due) * bool(due)
        self.renewed.update(asked)
        self.assert_lawful(asked)
        return report, len(asked)

    def assert_lawful(self, asked: list[ArchiveId]) -> None:
        """Of what any state of the last `lock_for` needed, all is locked for so long, and nothing else."""
        now, ends = self.clock.now(), self.vault.ends
        there = {*(line.archive_id for line in list_now(self.vault).archives), IDENTITY}
        recent = {key for key, at in self.last_needed.items() if at >= now - RULES.lock_for}
        assert recent <= there, "what some state of late needed is gone"
        assert min(ends[key] for key in recent) >= now + RULES.lock_for
        lately = now - RULES.lock_for - (TICK + 1) * DAY  # a state lasts until the next one
        assert all(self.last_needed[key] > lately for key in asked), "what nothing needed of late was locked"


@pytest.mark.slow
def test_years_of_content_that_comes_and_goes(tmp_path: Path) -> None:
    price = builtin_table().find("us-east-1", "s3:STANDARD")
    assert price is not None
    years = Years(tmp_path, price)
    quoted, requests, number = Decimal(0), 0, Counter[str]()
    for day in range(0, DAYS, TICK):
        for name, every in NIGHTS.items():
            if day % every < TICK:
                years.night(name, number[name])
                years.forget(name)
                number[name] += 1
        if day % PRUNED < TICK:
            years.prune()
        report, sent = years.renew()
        assert report.year is not None
        quoted += report.year * TICK / 365
        requests += sent
        years.clock.advance(TICK * DAY)
    paid, objects = price.uploading(0, requests), len(years.last_needed)
    print(f"{objects} objects, {requests} requests, {years.cuts} renewals, {paid} of {quoted} quoted")
    assert abs(paid - quoted) < CENT
    assert abs(paid - quoted) <= price.uploading(0, objects), "each is locked once with its upload"
    there = {line.archive_id for line in list_now(years.vault).archives}
    before = years.clock.now() - 2 * RULES.lock_for - RULES.step - 2 * PRUNED * DAY
    gone = {key for key, at in years.last_needed.items() if at < before}
    assert len(gone) > objects / 5
    assert not gone & there, "what nothing needs any more was deleted once its lock was over"
    for name, site in years.sites.items():
        site.restore(site.snapshots()[-1].id, tmp_path / "out" / name)
        assert_same_tree(snapshot_of(years.sources[name]), tmp_path / "out" / name)
