"""Thousands of deletions: resumable wherever they are cut, no request twice for nothing, in bounded memory.

NIGHTVAULT_DELETIONS says how many: 5,000 without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import InterruptedRunError, UnreachableError
from backup.inventory.content import pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.packed import index_chunks
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.store import schema
from backup.inventory.store.times import micros
from backup.model import ArchiveId, ListedArchive, Listing, ListingId, PackKind, Refusal, TreeHash
from backup.protocols import VaultTraits
from backup.pruner.delete import Deleted, Deleting, delete_all
from backup.transfer.retry import RetryPolicy
from tests.support import campaigns
from tests.support.checks import query
from tests.support.doubles import Fault, FaultyVault, PowerCut, Silent
from tests.support.nightly_servers import DAY, Nights
from tests.support.restores import peak

COUNT = campaigns.share("NIGHTVAULT_DELETIONS", 5000)
FIRST = 1_000_000  # numbers of the made-up archives, and of their chunks
SIZE = 2**28
DELETED = "SELECT count(*) FROM archives WHERE number >= ? AND state = 'deleted'"
MOST_A_DELETION = 3  # KiB of memory


class Crowded(FaultyVault):
    """A vault that lists many made-up archives besides; it deletes so many `at_once`."""

    def __init__(self, nights: Nights, count: int, at_once: int, *faults: Fault) -> None:
        super().__init__(nights.vault, *faults)
        self.clock, self.at_once = nights.clock, at_once
        self.listed = {ArchiveId(f"made up {number}") for number in range(count)}
        self.asked: Counter[ArchiveId] = Counter()
        self.since = nights.clock.now()

    @property
    def traits(self) -> VaultTraits:
        return replace(self.vault.traits, deletes_at_once=self.at_once)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        real = super().fetch_listing(listing_id)
        tree_hash = TreeHash(b"t" * 32)
        more = [
            ListedArchive(archive_id, "", None, SIZE, tree_hash, self.since)
            for archive_id in sorted(self.listed)
        ]
        return replace(real, archives=[*real.archives, *more])

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None
    ) -> Mapping[ArchiveId, Refusal]:
        assert len(stored) <= self.at_once

        def delete() -> Mapping[ArchiveId, Refusal]:
            with self._lock:
                self.asked.update(stored.keys())
            return {}

        return self._meet("delete_archives", delete)


def seed(nights: Nights, count: int) -> None:
    """So many archives of one chunk each that were condemned, and told to be."""
    at = micros(nights.clock.now())
    (domain,), *_ = query(nights.site, "SELECT number FROM domains")
    numbers = range(FIRST, FIRST + count)
    kind, state = int(PackKind.DATA), ArchiveState.CONDEMNED
    with nights.site.inventory.writing() as tx:
        insert_rows(tx, schema.archives, [
            (n, domain, None, kind, state, n.to_bytes(16, "big"), b"h", SIZE, b"t" * 32,
             f"made up {n - FIRST}", at, at, None, None)
            for n in numbers
        ])  # fmt: skip
        insert_rows(tx, schema.chunks, [(n, n, n.to_bytes(32, "big"), n, 0, 0, 1) for n in numbers])
        index_chunks(tx)
        insert_rows(tx, schema.condemnations, [(n, 1, at) for n in numbers])


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    """One night."""
    made = Nights(tmp_path)
    made.night()
    return made


@pytest.mark.parametrize(
    ("count", "at_once", "is_stale"), [(COUNT // 5, 1, True), (COUNT, 1000, False), (COUNT, 1000, True)]
)
def test_cut_and_resumed(nights: Nights, count: int, at_once: int, is_stale: bool) -> None:
    """The second list shows what was deleted, where it is stale: only what was not answered is repeated."""
    seed(nights, count)
    nights.clock.advance(5 * DAY)
    cut = Fault("delete_archives", PowerCut("gone"), after=True, skip=count // at_once // 3)
    vault = Crowded(nights, count, at_once, cut)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    with suppress(PowerCut):
        replace(nights.site, vault=vault).prune()
    assert 0 < len(vault.listed - vault.asked.keys()) < count
    nights.site = nights.site.reopen()
    ((answered,),) = query(nights.site, DELETED, FIRST)
    again = Crowded(nights, count, at_once)
    if not is_stale:
        again.listed -= vault.asked.keys()
    report = replace(nights.site, vault=again).prune()
    assert report.deleted.archives + report.deleted_elsewhere == count - answered
    assert len(vault.asked + again.asked) == count
    twice = vault.asked.keys() & again.asked.keys()
    assert len(twice) == (len(vault.asked) - answered if is_stale else 0)
    assert len(twice) <= max(at_once, 8), "asked for again, although it was answered"
    assert set((again.asked + vault.asked).values()) <= {1, 2}
    assert query(nights.site, "SELECT count(*) FROM chunks WHERE number >= ?", FIRST) == [(0,)]
    assert peak() - before < 64 * 1024 + count * MOST_A_DELETION
    nights.assert_kept()
    nights.site.close()


def test_what_was_answered_beside_a_failure_is_recorded(nights: Nights) -> None:
    """Of requests side by side one fails: the others are not sent again."""
    seed(nights, 20)
    nights.clock.advance(5 * DAY)
    vault = Crowded(nights, 20, 1, Fault("delete_archives", UnreachableError("away"), skip=3, count=10**6))
    with pytest.raises(UnreachableError):
        replace(nights.site, vault=vault).prune()
    assert len(vault.asked) == 3
    again = Crowded(nights, 20, 1)
    replace(nights.site, vault=again).prune()
    assert not vault.asked.keys() & again.asked.keys()
    assert len(again.asked) == 17
    nights.site.close()


class OneByOne(FaultyVault):
    """A vault that deletes one archive a request."""

    @property
    def traits(self) -> VaultTraits:
        return replace(super().traits, deletes_at_once=1)


def test_it_stops_between_batches_and_keeps_what_was_answered(nights: Nights) -> None:
    with nights.site.inventory.reading() as tx:
        every = pruning.stored_archives(tx, nights.vault.name)
    asked = iter([False, True])
    vault = OneByOne(nights.vault)
    work = Deleting(vault, RetryPolicy(nights.clock), Silent(), threads=1, stop=lambda: next(asked))
    told: list[Deleted] = []
    with pytest.raises(InterruptedRunError, match="the next time"):
        delete_all(every[:3], work, told.append)
    assert [batch.gone for batch in told] == [[every[0]]]
    assert vault.calls["delete_archives"] == 1
