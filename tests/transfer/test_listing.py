"""A vault's list: asked for once, found again after a lost answer, kept, and honest about what is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.errors import DeniedError, UnreachableError, VaultError
from backup.inventory.content import archives
from backup.inventory.records import retrievals
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import ListingStage
from backup.model import ListingId, RetrievalId, RetrievalState, RetrievalStatus
from backup.transfer.retrievals.listing import continue_listing, newest_kept, request_listing
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault, ManualClock, PowerCut


class ColdVault(FaultyVault):
    """A vault whose listing stands as it is told to."""

    def __init__(self, vault: DirectoryVault, *faults: Fault) -> None:
        super().__init__(vault, *faults)
        self.status = RetrievalStatus(RetrievalState.WAITING)

    def listing_status(self, listing_id: ListingId) -> RetrievalStatus:
        super().listing_status(listing_id)
        return self.status


@pytest.fixture
def cold(disk: DirectoryVault) -> ColdVault:
    return ColdVault(disk)


def states(inventory: Inventory, vault: FaultyVault) -> list[str]:
    with inventory.reading() as tx:
        found = {state: retrievals.newest_listing(tx, vault.name, state=state) for state in
                 ListingStage}  # fmt: skip
    return [state for state, row in found.items() if row is not None]


def test_asked_for_once_and_kept(site: Site, source: Path, clock: ManualClock, cold: ColdVault) -> None:
    (source / "a").write_text("a")
    site.backup()
    assert newest_kept(site.inventory, cold) is None
    for _ in range(3):
        request_listing(site.inventory, cold, clock)
    assert cold.calls["request_listing"] == 1
    assert continue_listing(site.inventory, cold, clock) is False
    assert newest_kept(site.inventory, cold) is None

    cold.status = RetrievalStatus(RetrievalState.READY)
    assert continue_listing(site.inventory, cold, clock) is True
    kept = newest_kept(site.inventory, cold)
    assert kept is not None
    with site.inventory.reading() as tx:
        ours = {archive.archive_id for archive in archives.list_archives(tx, site.inventory.id)}
    assert {line.archive_id for line in kept[1]} == ours
    assert continue_listing(site.inventory, cold, clock) is True
    assert cold.calls["fetch_listing"] == 1

    request_listing(site.inventory, cold, clock)  # a newer one, while the old one is still to be seen
    assert states(site.inventory, cold) == ["waiting", "kept"]


def test_patient_with_a_vault_that_is_away(
    inventory: Inventory, clock: ManualClock, disk: DirectoryVault
) -> None:
    faults = [
        Fault("request_listing", UnreachableError("away"), count=2),
        Fault("listing_status", UnreachableError("away"), count=2),
        Fault("fetch_listing", UnreachableError("away"), count=2),
    ]
    vault = FaultyVault(disk, *faults)
    request_listing(inventory, vault, clock)
    assert continue_listing(inventory, vault, clock) is True
    vault.assert_all_met()
    assert newest_kept(inventory, vault) is not None


def test_a_refusal_leaves_nothing_behind(
    inventory: Inventory, clock: ManualClock, disk: DirectoryVault
) -> None:
    vault = FaultyVault(disk, Fault("request_listing", DeniedError("no")))
    with pytest.raises(DeniedError):
        request_listing(inventory, vault, clock)
    assert states(inventory, vault) == []
    request_listing(inventory, vault, clock)
    assert states(inventory, vault) == ["waiting"]


@pytest.mark.parametrize("how", [RetrievalState.FAILED, RetrievalState.EXPIRED])
def test_a_list_that_does_not_come_is_said_and_can_be_asked_for_again(
    inventory: Inventory, clock: ManualClock, cold: ColdVault, how: RetrievalState
) -> None:
    request_listing(inventory, cold, clock)
    cold.status = RetrievalStatus(how, "the vault's own word")
    with pytest.raises(VaultError, match="the vault's own word") as caught:
        continue_listing(inventory, cold, clock)
    assert "listing request disk" in caught.value.advice
    assert states(inventory, cold) == []
    assert continue_listing(inventory, cold, clock) is True
    request_listing(inventory, cold, clock)
    assert cold.calls["request_listing"] == 2


class Remembering(FaultyVault):
    """Knows the listings that were asked for by their tokens, as Glacier does."""

    def __init__(self, vault: DirectoryVault, *faults: Fault) -> None:
        super().__init__(vault, *faults)
        self.known: dict[str, RetrievalId] = {}

    def request_listing(self, token: str) -> ListingId:
        def ask() -> ListingId:
            asked = self.vault.request_listing(token)
            self.known[token] = RetrievalId(asked)
            return asked

        return self._meet("request_listing", ask)

    def open_retrievals(self) -> dict[str, RetrievalId]:
        return self.known


@pytest.mark.parametrize(("after", "asked"), [(True, 1), (False, 2)])
def test_a_request_that_was_cut_off_is_found_again_if_it_arrived(
    inventory: Inventory, clock: ManualClock, disk: DirectoryVault, after: bool, asked: int
) -> None:
    vault = Remembering(disk, Fault("request_listing", PowerCut("dark"), after=after))
    with pytest.raises(PowerCut):
        request_listing(inventory, vault, clock)
    assert states(inventory, vault) == ["planned"]
    awake = Remembering(disk)
    awake.known = vault.known
    request_listing(inventory, awake, clock)
    assert vault.calls["request_listing"] + awake.calls["request_listing"] == asked
    assert states(inventory, awake) == ["waiting"]
    assert continue_listing(inventory, awake, clock) is True
    assert newest_kept(inventory, awake) is not None


class Overtaken(FaultyVault):
    """A vault that is asked by another process, too, which gets and keeps the list while this one waits."""

    def __init__(self, vault: DirectoryVault, site: Site, clock: ManualClock) -> None:
        super().__init__(vault)
        self._site, self._clock = site, clock

    def request_listing(self, token: str) -> ListingId:
        asked = super().request_listing(token)
        request_listing(self._site.inventory, self.vault, self._clock)
        assert continue_listing(self._site.inventory, self.vault, self._clock)
        return asked


def test_two_processes_that_ask_for_one_list(
    site: Site, source: Path, clock: ManualClock, disk: DirectoryVault
) -> None:
    """The first one hears of it after the second has kept the list: it stays kept, and is not kept twice."""
    (source / "a").write_text("a")
    site.backup()
    request_listing(site.inventory, Overtaken(disk, site, clock), clock)
    assert states(site.inventory, FaultyVault(disk)) == [ListingStage.KEPT]
    assert continue_listing(site.inventory, disk, clock)
    request_listing(site.inventory, disk, clock)
    assert continue_listing(site.inventory, disk, clock)
