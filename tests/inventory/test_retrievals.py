"""Restores, retrievals and listings as rows: recorded before anything is asked for, found afterwards."""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import InventoryDamagedError
from backup.inventory.content.archives import get_or_create_vault
from backup.inventory.records import restore_state, retrievals
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import ListingStage, RestoreStage, RetrievalStage
from backup.model import (
    MIB,
    ArchiveId,
    ByteRange,
    ListedArchive,
    Listing,
    ListingId,
    Problem,
    ProblemKind,
    RetrievalId,
    SnapshotId,
    Tier,
    TreeHash,
    VaultName,
)
from tests.support.backups import Site
from tests.support.doubles import START, ManualClock

DISK = VaultName("disk")
RANGES = [(1, ByteRange(0, 2 * MIB), "token-1"), (1, ByteRange(4 * MIB, 5 * MIB + 3), "token-2")]


@pytest.fixture
def snapshot(site: Site, source: Path) -> SnapshotId:
    """A snapshot to restore, with an archive 1."""
    (source / "file").write_text("content")
    return SnapshotId(site.backup().snapshot)


@pytest.fixture
def books(site: Site, snapshot: SnapshotId) -> Inventory:
    return site.inventory


def opened(books: Inventory, snapshot: SnapshotId, restore_id: str = "r" * 16) -> Restore:
    """A restore with two planned retrievals."""
    with books.writing() as tx:
        number = retrievals.open_restore(
            tx,
            restore_id=restore_id,
            snapshot=snapshot,
            vault=DISK,
            path=b"/caf\xe9",
            target=b"/out\xff",
            tier=Tier.BULK,
            now=START,
        )
        wanted = [(archive, extent, f"{restore_id} {token}") for archive, extent, token in RANGES]
        retrievals.plan_retrievals(tx, number, wanted, Tier.BULK)
        return retrievals.find_restore(tx, number)


def known(books: Inventory, restore: Restore) -> list[Retrieval]:
    with books.reading() as tx:
        return retrievals.retrievals_of(tx, restore.number)


def test_a_restore_comes_back_as_it_was_recorded(books: Inventory, snapshot: SnapshotId) -> None:
    restore = opened(books, snapshot)
    expected = Restore(
        restore.number,
        "r" * 16,
        snapshot,
        DISK,
        b"/caf\xe9",
        b"/out\xff",
        Tier.BULK,
        RestoreStage.OPEN,
        START,
        None,
    )
    assert restore == expected
    with books.reading() as tx:
        assert retrievals.list_restores(tx) == [expected]


def test_retrievals_keep_the_order_of_the_plan(books: Inventory, snapshot: SnapshotId) -> None:
    restore = opened(books, snapshot)
    assert [
        (retrieval.archive, retrieval.extent, retrieval.tier, retrieval.retrieval_id, retrieval.state)
        for retrieval in known(books, restore)
    ] == [(archive, extent, Tier.BULK, None, "planned") for archive, extent, _ in RANGES]


def test_closed_restores_are_not_open(books: Inventory, snapshot: SnapshotId, clock: ManualClock) -> None:
    one, other = opened(books, snapshot), opened(books, snapshot, "s" * 16)
    clock.advance(timedelta(hours=5))
    with books.writing() as tx:
        retrievals.close_restore(tx, one.number, RestoreStage.DONE, clock.now())
    with books.reading() as tx:
        assert retrievals.list_restores(tx, only_open=True) == [other]
        assert [restore.id[0] for restore in retrievals.list_restores(tx)] == ["s", "r"]
        closed = retrievals.find_restore(tx, one.number)
    assert (closed.state, closed.finished_at) == ("done", START + timedelta(hours=5))


def test_a_retrieval_from_planned_to_ready_and_again(books: Inventory, snapshot: SnapshotId) -> None:
    restore = opened(books, snapshot)
    first, second = known(books, restore)
    asked = replace(
        first,
        state=RetrievalStage.WAITING,
        retrieval_id=RetrievalId("job"),
        requested_at=START,
        asked=first.extent,
        until=START + timedelta(hours=24),
    )
    for changed in (
        asked,
        replace(asked, state=RetrievalStage.READY),
        replace(asked, state=RetrievalStage.READY, written_to=MIB),
    ):
        with books.writing() as tx:
            restore_state.retrievals_changed(tx, [changed])
        assert known(books, restore) == [changed, second]
    with books.writing() as tx:
        restore_state.retrievals_changed(tx, [restore_state.again(known(books, restore)[0], "token-3")])
    again, other = known(books, restore)
    assert (again.token, again.state, again.retrieval_id, again.asked) == ("token-3", "planned", None, None)
    assert (again.written_to, again.left.start, again.left.end) == (MIB, MIB, first.extent.end)
    assert other == second


def test_what_is_alive_can_be_shared(books: Inventory, snapshot: SnapshotId) -> None:
    first, _ = known(books, opened(books, snapshot))
    gone = replace(
        first,
        state=RetrievalStage.WAITING,
        retrieval_id=RetrievalId("job"),
        asked=first.extent,
        until=START + timedelta(hours=24),
    )

    def alive(now: datetime) -> list[Retrieval]:
        with books.reading() as tx:
            return list(restore_state.alive_retrievals(tx, [first.archive], now).get(first.archive, ()))

    assert alive(START) == []
    with books.writing() as tx:
        restore_state.retrievals_changed(tx, [gone])
    assert alive(START) == [gone]
    assert alive(START + timedelta(hours=24)) == []
    inside = ByteRange(first.extent.start, first.extent.start + 1)
    assert restore_state.shareable(gone, inside, Tier.BULK)
    assert not restore_state.shareable(gone, inside, Tier.STANDARD)  # it would come later
    assert restore_state.shareable(replace(gone, state=RetrievalStage.READY), inside, Tier.EXPEDITED)
    assert not restore_state.shareable(gone, ByteRange(first.extent.start, first.extent.end + 1), Tier.BULK)
    with books.writing() as tx:
        restore_state.output_gone(tx, [RetrievalId("job")], START)
    assert alive(START) == []


def test_progress_is_what_was_kept(books: Inventory, snapshot: SnapshotId) -> None:
    restore = opened(books, snapshot)
    with books.reading() as tx:
        assert restore_state.read_progress(tx, restore.number) is None
    problem = Problem(b"caf\xe9", ProblemKind.DAMAGED, "gone")
    counts = (3, 4000, 5000, 1.5)
    gone = frozenset({b"caf\xe9", b"a"})
    kept = restore_state.RestoreState(*counts, (problem,), gone, elsewhere={7: "it is gone"})
    with books.writing() as tx:
        restore_state.keep_progress(tx, restore.number, kept)
    with books.reading() as tx:
        assert restore_state.read_progress(tx, restore.number) == kept


def test_what_was_not_committed_was_never_asked_for(books: Inventory, snapshot: SnapshotId) -> None:
    def interrupted() -> None:
        with books.writing() as tx:
            number = retrievals.open_restore(
                tx,
                restore_id="r" * 16,
                snapshot=snapshot,
                vault=DISK,
                path=b"/",
                target=b"/",
                tier=Tier.BULK,
                now=START,
            )
            retrievals.plan_retrievals(tx, number, RANGES, Tier.BULK)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with books.reading() as tx:
        assert retrievals.list_restores(tx) == []


def test_a_token_belongs_to_one_retrieval(books: Inventory, snapshot: SnapshotId) -> None:
    opened(books, snapshot)
    with pytest.raises(InventoryDamagedError) as caught:
        opened(books, snapshot)
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)


def test_no_restore_has_a_number_that_was_not_given_out(books: Inventory) -> None:
    with pytest.raises(InventoryDamagedError, match="a row is missing"), books.reading() as tx:
        retrievals.find_restore(tx, 4711)


# Listings.


def listed(number: int) -> ListedArchive:
    tree_hash = TreeHash(os.urandom(32)) if number % 2 else None
    when = START + timedelta(seconds=number)
    return ListedArchive(ArchiveId(f"archive-{number}"), f"text {number}", None, number, tree_hash, when)


def test_a_listing_is_kept(inventory: Inventory) -> None:
    with inventory.writing() as tx:
        vault = get_or_create_vault(tx, DISK)
        number = retrievals.open_listing(tx, vault, "token", START)
        assert retrievals.newest_listing(tx, DISK, state=ListingStage.WAITING) is None
        retrievals.listing_requested(tx, number, ListingId("job"))
        waiting = retrievals.newest_listing(tx, DISK, state=ListingStage.WAITING)
        assert waiting is not None
        assert (waiting.number, waiting.listing_id) == (number, "job")
    lines = [listed(3), listed(1), listed(2)]
    with inventory.writing() as tx:
        retrievals.keep_listing(tx, number, Listing(START, lines))
    with inventory.reading() as tx:
        assert retrievals.newest_listing(tx, DISK, state=ListingStage.WAITING) is None
        assert retrievals.newest_listing(tx, VaultName("other"), state=ListingStage.KEPT) is None
        kept = retrievals.newest_listing(tx, DISK, state=ListingStage.KEPT)
        assert kept is not None
        rows = retrievals.kept_archives(tx, kept.number)
    assert [(row.archive_id, row.description, row.size, row.tree_hash) for row in rows] == [
        (line.archive_id, line.description, line.size, line.tree_hash)
        for line in sorted(lines, key=lambda line: line.created_at)
    ]


def test_the_newest_listing_counts_and_a_dropped_one_does_not(inventory: Inventory) -> None:
    with inventory.writing() as tx:
        vault = get_or_create_vault(tx, DISK)
        numbers = [retrievals.open_listing(tx, vault, f"token-{place}", START) for place in range(2)]
        for number in numbers:
            retrievals.listing_requested(tx, number, ListingId(f"job-{number}"))
        newest = retrievals.newest_listing(tx, DISK, state=ListingStage.WAITING)
        assert newest is not None
        assert newest.number == numbers[1]
        retrievals.drop_listing(tx, numbers[1])
        newest = retrievals.newest_listing(tx, DISK, state=ListingStage.WAITING)
        assert newest is not None
        assert newest.number == numbers[0]
