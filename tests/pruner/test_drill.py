"""A drill: an intruder has all that the server has, and uses it. The keeper deletes nothing, and tells of it.

He works with our own code: floods, tags, dates wrongly, forgets, drops, condemns, and writes full catalogs
that say nothing of what was there. Then all of before is restored, from a state as of before he came.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.format import records
from backup.inventory.content import archives
from backup.inventory.store.database import open_inventory
from backup.inventory.store.times import micros
from backup.model import MIB, VaultName
from backup.protocols import Clock, Vault
from backup.pruner.keeper.report import Sign
from backup.rebuilder.context import Wish
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.clocks import EmulatorClock
from tests.support.doubles import ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.keepers import FLOOR, Keeper
from tests.support.rebuilds import Bare
from tests.support.rigs import glacier_client, s3_client, s3_vault
from tests.support.trees import Seen, assert_same_tree, snapshot_of

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
NIGHTS = 5
_numbers = itertools.count()


@dataclass
class Moved:
    """A clock that somebody has set wrong."""

    clock: Clock
    by: timedelta

    def now(self) -> datetime:
        return self.clock.now() + self.by

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)


@dataclass
class Place:
    """A server's vault; `wrong` is the same as somebody sees it whose clock is wrong."""

    vault: Vault
    clock: Clock
    wait: Callable[[], object]
    wrong: Callable[[Clock], Vault]
    make_list: Callable[[], object] = lambda: None

    def sleep(self, time: timedelta) -> None:
        """Let time pass; a cold vault makes its list anew."""
        self.clock.sleep(time.total_seconds())
        self.make_list()

    def listed(self) -> set[str]:
        """All that the vault holds."""
        token = self.vault.request_listing(f"look {next(_numbers)}")
        self.wait()
        return {archive.archive_id for archive in self.vault.fetch_listing(token).archives}


@pytest.fixture(params=["directory", "s3", "glacier"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        clock, path = ManualClock(), str(tmp_path / "vault")

        def disk(by: Clock) -> Vault:
            return DirectoryVault(VaultName("disk"), path, by)

        made = disk(clock)
        made.create()
        return Place(made, clock, lambda: None, disk)
    running: RunningEmulator = request.getfixturevalue("emulator")
    its_clock = EmulatorClock(running)

    def wait() -> None:
        running.make_inventories()
        running.advance(13 * 3600)

    vault: Vault
    if request.param == "glacier":
        vault = GlacierVault(VaultName("cold"), glacier_client(running), f"drill-{next(_numbers)}")
    else:
        client, bucket = s3_client(running.s3_url), f"drill-{next(_numbers)}"
        vault = s3_vault(client, bucket, clock=its_clock, storage_class="GLACIER")
    vault.create()
    return Place(vault, its_clock, wait, lambda _: vault, running.make_inventories)


@pytest.fixture
def server(place: Place, tmp_path: Path) -> Iterator[tuple[Site, dict[int, dict[bytes, Seen]]]]:
    """Some nights of a server that only condemns, with its trees."""
    source = tmp_path / "source"
    source.mkdir()
    part = max(MIB, place.vault.traits.smallest_part)
    site = Site.create(
        tmp_path / "state", place.vault, [source], clock=place.clock, wait=place.wait, part_size=part
    )
    trees = {}
    for night in range(1, NIGHTS + 1):
        (source / f"night {night}").write_bytes(os.urandom(200_000))
        site.backup()
        trees[night] = snapshot_of(source)
        (source / f"night {night}").unlink()
        place.sleep(DAY)
    yield site, trees
    site.close()


def intrude(site: Site, place: Place, folder: Path) -> Site:
    """All that somebody with the server's keys and inventory can do by our own code, at once."""
    site.inventory.close()
    shutil.copytree(site.folder, folder)
    inventory = open_inventory(f"sqlite:///{folder / 'inventory.sqlite'}", lock_directory=str(folder))
    base = replace(site, folder=folder, inventory=inventory)
    honest = list(range(1, NIGHTS + 1))
    with inventory.reading() as tx:
        every = archives.list_archives(tx, inventory.id)
    before: list[bytes] = [archive.label.pack_id for archive in every]
    enrolments = site.keys.enrolments
    for number, days in enumerate((-400, 3650, -1)):  # a flood of what is left, dated as he likes
        clock = Moved(place.clock, days * DAY)
        (folder.parent / "source" / "ransom").write_text(f"pay {number}")
        replace(
            base,
            clock=clock,
            vault=place.wrong(clock),
            keys=replace(site.keys, enrolments=((enrolments[0][0], bytes([number]) * 32),)),
        ).backup()  # each with a full catalog
    for number in range(8):
        base.amend(records.MarksRecord(NIGHTS + 1, [f"keep {number}"], pinned=True, note="", until=None))
    past = micros(place.clock.now() - 400 * DAY)
    base.amend(records.ForgottenRecord(honest[:-1], past))
    base.amend(records.ForgottenRecord(honest[-1:], past))
    base.amend(records.CondemnedRecord(before, past))
    base.amend(records.DroppedRecord(honest))
    for number in (7, 8):  # and again, so that no full catalog of the newest two knows of them
        keys = replace(site.keys, enrolments=((enrolments[0][0], bytes([number]) * 32),))
        replace(base, keys=keys).backup()
    base.prune(deletes=False, grace=timedelta(hours=1))
    place.sleep(timedelta(hours=2))
    base.prune(deletes=False, grace=timedelta(hours=1))
    return base


def test_within_the_floor_nothing_is_lost_and_somebody_is_told(
    place: Place, server: tuple[Site, dict[int, dict[bytes, Seen]]], tmp_path: Path
) -> None:
    site, trees = server
    before = place.listed()
    place.sleep(DAY)
    came = place.clock.now()
    place.sleep(timedelta(minutes=1))
    intruder = intrude(site, place, tmp_path / "strange")
    place.sleep(timedelta(hours=1))
    keeper = Keeper(tmp_path / "keeper", place.vault, place.clock, wait=place.wait)
    for night in range(3):
        report = keeper.only()
        assert (report.stopped, report.deleted.archives) == ("", 0), f"night {night}"
        told = {finding.sign for finding in report.findings}
        assert told >= {Sign.FLOOD, Sign.CONDEMNED, Sign.DATES}
        assert told & {Sign.DROPPED, Sign.FORGOTTEN}
        intruder.amend(records.MarksRecord(NIGHTS + 1, ["next"], pinned=True, note="", until=None))
        place.sleep((FLOOR - 3 * DAY) / 3)
    assert before <= place.listed()
    machine = Bare(tmp_path / "safe", place.vault, site)
    machine.rebuild(Wish(before=came), wait=place.wait)
    back = machine.site()
    of_before = [snapshot for snapshot in back.snapshots() if snapshot.number in trees]
    assert [snapshot.number for snapshot in of_before] == list(trees)
    for snapshot in of_before:
        back.restore(snapshot.id, tmp_path / "out" / snapshot.id)
        assert_same_tree(trees[snapshot.number], tmp_path / "out" / snapshot.id)
    back.close()
    place.sleep(2 * FLOOR)
    intruder.amend(records.MarksRecord(NIGHTS + 1, ["at last"], pinned=True, note="", until=None))
    intruder.close()
    place.sleep(DAY)
    late = keeper.only()  # nobody did anything: then it is the server's will
    assert late.deleted.archives >= NIGHTS or place.vault.traits.minimum_storage > 2 * FLOOR
