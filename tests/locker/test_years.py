"""Years of renewals in a vault of three jobs, whose content grows, is forgotten and pruned.

Two of them, of which some renewals are cut at each call; with `NIGHTVAULT_TEST_LOCK_YEARS` as many as that
says (ten before a release), and all are.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.app.money.prices import builtin_table
from backup.cost import Price
from backup.errors import DeniedError
from backup.format import records
from backup.inventory.content.locks import needed_keys
from backup.inventory.store.times import micros
from backup.locker.extend import extend
from backup.locker.report import Quote
from backup.model import ArchiveId, JobName
from backup.pruner.needed import needed_archives
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.locked_vaults import IDENTITY, RULES, LockedDirectory, lock_context
from tests.support.nightly_servers import DAY
from tests.support.trees import assert_same_tree, snapshot_of

TICK = 10
"""The days from renewal to renewal: a step."""
YEARS = os.environ.get("NIGHTVAULT_TEST_LOCK_YEARS")
DAYS = 365 * int(YEARS or "2")
CUT_EVERY = 1 if YEARS else 12
NIGHTS = {"mail": 40, "web": 60, "films": 120}
"""The days from night to night of each job."""
KEEPS = {"mail": 3, "web": 2, "films": 1000}
PRUNED = 120


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

    def renew(self, *, cut_at_each: bool) -> int:
        """A renewal whose power is cut after each call if asked, so that the next one goes on from there.

        How many requests all of them have sent: none of them twice.
        """
        context = lock_context(self.site, self.vault)
        self.vault.asked.clear()
        is_cut = True
        while is_cut:
            self.vault.most = len(self.vault.asked) + 1 if cut_at_each else None
            try:
                extend(context)
                is_cut = False
            except DeniedError:
                assert len(self.vault.asked) == self.vault.most
                self.cuts += 1
        self.vault.most = None
        assert len(set(self.vault.asked)) == len(self.vault.asked)
        asked = [key for what, key in self.vault.asked if what == "lock"]
        self.assert_lawful(asked)
        return len(asked)

    def quote(self) -> Quote:
        """What is foretold from now on, by a renewal a step."""
        context = lock_context(self.site, self.vault, self.price, every=TICK * DAY)
        quote = extend(context, only_plan=True).quote
        assert quote is not None
        return quote

    def assert_lawful(self, asked: list[ArchiveId]) -> None:
        """Of what any state of the last `lock_for` needed, all is locked for so long, and nothing else."""
        now, ends = self.clock.now(), self.vault.ends
        there = {*self.vault.look(), IDENTITY}
        recent = {key for key, at in self.last_needed.items() if at >= now - RULES.lock_for}
        assert recent <= there, "what some state of late needed is gone"
        assert min(ends[key] for key in recent) >= now + RULES.lock_for
        lately = now - RULES.lock_for - (TICK + 1) * DAY  # a state lasts until the next one
        assert all(self.last_needed[key] > lately for key in asked), "what nothing needed of late was locked"


@pytest.mark.slow
def test_years_of_content_that_comes_and_goes(tmp_path: Path) -> None:
    """As many requests as each quote has foretold, and as much money; then a year without changes."""
    price = builtin_table().find("us-east-1", "s3:STANDARD")
    assert price is not None
    years = Years(tmp_path, price)
    quotes, sent, number = [Quote(0, 0, 0)], list[int](), Counter[str]()
    for tick, day in enumerate(range(0, DAYS, TICK)):
        for name, every in NIGHTS.items():
            if day % every < TICK:
                years.night(name, number[name])
                years.forget(name)
                number[name] += 1
        if day % PRUNED < TICK:
            years.prune()
        years.changed()
        sent.append(years.renew(cut_at_each=tick % CUT_EVERY == 0))
        assert sent[-1] == quotes[-1].requests_a_step, "for what is new each is locked with its upload"
        quotes.append(years.quote())
        years.clock.advance(TICK * DAY)
    quoted = sum(quote.requests_a_step for quote in quotes[:-1])
    paid, objects = price.uploading(0, sum(sent)), len(years.last_needed)
    print(f"{objects} objects, {sum(sent)} requests, {len(sent)} renewals cut {years.cuts} times, {paid} USD")
    assert paid == price.uploading(0, quoted)
    in_a_year = list[int]()
    for _ in range(365 // TICK):
        years.changed()
        in_a_year.append(years.renew(cut_at_each=False))
        years.clock.advance(TICK * DAY)
    assert quotes[-1].requests_a_month == sum(in_a_year[:3])
    assert quotes[-1].requests_a_year == sum(in_a_year)
    assert quotes[-1].year == price.uploading(0, sum(in_a_year))
    assert_old_is_gone(years)
    for name, site in years.sites.items():
        site.restore(site.snapshots()[-1].id, tmp_path / "out" / name)
        assert_same_tree(snapshot_of(years.sources[name]), tmp_path / "out" / name)


def assert_old_is_gone(years: Years) -> None:
    """What nothing has needed since the last change is deleted: its lock is over."""
    years.prune()
    years.clock.advance(4 * DAY)
    years.prune()
    before = years.clock.now() - 370 * DAY
    gone = {key for key, at in years.last_needed.items() if at < before}
    assert len(gone) > len(years.last_needed) / 5
    assert not gone & years.vault.look()
