"""A keeper deletes what a server's catalogs condemned, after its own floor; whatever is unclear stops it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from backup.cost.limit import CostLimit, TierCost
from backup.errors import LimitRefusedError, LockedError, ThrottledError, VaultError
from backup.format import records
from backup.format.records import ShrunkRecord
from backup.inventory.content import archives
from backup.inventory.content.shrunk import accepting
from backup.inventory.store.database import create_inventory
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import (
    ArchiveId,
    ByteRange,
    InventoryId,
    Listing,
    ListingId,
    Refusal,
    RetrievalId,
    Tier,
    VaultState,
)
from backup.protocols import VaultTraits
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.validity import Validity
from backup.pruner.listed import PruneStoppedError
from backup.transfer.fetching.wants import Want
from backup.vault.directory import DirectoryVault
from tests.pruner.conftest import Kept
from tests.support.backups import server_keys
from tests.support.checks import query
from tests.support.doubles import Fault, FaultyVault, ManualClock
from tests.support.integrity import list_now
from tests.support.keepers import FLOOR, keeper_of
from tests.support.nightly_servers import DAY
from tests.support.rebuilds import Bare, archive_file
from tests.support.trees import assert_same_tree, snapshot_of


class Around:
    """A vault with something changed."""

    def __init__(self, kept: Kept) -> None:
        self._vault = kept.vault
        kept.keeper.vault = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)


# What goes, and when.


def test_what_was_given_up_goes_when_the_floor_is_over(kept: Kept) -> None:
    before = kept.data()
    kept.clock.advance(FLOOR - timedelta(hours=1))
    waiting = kept.keeper.only()
    assert (waiting.deleted.archives, kept.data()) == (0, before)
    assert [share.why for share in waiting.waiting] == ["held"]
    kept.clock.advance(timedelta(hours=2))
    done = kept.keeper.only()
    assert (done.stopped, done.findings, done.warnings) == ("", [], [])
    assert done.deleted.archives == 1
    assert kept.data() == before - {kept.condemned}
    assert_same_tree(snapshot_of(kept.folder / "source"), _restored(kept))
    report = kept.site.prune(deletes=False)
    assert report.deleted_elsewhere == 1


def test_nothing_goes_before_a_person_has_answered_to_what_a_source_lost(kept: Kept) -> None:
    before, newest = kept.data(), kept.site.snapshots()[-1].number
    lost = ShrunkRecord(newest, [(kept.site.job.sources[0], 0, 0, 30, 300)])
    kept.site.amend(lost, kind=RunKind.MARK)
    kept.clock.advance(FLOOR + timedelta(hours=1))
    waiting = kept.keeper.only()
    assert (waiting.deleted.archives, kept.data()) == (0, before)
    assert [share.why for share in waiting.waiting] == ["shrunk"]
    kept.site.amend(accepting(newest), kind=RunKind.MARK)
    assert kept.keeper.only().deleted.archives == 1


def _restored(kept: Kept) -> Any:
    (kept.folder / "restored").mkdir()
    source = kept.site.snapshots()[-1].sources[0]
    kept.site.restore("latest", kept.folder / "restored", path=source)
    return kept.folder / "restored"


class Asked(FaultyVault):
    """A vault that remembers which archives were asked for, in order."""

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        self.asked = [*getattr(self, "asked", []), archive_id]
        return super().request_retrieval(archive_id, extent, tier, token)


def test_no_catalog_is_retrieved_twice(kept: Kept) -> None:
    """The newest state and that of the floor are made of nearly the same catalogs."""
    kept.clock.advance(FLOOR + DAY)
    vault = Asked(kept.vault)
    report = dataclasses.replace(kept.keeper, vault=vault).only()
    assert report.deleted.archives == 1
    assert sorted(vault.asked) == sorted({*kept.catalogs()})
    assert not (kept.keeper.folder / "asked").exists()


def test_catalogs_that_cost_more_than_a_limit_are_not_asked_for(kept: Kept) -> None:
    """A cent for each, within two: one of each inventory is read, then the states need more."""
    vault = Asked(kept.vault)
    totals: list[int] = []

    kept.clock.advance(FLOOR + DAY)

    def limit_on(wants: Sequence[Want]) -> CostLimit:
        totals.append(len(wants))
        cost = TierCost(Tier.STANDARD, Decimal(len(wants)) / 100)
        return CostLimit(Decimal("0.02"), "this prune", [cost], less="prune less")

    keeper = dataclasses.replace(kept.keeper, vault=vault, limit_on=limit_on)
    with pytest.raises(LimitRefusedError, match=r"this prune would cost .* with standard, more than 0\.02"):
        keeper.keep()
    assert len(vault.asked) <= 2 < max(totals)


class Looking(Asked):
    """A vault that looks, each time that it is asked for an archive, at what others might see of a folder."""

    folder: Path
    seen: ClassVar[dict[str, int]] = {}

    def request_retrieval(self, *given: Any, **named: Any) -> RetrievalId:
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).parts
            self.seen["/".join(name)] = path.lstat().st_mode & 0o7777
        return super().request_retrieval(*given, **named)


@pytest.mark.parametrize("umask", [0, 0o022])
def test_its_folder_is_for_its_owner_alone_whatever_the_umask(kept: Kept, umask: int) -> None:
    """What lay between the state directory and the journals had the mode of the umask."""
    kept.clock.advance(FLOOR + DAY)
    vault = Looking(kept.vault)
    Looking.folder, Looking.seen = kept.folder / "keepers", {}
    place = Looking.folder / "state" / "keeper" / "cold"
    keeper = dataclasses.replace(kept.keeper, vault=vault, folder=place)
    before = os.umask(umask)
    try:
        assert keeper.only().deleted.archives == 1
    finally:
        os.umask(before)
    family = "state/keeper/cold/asked/family"
    assert {"state", "state/keeper/cold/list", family, f"{family}/lock"} <= Looking.seen.keys()
    assert any(name.rpartition("/")[0] == "state/keeper/cold/asked" for name in Looking.seen)
    assert {name: mode for name, mode in Looking.seen.items() if mode & 0o077} == {}


def test_what_servers_share_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with KeeperFolder.opened(str(tmp_path / "keeper" / "cold")) as folder:
            folder.share(InventoryId(bytes(16)))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {0}
    assert len(list(tmp_path.rglob("asked/*"))) == 1


class WithoutList(FaultyVault):
    """A cold vault that is new: it has made no list yet."""

    @property
    def traits(self) -> VaultTraits:
        return replace(super().traits, waits=True)

    def state(self) -> VaultState:
        return replace(super().state(), listed_at=None)


def test_the_first_list_of_a_new_vault_is_waited_for(kept: Kept) -> None:
    vault = WithoutList(kept.vault, Fault("request_listing", VaultError("there is no list yet")))
    report = dataclasses.replace(kept.keeper, vault=vault).step()
    assert (report.state, report.waits_for) == ("waiting", "the vault's own list")
    vault.assert_all_met()


def test_a_plan_deletes_nothing(kept: Kept) -> None:
    kept.clock.advance(FLOOR + DAY)
    before = kept.data()
    report = kept.keeper.keep(only_plan=True)
    assert (report.is_plan, report.inventories[0].deleted.archives) == (True, 1)
    assert kept.data() == before


def test_a_forgotten_snapshot_that_is_not_dropped_keeps_its_archives(kept: Kept) -> None:
    kept.site.amend(records.ForgottenRecord([2], micros(kept.clock.now())))
    (kept.folder / "source" / "file 2").unlink()
    kept.change("new")
    kept.site.backup()
    assert kept.site.prune(deletes=False).condemned.archives == 1
    before = kept.data()
    kept.clock.advance(FLOOR + 90 * DAY)  # condemned long ago; the server was not there to give it up
    report = kept.keeper.only()
    assert kept.data() == before - {kept.condemned}
    assert [(share.why, share.archives) for share in report.waiting] == [("needed", 1)]


def test_what_is_taken_up_again_stays_and_its_time_begins_anew(kept: Kept) -> None:
    kept.clock.advance(FLOOR - DAY)
    with kept.site.inventory.reading() as tx:
        every = archives.list_archives(tx, kept.site.inventory.id)
    pack = next(archive.label.pack_id for archive in every if archive.archive_id == kept.condemned)
    old = micros(kept.clock.now() - 300 * DAY)
    kept.site.amend(records.TakenUpRecord([pack]))
    kept.clock.advance(2 * DAY)
    assert kept.keeper.only().deleted.archives == 0
    kept.site.amend(records.CondemnedRecord([pack], old))  # with a date that a server can choose
    kept.clock.advance(FLOOR - DAY)
    waiting = kept.keeper.only()
    assert [(share.why, share.archives) for share in waiting.waiting] == [("grace", 1)]
    assert waiting.waiting[0].until == kept.clock.now() + DAY
    kept.clock.advance(DAY)
    assert kept.keeper.only().deleted.archives == 1


def test_the_grace_is_waited_for_where_the_floor_is_shorter(kept: Kept) -> None:
    ((pack,),) = query(kept.site, "SELECT pack_id FROM archives WHERE archive_id = ?", kept.condemned)
    kept.site.amend(records.TakenUpRecord([pack]))
    kept.site.amend(records.CondemnedRecord([pack], micros(kept.clock.now())))
    keeper = dataclasses.replace(kept.keeper, keep_within=timedelta(hours=1))
    kept.clock.advance(2 * DAY)
    assert keeper.only().deleted.archives == 0
    kept.clock.advance(2 * DAY)
    assert keeper.only().deleted.archives == 1


def test_the_minimum_duration_is_waited_for(kept: Kept) -> None:
    class Billing(Around):
        @property
        def traits(self) -> Any:
            return replace(self._vault.traits, minimum_storage=180 * DAY)

    Billing(kept)
    kept.clock.advance(FLOOR + DAY)
    waiting = kept.keeper.only()
    assert (waiting.deleted.archives, [share.why for share in waiting.waiting]) == (0, ["duration"])
    kept.clock.advance(180 * DAY)
    assert kept.keeper.only().deleted.archives == 1


def test_old_catalogs_go_two_full_generations_stay(kept: Kept) -> None:
    for number in range(3):
        enrolled = replace(
            kept.site.keys, enrolments=((kept.site.keys.enrolments[0][0], bytes([number]) * 32),)
        )
        replace(kept.site, keys=enrolled).backup()
        kept.clock.advance(DAY)
    kept.site.backup()
    before = kept.catalogs()
    assert kept.site.prune(deletes=False).condemned.archives > 2
    kept.clock.advance(FLOOR - DAY)
    kept.keeper.only()
    assert kept.catalogs()[: len(before)] == before
    kept.clock.advance(2 * DAY)
    report = kept.keeper.only()
    assert report.stopped == ""
    gone = set(before) - set(kept.catalogs())
    assert len(gone) > 2
    assert kept.keeper.only().deleted.archives == 0
    assert kept.keeper.only().stopped == ""


def test_what_the_vault_refuses_is_told(kept: Kept) -> None:
    class Locked(Around):
        def delete_archives(
            self, stored: Mapping[ArchiveId, datetime], *_: object
        ) -> Mapping[ArchiveId, Refusal]:
            return {archive_id: Refusal("a lock keeps it") for archive_id in stored}

    Locked(kept)
    kept.clock.advance(FLOOR + DAY)
    report = kept.keeper.keep()
    assert report.is_partial
    assert report.inventories[0].deleted.archives == 0
    assert [(share.archives, share.detail) for share in report.inventories[0].refused] == [
        (1, "a lock keeps it")
    ]


def test_a_deletion_that_was_cut_off_is_done_by_the_next(kept: Kept) -> None:
    class CutError(Exception):
        pass

    class Cut(Around):
        def delete_archives(self, stored: object, *_: object) -> None:
            raise CutError

    Cut(kept)
    kept.clock.advance(FLOOR + DAY)
    with pytest.raises(CutError):
        kept.keeper.only()
    kept.keeper.vault = kept.vault
    assert kept.keeper.only().deleted.archives == 1


def test_what_a_killed_process_left_is_wiped(kept: Kept) -> None:
    with KeeperFolder.opened(str(kept.keeper.folder)) as folder:
        pass
    (kept.keeper.folder / "scratch" / "inventory.sqlite").write_bytes(b"names of files")
    with KeeperFolder.opened(str(kept.keeper.folder)) as folder:
        assert not list((kept.keeper.folder / "scratch").iterdir())
    assert folder.path == str(kept.keeper.folder)
    assert kept.keeper.folder.stat().st_mode & 0o777 == 0o700


# What stops it.


def _assert_stopped(kept: Kept, words: str) -> None:
    before = kept.data()
    report = kept.keeper.keep()
    assert report.is_partial
    assert words in report.inventories[0].stopped
    assert report.inventories[0].advice
    assert report.inventories[0].deleted.archives == 0
    assert kept.data() == before


def test_a_gap_stops_it(kept: Kept) -> None:
    kept.clock.advance(FLOOR + DAY)
    kept.vault.delete_archives({kept.catalogs()[2]: None})
    _assert_stopped(kept, "(missing)")


def test_a_damaged_catalog_stops_it(kept: Kept) -> None:
    kept.clock.advance(FLOOR + DAY)
    path = archive_file(kept.folder / "vault", kept.catalogs()[-1])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    _assert_stopped(kept, "damaged")


class Blind:
    """A vault that shows nobody's newer catalogs."""

    def __init__(self, vault: DirectoryVault) -> None:
        self._vault = vault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)

    def newest_catalogs(self, *_: object) -> list[object]:
        return []


def test_a_copy_that_writes_beside_stops_it(kept: Kept) -> None:
    copy = kept.folder / "copy"
    kept.site.inventory.close()
    shutil.copytree(kept.site.folder, copy)
    kept.site = kept.site.reopen()
    other = replace(kept.site, folder=copy).reopen(Blind(kept.vault))  # type: ignore[arg-type]
    kept.clock.advance(FLOOR + DAY)
    kept.change("new")
    for site in (kept.site, other):
        site.amend(records.ForgottenRecord([2], micros(kept.clock.now())))
    other.close()
    _assert_stopped(kept, "two catalogs go on from the same one")


def test_clocks_that_differ_stop_it(kept: Kept) -> None:
    class Elsewhere(Around):
        def state(self) -> VaultState:
            return replace(self._vault.state(), at=kept.clock.now() + timedelta(minutes=6))

    Elsewhere(kept)
    kept.clock.advance(FLOOR + DAY)
    with pytest.raises(PruneStoppedError, match="clock"):
        kept.keeper.keep()


def test_a_list_that_was_asked_for_days_ago_is_asked_for_anew(kept: Kept) -> None:
    """A cold vault's list is kept while catalogs are retrieved, and no longer."""

    class Cold(Around):
        asked: ClassVar[list[str]] = []

        @property
        def traits(self) -> Any:
            return replace(self._vault.traits, waits=True, lists_at_once=False)

        def request_listing(self, token: str) -> ListingId:
            self.asked.append(token)
            return self._vault.request_listing(token)

        def retrieval_states(self, *_: object) -> Any:
            raise AwayError

    class AwayError(Exception):
        pass

    vault = Cold(kept)
    kept.clock.advance(FLOOR + DAY)
    vault.request_retrieval = vault.retrieval_states  # type: ignore[attr-defined]
    for days, asked in ((0, 1), (2, 1), (2, 2)):
        kept.clock.advance(days * DAY)
        with pytest.raises(AwayError):
            kept.keeper.keep()
        assert len(vault.asked) == asked, days


def test_a_clock_that_is_ahead_shortens_no_floor(kept: Kept) -> None:
    """The floor is reckoned from the vault's list, if that is the earlier time."""

    class Behind(Around):
        def fetch_listing(self, listing_id: ListingId) -> Listing:
            return replace(self._vault.fetch_listing(listing_id), as_of=kept.clock.now() - 2 * DAY)

    Behind(kept)
    kept.clock.advance(FLOOR + DAY)
    assert kept.keeper.only().deleted.archives == 0
    kept.clock.advance(DAY + timedelta(minutes=1))
    assert kept.keeper.only().deleted.archives == 1


def test_a_list_that_is_ahead_shortens_no_floor(kept: Kept) -> None:
    """A directory's dates are those of whoever wrote into it."""

    class Ahead(Around):
        def fetch_listing(self, *arguments: Any) -> Listing:
            listing = self._vault.fetch_listing(*arguments)
            return replace(listing, as_of=listing.as_of + 10 * DAY)

    Ahead(kept)
    kept.clock.advance(FLOOR - 5 * DAY)
    assert kept.keeper.only().deleted.archives == 0


def test_two_at_once_are_kept_apart(kept: Kept) -> None:
    with KeeperFolder.opened(str(kept.keeper.folder)), pytest.raises(LockedError, match="delete-only"):
        kept.keeper.step()


def test_a_catalog_that_comes_meanwhile_stops_it(kept: Kept) -> None:
    class Busy(Around):
        def newest_catalogs(self, *arguments: Any) -> Any:
            kept.change("new")
            kept.site.backup()
            return self._vault.newest_catalogs(*arguments)

    Busy(kept)
    kept.clock.advance(FLOOR + DAY)
    before = kept.data()
    report = kept.keeper.only()
    assert "while its state was rebuilt" in report.stopped
    assert kept.data() >= before


class Sleeping(Around):
    """The keeper sleeps for hours after a call; its server takes back what is condemned, and builds on it."""

    def __init__(self, kept: Kept, method: str) -> None:
        super().__init__(kept)
        self._kept, self._method = kept, method

    def newest_catalogs(self, *arguments: Any) -> Any:
        found = self._vault.newest_catalogs(*arguments)
        self._sleep("newest_catalogs")
        return found

    def delete_archives(self, stored: Any, versions: Any = None) -> Any:
        if self._method == "delete_archives":
            self._sleep("delete_archives")
            raise ThrottledError("slow down")
        return self._vault.delete_archives(stored, versions)

    def _sleep(self, method: str) -> None:
        if method != self._method:
            return
        self._method = ""
        site, clock = self._kept.site, self._kept.clock
        every = list_now(self._vault).archives
        packs = [
            archive.label.pack_id
            for archive in every
            if archive.label and archive.archive_id == self._kept.condemned
        ]
        site.amend(records.TakenUpRecord([bytes(pack) for pack in packs]), kind=RunKind.PRUNE)
        clock.advance(timedelta(hours=2))
        site.backup()


@pytest.mark.parametrize("method", ["newest_catalogs", "delete_archives"])
def test_after_a_sleep_it_deletes_nothing_that_was_taken_back_and_built_upon(kept: Kept, method: str) -> None:
    kept.clock.advance(FLOOR + DAY)
    Sleeping(kept, method)
    report = kept.keeper.only()
    assert ("stored a catalog" if method == "newest_catalogs" else "slept") in report.stopped
    assert kept.condemned in kept.data()


@pytest.mark.parametrize(("hours", "stops"), [(19, False), (21, True)])
def test_where_lists_are_late_a_decision_holds_for_hours(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, hours: int, stops: bool
) -> None:
    late = replace(kept.vault.traits, lists_at_once=False)
    monkeypatch.setattr(type(kept.vault), "traits", property(lambda _: late))

    class Slow(Around):
        def fetch_listing(self, *arguments: Any) -> Any:
            kept.clock.advance(timedelta(hours=slow.pop() if slow else 0))
            return self._vault.fetch_listing(*arguments)

    slow = [hours]
    Slow(kept)
    kept.clock.advance(FLOOR + 2 * DAY)
    report = kept.keeper.only()
    assert ("slept" in report.stopped) == stops
    assert (kept.condemned in kept.data()) == stops


def test_many_deletions_may_take_long(clock: ManualClock) -> None:
    """It looks again from time to time, and goes on."""
    looks: list[datetime] = []
    valid = Validity(clock, clock.now(), lambda: looks.append(clock.now()))
    for _ in range(30):
        valid.renew()
        valid.require()
        clock.advance(timedelta(minutes=4))
    assert len(looks) == 9


def test_a_strange_signer_stops_it(kept: Kept) -> None:
    """Somebody who may store, and has none of the server's keys, can stop the deletions, and no more."""
    import os

    from backup.format.keys import Signer

    kept.clock.advance(FLOOR + DAY)
    signer = Signer(os.urandom(32))
    strange = replace(kept.site, keys=replace(kept.site.keys, signer=signer, enrolments=()))
    strange.amend(records.ForgottenRecord([2], micros(kept.clock.now())))
    _assert_stopped(kept, "refused")
    assert keeper_of(kept.site, kept.folder / "other").only().stopped


# Several servers, and a server that was rebuilt.


def test_a_server_that_was_rebuilt_is_one_with_what_it_was_before(kept: Kept) -> None:
    machine = Bare(kept.folder / "rebuilt", kept.vault, kept.site)
    assert machine.rebuild().state == "done"
    site = machine.site()
    kept.change("new")
    site.backup()
    before = kept.data()
    kept.clock.advance(FLOOR + DAY)
    report = kept.keeper.only()
    assert (report.stopped, report.deleted.archives) == ("", 1)
    assert report.inventory == machine.new_id.hex()
    assert kept.data() == before - {kept.condemned}
    site.close()


def test_the_old_server_that_writes_on_beside_the_rebuilt_one_stops_it(kept: Kept) -> None:
    machine = Bare(kept.folder / "rebuilt", kept.vault, kept.site)
    machine.rebuild()
    site = machine.site()
    kept.change("new")
    site.backup()
    site.close()
    kept.clock.advance(FLOOR + DAY)
    replace(kept.site, vault=Blind(kept.vault)).amend(records.ForgottenRecord([2], micros(kept.clock.now())))
    _assert_stopped(kept, "catalog")


def test_one_server_that_is_stopped_does_not_hold_up_another(kept: Kept) -> None:
    other = InventoryId(b"another server's")
    folder, keys = kept.folder / "other", server_keys(other)
    for path in (folder, folder / "spool"):
        path.mkdir()
    inventory = create_inventory(
        f"sqlite:///{folder / 'inventory.sqlite'}",
        inventory_id=other,
        signer_public=keys.signer.public,
        now=kept.clock.now(),
        lock_directory=str(folder),
    )
    site = replace(kept.site, folder=folder, inventory=inventory, keys=replace(keys, enrolments=()))
    site.backup()  # nobody vouches for its signer
    inventory.close()
    kept.clock.advance(FLOOR + DAY)
    report = kept.keeper.keep()
    told = {
        server_report.inventory: (bool(server_report.stopped), server_report.deleted.archives)
        for server_report in report.inventories
    }
    assert told == {other.hex(): (True, 0), kept.site.inventory.id.hex(): (False, 1)}
    assert report.is_partial


def test_a_condemned_pack_that_no_record_describes_is_told_until_it_is_taken_up(kept: Kept) -> None:
    unknown = [b"x" * 16, b"y" * 16]
    kept.site.amend(records.CondemnedRecord(unknown, micros(kept.clock.now())))
    kept.site.amend(records.TakenUpRecord(unknown[:1]))
    report = Bare(kept.folder / "rebuilt", kept.vault, kept.site).rebuild()
    assert set(report.condemned_catalogs) == {unknown[1]}
