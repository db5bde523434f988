"""The date: whatever an intruder does, what was promised restores until then, and not for much longer."""

from __future__ import annotations

import os
import random
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backup.errors import NightvaultError
from backup.inventory.content import archives, lost
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.locks import record_locks
from backup.inventory.records.readings import LockDate, lock_dates
from backup.model import Generation, SnapshotId
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Trust
from tests.support.locked_vaults import IDENTITY, RULES, LockedNights, attacked, renew, restores
from tests.support.nightly_servers import DAY
from tests.support.rebuilds import Bare

MOMENT = timedelta(seconds=1)
FIRST, _, LAST = os.environ.get("NIGHTVAULT_TEST_LOCK_DATES", "0-12").rpartition("-")


def promised(nights: LockedNights) -> LockDate | None:
    """What the inventory says of the job."""
    with nights.site.inventory.reading() as tx:
        found = lock_dates(tx)
    return found[0] if found else None


def kept(nights: LockedNights) -> list[SnapshotId]:
    """The ids of the snapshots that are kept."""
    return [snapshot.id for snapshot in nights.site.snapshots()]


def wander(nights: LockedNights, chance: random.Random) -> list[SnapshotId]:
    """A random history: nights, forgetting, prunes, renewals whole and cut, days; what the last one kept."""
    nights.night()
    snapshots: list[SnapshotId] = []
    for _ in range(chance.randrange(8, 20)):
        nights.clock.advance(MOMENT)  # else what follows is of the time that was promised for
        what = chance.choice(["night", "night", "forget", "prune", "renew", "renew", "cut", "days"])
        if what == "night":
            nights.night()
        elif what == "forget" and len(nights.site.snapshots()) > 1:
            nights.forget(nights.site.snapshots()[0].number)
            nights.vault.lock_new()
        elif what == "prune":
            nights.site.prune()
            nights.vault.lock_new()
        elif what == "renew":
            renew(nights.site, nights.vault)
            snapshots = kept(nights)
        elif what == "cut":
            nights.vault.asked.clear()
            nights.vault.most = chance.randrange(10)
            try:
                renew(nights.site, nights.vault)
                snapshots = kept(nights)
            except NightvaultError:
                pass
            nights.vault.most = None
        else:
            nights.clock.advance(chance.randrange(1, 25) * DAY)
    return snapshots


@pytest.mark.parametrize("seed", range(int(FIRST or 0), int(LAST)))
def test_no_date_promised_too_much_or_too_little(tmp_path: Path, seed: int) -> None:
    """After a random history: then an intruder."""
    nights = LockedNights(tmp_path)
    snapshots = wander(nights, random.Random(seed))
    date = promised(nights)
    if date is None:
        renew(nights.site, nights.vault)
        date, snapshots = promised(nights), kept(nights)
    assert date is not None
    assert date.until is not None
    assert date.nights == len(snapshots)
    today, now = kept(nights), nights.clock.now()
    (now_said,) = renew(nights.site, nights.vault, only_plan=True).dates  # also what a cut renewal has done
    attacked(nights, date.until - MOMENT)
    assert restores(nights, snapshots, tmp_path / "before", date.as_of), f"promised until {date.until}"
    if now_said.until is None or now_said.until < nights.clock.now():
        return  # over meanwhile: what was said before was tried
    attacked(nights, now_said.until - MOMENT)
    assert restores(nights, today, tmp_path / "until", now), f"promised until {now_said.until}"
    attacked(nights, now_said.until + RULES.step)
    assert not restores(nights, today, tmp_path / "after", now), "more than a step too careful"
    print("not too careful")  # counted in campaigns


@pytest.mark.parametrize("seed", range(int(FIRST or 0), int(LAST), 4))
def test_a_rebuilt_inventory_says_the_same_and_renews_the_same(tmp_path: Path, seed: int) -> None:
    """It looks at all locks anew; what was forgotten of late is in the catalogs."""
    nights = LockedNights(tmp_path)
    wander(nights, random.Random(seed))
    said = renew(nights.site, nights.vault, only_plan=True)
    bare = Bare(tmp_path / "bare", nights.vault, nights.site)
    bare.rebuild(Wish(trust=Trust()))
    with closing(bare.site()) as rebuilt:
        again = renew(rebuilt, nights.vault, only_plan=True)
    (here,), (there,) = said.dates, again.dates
    assert (there.until, there.nights, there.newest) == (here.until, here.nights, here.newest)
    assert (again.objects, again.due, again.ends) == (said.objects, said.due, said.ends)
    assert again.looked == again.objects


def test_what_is_not_locked_is_not_promised(tmp_path: Path) -> None:
    """A pack, the identity or each catalog that is not locked any more takes the date away."""
    nights = LockedNights(tmp_path)
    for _ in range(2):
        nights.night()
    report = renew(nights.site, nights.vault)
    (date,) = report.dates
    assert (date.nights, date.until) == (2, min(nights.vault.ends.values()))
    assert f"the last 2 nights restore until {date.until:%Y-%m-%d}" in str(list(report.facts()))
    plan = renew(nights.site, nights.vault, only_plan=True)
    assert [replaced.until for replaced in plan.dates] == [date.until]
    ends, soon = dict(nights.vault.ends), nights.clock.now() + DAY
    for key in ends:
        with nights.site.inventory.writing() as tx:
            record_locks(tx, nights.vault.name, {**ends, key: soon})
        (after,) = renew(nights.site, nights.vault, only_plan=True).dates
        assert after.until == soon, f"{key} ends in a day"
    with nights.site.inventory.writing() as tx:
        record_locks(tx, nights.vault.name, {**ends, IDENTITY: nights.clock.now()})
    (after,) = renew(nights.site, nights.vault, only_plan=True).dates
    assert after.until is None
    assert "something that the last 2 nights need is not locked" in after.text


@pytest.mark.parametrize("state", [ArchiveState.LOST, ArchiveState.DAMAGED])
def test_a_catalog_that_is_lost_breaks_the_chain_that_it_is_in(tmp_path: Path, state: ArchiveState) -> None:
    """No rebuild gets over it to the nights that later ones tell of, whatever is locked."""
    nights = LockedNights(tmp_path)
    for _ in range(3):
        nights.night()
    assert promised_now(nights) is not None
    with nights.site.inventory.reading() as tx:
        every = archives.list_archives(tx, nights.site.inventory.id)
    deltas = [archive for archive in every if archive.label.generation is Generation.DELTA]
    assert len(deltas) >= 2
    with nights.site.inventory.writing() as tx:
        lost.mark(tx, [deltas[0].number], state)
    assert promised_now(nights) is None
    assert deltas[0].archive_id is not None
    del nights.vault.ends[deltas[0].archive_id]
    nights.vault.destroy()
    assert not restores(nights, kept(nights), tmp_path / "bare", nights.clock.now())


def promised_now(nights: LockedNights) -> datetime | None:
    """What a renewal would say now."""
    (date,) = renew(nights.site, nights.vault, only_plan=True).dates
    return date.until
