"""Another server of the vault condemns a server's archives: nothing is deleted until a person answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from dataclasses import replace as changed
from datetime import datetime

import pytest

from backup.errors import NightvaultError, UsageError
from backup.format import records
from backup.format.keys import Signer
from backup.inventory.content.strangers import open_strangers
from backup.inventory.store.times import micros
from backup.model import Generation, InventoryId, PackId, PackKind
from backup.pruner.keeper.report import InventoryReport
from backup.pruner.listed import PruneStoppedError
from backup.transfer.answers import accept_catalogs
from tests.support.backups import INVENTORY_ID, Site
from tests.support.checks import check, kinds
from tests.support.keepers import Keeper
from tests.support.shared_vaults import AGE, DAY, SharedVault, source_of
from tests.support.strangers import STRANGER_ID, Forgery, forge, listing_of, packs_of, stranger

THIRD_ID, FOURTH_ID = InventoryId(b"of a third one.."), InventoryId(b"of a fourth one.")
MONTHS = 200
HIGH = 1000


def another(first: Site, inventory_id: InventoryId) -> Site:
    """One more server of the vault, with a night."""
    folder = first.folder.parent / inventory_id.decode()
    signer = Signer(inventory_id * 2)
    return stranger(first, folder, inventory_id=inventory_id, signer=signer)


@dataclass
class Attacked:
    """A vault of three servers, of which one has condemned what another has; and a keeper.

    `given_up` is what the first and the third gave up themselves.
    """

    shared: SharedVault
    first: Site
    thief: Site
    third: Site
    given_up: dict[InventoryId, set[str]]
    packs: list[PackId]
    keeper: Keeper
    number: int = 500

    def flood(self, thief: Site | None = None) -> None:
        """All that the thief can say of the first one's job, and a day passes."""
        for generation in (Generation.FULL, Generation.DELTA):
            self.number += 1
            forgery = Forgery(condemned=self.packs, number=self.number, generation=generation)
            forge(thief or self.thief, self.first, forgery)
        self.shared.pass_time()

    def keep(self, *accept: str, who: str = "") -> dict[InventoryId, InventoryReport]:
        """What a keeper did for each server; something is amiss as long as one is stopped."""
        report = changed(self.keeper, accept=accept, who=who).keep()
        found = {InventoryId(bytes.fromhex(server.inventory)): server for server in report.inventories}
        assert report.is_partial or not any(server.stopped for server in found.values())
        return found

    def data(self, site: Site) -> set[str]:
        """Its data archives in the vault."""
        return self.shared.data_of(site.inventory.id)

    def assert_stopped(self) -> InventoryReport:
        """Nothing goes for the two; the third is not held up."""
        before = self.data(self.first)
        found = self.keep()
        for site in (self.first, self.thief):
            assert found[site.inventory.id].stopped.startswith("not-its-own")
            assert found[site.inventory.id].deleted.archives == 0
        assert self.data(self.first) == before
        assert not found[self.third.inventory.id].stopped
        return found[self.first.inventory.id]


def asked_about(report: InventoryReport) -> list[str]:
    """The pack ids that a report asks about."""
    return re.findall(r"--accept ([0-9a-f]{32})", report.advice)


@pytest.fixture
def attacked(shared: SharedVault) -> Attacked:
    first = shared.first(2)
    third = another(first, THIRD_ID)
    shared.open.append(third)
    given_up = {site.inventory.id: shared.give_up(site) for site in (first, third)}
    thief = stranger(first)
    shared.open.append(thief)
    keeper = Keeper(shared.folder / "keeper", shared.vault, shared.clock, wait=shared.wait)
    made = Attacked(shared, first, thief, third, given_up, packs_of(first), keeper)
    made.flood()
    return made


@pytest.mark.parametrize("is_living", [False, True], ids=["idle", "living"])
def test_nothing_goes_for_as_long_as_nobody_answers(attacked: Attacked, is_living: bool) -> None:
    """F2: neither after a day, nor after the floor, nor ever; of the third what it gave up goes."""
    shared = attacked.shared
    begun, gone = shared.clock.now(), attacked.given_up[THIRD_ID]
    for day in (1, 31, 60, MONTHS):
        shared.pass_time(begun + day * DAY - shared.clock.now())
        if is_living:
            attacked.flood()
            shared.night(attacked.first, f"day {day}")
        shared.night(attacked.third, f"day {day}")
        attacked.assert_stopped()
        assert (attacked.data(attacked.third) & gone == set()) == (day > 1)
    shared.assert_whole(attacked.first, shared.folder / "out")
    shared.assert_whole(attacked.third, shared.folder / "out third")


def test_what_is_labelled_as_its_own_stops_it_too(attacked: Attacked) -> None:
    """F2: more of them than are tried to see who follows whom; the third server is not held up."""
    shared, first = attacked.shared, attacked.first
    before, gone = attacked.data(first), attacked.given_up[THIRD_ID]
    for number in range(10):
        generation = Generation.DELTA if number % 2 else Generation.FULL
        told = {"condemned": attacked.packs, "claims": [INVENTORY_ID], "labelled": INVENTORY_ID}
        forge(attacked.thief, first, Forgery(number=HIGH + number, generation=generation, **told))  # type: ignore[arg-type]
    for _ in range(2):
        shared.pass_time(MONTHS / 2 * DAY)
        shared.night(attacked.third, "goes on")
        found = attacked.keep()
        assert found[INVENTORY_ID].stopped
        assert not found[THIRD_ID].stopped
    assert attacked.data(first) == before
    assert not attacked.data(attacked.third) & gone
    shared.assert_whole(first, shared.folder / "out")


def test_after_a_persons_answer_its_own_catalogs_decide(attacked: Attacked) -> None:
    """F2: what it gave up itself goes, all else stays, however often the thief says the same again."""
    shared, first = attacked.shared, attacked.first
    shared.pass_time(40 * DAY)
    shared.night(first, "living")
    before, gone = attacked.data(first), attacked.given_up[INVENTORY_ID]
    asked = asked_about(attacked.assert_stopped())
    assert len(asked) == 1
    attacked.keep(asked[0][:8], who="ada@web1")
    assert attacked.data(first) == before - gone
    (answer,) = json.loads((attacked.keeper.folder / "answers.json").read_text())
    assert (answer["who"], answer["pack"], answer["vault"]) == ("ada@web1", asked[0], "shared")
    assert datetime.fromisoformat(answer["at"]) <= shared.clock.now()
    for _ in range(2):
        attacked.flood()
        shared.pass_time(40 * DAY)
        found = attacked.keep()
        assert not found[INVENTORY_ID].stopped
        assert found[STRANGER_ID].stopped, "that one is another pair"
    assert attacked.data(first) == before - gone
    shared.assert_whole(first, shared.folder / "out")
    fourth = another(first, FOURTH_ID)
    shared.open.append(fourth)
    attacked.flood(fourth)
    stopped = attacked.keep()[INVENTORY_ID]
    assert FOURTH_ID.hex() in stopped.stopped
    assert STRANGER_ID.hex() not in stopped.stopped


def test_what_a_server_says_is_no_answer_to_the_keeper(attacked: Attacked) -> None:
    """It may be an intruder's."""
    shared, first = attacked.shared, attacked.first
    (asked,) = asked_about(attacked.assert_stopped())
    with pytest.raises(PruneStoppedError) as caught:
        shared.prune(first)
    assert list(caught.value.accept) == [asked]
    accept_catalogs(first.inventory, shared.vault.name, [asked], "ada", shared.clock.now())
    shared.prune(first)
    shared.pass_time(40 * DAY)
    attacked.assert_stopped()


def test_an_answer_that_nobody_asked_for_is_refused(attacked: Attacked) -> None:
    """Too short, or of the server's own catalog."""
    (asked,) = asked_about(attacked.assert_stopped())
    for words in (asked[:7], "0" * 32, attacked.packs[0].hex()):
        with pytest.raises(UsageError, match="nothing in vault shared waits"):
            attacked.keep(words)
    attacked.assert_stopped()


# The server's own prune.


def test_a_prune_stops_until_somebody_answers(attacked: Attacked) -> None:
    """F2: meanwhile the backup goes on, partial once; a flood asks nothing more.

    A bucket's backup looks at its own catalogs alone: it has it from the check.
    """
    shared, first = attacked.shared, attacked.first
    before, gone = attacked.data(first), attacked.given_up[INVENTORY_ID]
    for _ in range(2):
        with pytest.raises(PruneStoppedError, match="nothing proves that it is this server") as caught:
            shared.prune(first, deletes=True)
        shared.pass_time(40 * DAY)
    assert "not-its-own" in kinds(check(first))
    told = [shared.night(first, f"night {number}") for number in range(2, 5)]
    assert [report.outcome for report in told] == ["partial", "done", "done"]
    assert STRANGER_ID.hex() in " ".join(told[0].warnings)
    with first.inventory.reading() as tx:
        (stays,) = open_strangers(tx, shared.vault.name)
    assert (stays.stranger.inventory_id, stays.was_told) == (STRANGER_ID, True)
    assert before <= attacked.data(first)
    accept_catalogs(first.inventory, shared.vault.name, caught.value.accept, "ada", shared.clock.now())
    attacked.flood()
    assert shared.prune(first, deletes=True).state == "done"
    assert attacked.data(first) & before == before - gone
    with first.inventory.reading() as tx:
        assert open_strangers(tx) == []
    assert shared.night(first, "at last").outcome == "done"
    shared.assert_whole(first, shared.folder / "out")


def test_a_prune_of_the_other_servers_goes_on(attacked: Attacked) -> None:
    """Neither has somebody a catalog of their jobs, nor does what is said of others' archives count."""
    shared, third = attacked.shared, attacked.third
    of_first, of_third = attacked.data(attacked.first), attacked.data(third)
    assert shared.prune(third, deletes=True).deleted.archives
    assert attacked.data(third) == of_third - attacked.given_up[THIRD_ID]
    with pytest.raises(NightvaultError):
        shared.prune(attacked.thief, deletes=True)
    assert attacked.data(attacked.first) == of_first


# What a server's own catalogs say of others' archives.


def _lose_catalogs(shared: SharedVault, *of: Site) -> None:
    """The catalogs of servers are gone; that their data is theirs shows by its labels alone."""
    shared.pass_time(AGE)
    ids = {site.inventory.id for site in of}
    lines = [line for line in listing_of(of[0]).archives if line.label and line.label.inventory_id in ids]
    catalogs = [line.archive_id for line in lines if line.label and line.label.kind is PackKind.CATALOG]
    shared.vault.delete_archives(dict.fromkeys(catalogs))


@pytest.mark.parametrize("claims", [[], [INVENTORY_ID]], ids=["as it is", "as if it had followed"])
@pytest.mark.parametrize("has_catalogs", [True, False], ids=["a server", "its first run is not over"])
def test_a_server_cannot_have_others_archives_deleted_by_its_own_job(
    shared: SharedVault, has_catalogs: bool, claims: list[InventoryId]
) -> None:
    """F2: it names them, with headers that it signed itself, and condemns them."""
    first = shared.first(2)
    thief = stranger(first, ancestors=[THIRD_ID])
    shared.open.append(thief)
    if not has_catalogs:
        _lose_catalogs(shared, first)
    theirs = shared.data_of(INVENTORY_ID)
    lines = [line for line in listing_of(first).archives if line.archive_id in theirs]
    packs = [line.label.pack_id for line in lines if line.label]
    for number in (HIGH, HIGH + 1):
        forge(thief, thief, Forgery(condemned=packs, named=lines, number=number, claims=claims))
        shared.pass_time(AGE)
    keeper = Keeper(shared.folder / "keeper", shared.vault, shared.clock, wait=shared.wait)
    assert keeper.keep().is_partial
    assert shared.data_of(INVENTORY_ID) == theirs


@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "not signed"])
def test_what_an_ancestor_without_catalogs_stored_goes_where_it_is_proven(
    shared: SharedVault, is_signed: bool
) -> None:
    """Its heir condemned it; without a recovery key's word it may be another server's."""
    first = shared.first(2)
    heir = shared.heir(first, "heir", is_signed=is_signed)
    (source_of(first) / "night 1").unlink()
    numbers = [snapshot.number for snapshot in heir.snapshots()]
    shared.night(heir, "of the heir")
    shared.pass_time(AGE)
    heir.amend(records.ForgottenRecord(numbers, micros(shared.clock.now())))
    shared.prune(heir)
    shared.pass_time(4 * DAY)
    shared.prune(heir)
    before = shared.data_of(INVENTORY_ID)
    _lose_catalogs(shared, first)
    shared.night(heir, "goes on")
    keeper = Keeper(shared.folder / "keeper", shared.vault, shared.clock, wait=shared.wait)
    report = keeper.only()
    assert (report.stopped, report.deleted.archives) == ("", int(is_signed))
    assert len(before - shared.data_of(INVENTORY_ID)) == int(is_signed)
    assert bool(report.warnings) != is_signed
