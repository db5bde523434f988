"""What may go wrong with a prune: refusals, lost answers, wrong clocks, others who delete or write."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.format import records
from backup.format.treehash import tree_hash
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import stored_archives
from backup.inventory.records import amendments, retrievals
from backup.inventory.store.driver import changed
from backup.inventory.store.schema import METADATA
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros
from backup.model import (
    MIB,
    ArchiveId,
    ArchiveLabel,
    Generation,
    InventoryId,
    PackId,
    PackKind,
    Part,
    Refusal,
    Tier,
    VaultState,
)
from backup.protocols import Clock, Vault
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Trust
from backup.restorer.restore import begin_restore, plan_restore
from backup.transfer.retrievals.listing import newest_kept_head
from tests.support.backups import Site
from tests.support.checks import query
from tests.support.doubles import NO_LIMIT, Blindfolded, Fault, FaultyVault, PowerCut
from tests.support.nightly_servers import DAY, Nights
from tests.support.rebuilds import bare, line_of

_CHANGE_ANYWAY = {"listings", "listed_archives", "counters"}


class Refusing(FaultyVault):
    """A vault that is locked."""

    def __init__(self, vault: Vault, until: datetime | None) -> None:
        super().__init__(vault)
        self._until = until

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None
    ) -> Mapping[ArchiveId, Refusal]:
        self.calls["delete_archives"] += 1
        return {archive_id: Refusal("it is locked", self._until) for archive_id in stored}


class Telling(FaultyVault):
    """A vault that tells its time."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        super().__init__(vault)
        self._clock = clock

    def state(self) -> VaultState:
        return replace(super().state(), at=self._clock.now())


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    """Six nights."""
    made = Nights(tmp_path)
    for _ in range(6):
        made.night()
    yield made
    made.site.close()


def every_row(site: Site) -> dict[str, list[Any]]:
    """All rows of the inventory, but for the vault's lists."""
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database:
        return {
            table: sorted(database.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr)
            for table in METADATA.tables
            if table not in _CHANGE_ANYWAY
        }


def ids(nights: Nights, state: ArchiveState) -> list[ArchiveId]:
    """The archives in that state."""
    rows = query(nights.site, "SELECT archive_id FROM archives WHERE state = ? ORDER BY number", str(state))
    return [ArchiveId(row[0]) for row in rows]


def enrolled(site: Site, number: int) -> Site:
    """The site with one enrolment more, so that its next backup writes a full catalog."""
    more = (bytes([number + 1]) * 16, bytes([number + 1]) * 32)
    return replace(site, keys=replace(site.keys, enrolments=(site.keys.enrolments[0], more)))


def test_a_vault_that_refuses_changes_nothing_but_the_day_of_the_next_try(nights: Nights) -> None:
    """All rows are compared; what was forgotten can still be taken back."""
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.clock.advance(5 * DAY)
    was = every_row(nights.site)
    until = nights.clock.now() + 30 * DAY
    locked = Refusing(nights.vault, until)
    report = replace(nights.site, vault=locked).prune()
    assert [(group.archives, group.until) for group in report.refused] == [(2, until)]
    assert (report.deleted.archives, report.dropped, report.recovery_lines) == (0, {}, {})
    found = every_row(nights.site)
    assert {row[3] for row in found.pop("deletions")} == {micros(until)}
    assert was.pop("deletions") == []
    assert found == was
    nights.clock.advance(DAY)
    assert replace(nights.site, vault=locked).prune().refused == []
    assert locked.calls["delete_archives"] == 1, "asked before the day"
    nights.take_back(1, 2, 3, 4)
    nights.assert_kept()


def test_what_is_refused_without_a_day_is_asked_for_again_in_a_week(nights: Nights) -> None:
    nights.forget(1, 2, 3, 4)
    vault = Refusing(nights.vault, None)
    site = replace(nights.site, vault=vault)
    site.prune()
    for days, calls in ((4, 1), (6, 1), (2, 2)):
        nights.clock.advance(days * DAY)
        site.prune()
        assert vault.calls["delete_archives"] == calls


def test_what_was_refused_after_a_lost_answer_is_not_relied_on(nights: Nights) -> None:
    """The request that was cut off may have been carried out: whatever the vault says now, it is going."""
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.clock.advance(5 * DAY)
    cut = FaultyVault(nights.vault, Fault("delete_archives", PowerCut("gone")))
    with pytest.raises(PowerCut):
        replace(nights.site, vault=cut).prune()
    nights.site = nights.site.reopen()
    locked = Refusing(nights.vault, nights.clock.now() + 30 * DAY)
    report = replace(nights.site, vault=locked).prune()
    assert sum(group.archives for group in report.refused) == 2
    assert nights.states().count(ArchiveState.DELETING) == 2
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [5, 6]
    nights.clock.advance(31 * DAY)
    assert nights.site.prune().deleted.archives == 2
    nights.assert_kept()


def test_grace_begins_when_the_catalog_is_stored(nights: Nights) -> None:
    """A prune that was cut off told nobody; who finishes it days later begins the grace period."""
    nights.forget(1, 2, 3, 4)
    cut = FaultyVault(nights.vault, Fault("complete_upload", PowerCut("gone")))
    with pytest.raises(PowerCut):
        replace(nights.site, vault=cut).prune()
    nights.site = nights.site.reopen(nights.vault)
    nights.clock.advance(20 * DAY)
    assert nights.site.prune().deleted.archives == 0
    assert nights.states().count(ArchiveState.CONDEMNED) == 2
    nights.clock.advance(4 * DAY)
    assert nights.site.prune().deleted.archives == 2


def test_a_condemnation_of_a_clock_that_was_ahead_is_said_again(nights: Nights) -> None:
    nights.forget(1, 2, 3, 4)
    nights.clock.advance(4000 * DAY)
    nights.site.prune()
    nights.clock.advance(-4000 * DAY)
    assert nights.site.prune().deleted.archives == 0
    nights.clock.advance(4 * DAY)
    assert nights.site.prune().deleted.archives == 2
    nights.assert_kept()


def test_what_others_deleted_and_is_needed_again_is_lost(nights: Nights) -> None:
    """Taken back in the moment in which somebody else deleted it: the next backup stores what it can."""
    nights.forget(4, 5, 6)
    (nights.source / "file 6").rename(nights.folder / "file 6")
    nights.night("file 7")
    nights.forget(7)
    nights.site.prune()
    nights.vault.delete_archives(dict.fromkeys(ids(nights, ArchiveState.CONDEMNED)))
    nights.take_back(4, 5, 6, 7)
    report = nights.site.prune()
    assert report.deleted_elsewhere > 0
    assert report.taken_up.archives == 0
    assert ids(nights, ArchiveState.LOST)
    assert not nights.states().count(ArchiveState.CONDEMNED)


def test_a_restore_of_a_forgotten_snapshot_is_waited_for(nights: Nights, tmp_path: Path) -> None:
    """One that began while its archives were being deleted neither stops the prune nor loses its snapshot."""
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.clock.advance(5 * DAY)
    first = nights.site.snapshots(also_forgotten=True)[0]
    world = nights.site.restore_world
    plan = plan_restore(first, os.fsencode(nights.source), world)

    class Meanwhile(FaultyVault):
        def delete_archives(self, stored: Any, versions: Any = None) -> Any:
            target = os.fsencode(tmp_path / "late")
            begin_restore(plan, target, world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [nights.site.key])
            return super().delete_archives(stored, versions)

    replace(nights.site, vault=Meanwhile(nights.vault)).prune()
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [1, 5, 6]
    with nights.site.inventory.writing() as tx:  # a catalog that was stored before it began
        amendments.apply(tx, 1, [records.DroppedRecord([1])])
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [1, 5, 6]
    with nights.site.inventory.writing() as tx:
        (late,) = retrievals.list_restores(tx)
        retrievals.close_restore(tx, late.number, RestoreStage.CANCELLED, nights.clock.now())
    nights.site.prune()
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [5, 6]


def test_an_old_recovery_line_leads_to_a_state_that_is_not_older(nights: Nights, tmp_path: Path) -> None:
    """Its catalogs were pruned since."""
    line = line_of(nights.site)
    for number in range(3):
        nights.site = enrolled(nights.site, number)
        nights.night()
    nights.site.prune()
    nights.clock.advance(5 * DAY)
    assert nights.site.prune().deleted.archives > 3
    assert line.delta.archive_id not in nights.listed()
    fulls = "SELECT count(*) FROM catalogs c JOIN archives a ON a.number = c.archive WHERE generation = 2"
    assert query(nights.site, f"{fulls} AND a.state = 'stored'") == [(2,)]
    back = bare(tmp_path, nights.site)
    report = back.rebuild(Wish(lines=(line,), trust=Trust()))
    assert report.state == "done"
    rebuilt = back.site()
    assert [snapshot.id for snapshot in rebuilt.snapshots()] == [
        snapshot.id for snapshot in nights.site.snapshots()
    ]
    rebuilt.close()


def test_a_stranger_stops_it(nights: Nights, tmp_path: Path) -> None:
    """A server that was thought to be gone wakes up, and writes on beside the one that was rebuilt."""
    back = bare(tmp_path, nights.site)
    assert back.rebuild().state == "done"
    rebuilt = back.site()
    for _ in range(3):
        nights.clock.advance(DAY)
        rebuilt.backup()
    assert rebuilt.prune().state == "done"
    replace(nights.site, vault=Blindfolded(nights.vault)).backup()
    with pytest.raises(PruneStoppedError, match="does not know"):
        rebuilt.prune()
    rebuilt.close()


@pytest.mark.parametrize(
    ("inventory", "job", "stops"),
    [
        ("own", "unknown", True),
        ("predecessor", "unknown", True),
        ("unknown", "own", True),
        ("unknown", "unknown", False),
    ],
)
def test_whose_catalogs_stop_it(
    nights: Nights, tmp_path: Path, inventory: str, job: str, stops: bool
) -> None:
    """Those of this inventory, of the one that it was rebuilt from, and of its jobs, whoever wrote them."""
    back = bare(tmp_path, nights.site)
    back.rebuild()
    rebuilt = replace(back.site(), vault=Blindfolded(nights.vault))  # as where lists are late
    rebuilt.backup()
    writers = {"own": rebuilt.inventory.id, "predecessor": rebuilt.inventory.predecessor}
    ((own,),) = query(rebuilt, "SELECT id FROM jobs")
    label = ArchiveLabel(
        PackKind.CATALOG,
        PackId(b"of nobody known!"),
        writers.get(inventory) or InventoryId(b"somebody else 16"),
        number=900,
        generation=Generation.DELTA,
        job_id=own if job == "own" else b"a job of others.",
    )
    data = bytes(MIB)
    upload = nights.vault.begin_upload(label, MIB)
    part = Part(0, MIB, tree_hash(data), b"", 1)
    nights.vault.put_part(upload, part, memoryview(data))
    nights.vault.complete_upload(upload, label, MIB, tree_hash(data), [part])
    told = "nothing proves that" if inventory == "unknown" else "does not know"
    with pytest.raises(PruneStoppedError, match=told) if stops else nullcontext():
        rebuilt.prune()
    rebuilt.close()


def test_a_stranger_with_low_numbers_stops_it(nights: Nights, tmp_path: Path) -> None:
    """He slept so long that all catalogs with numbers like his are deleted; the vault's clock tells."""
    back = bare(tmp_path, nights.site)
    assert back.rebuild().state == "done"
    rebuilt = replace(back.site(), vault=Telling(nights.vault, nights.clock))
    for number in range(3):
        nights.clock.advance(DAY)
        enrolled(rebuilt, number).backup()
    rebuilt.prune()
    nights.clock.advance(5 * DAY)
    assert rebuilt.prune().deleted.archives > 3
    replace(nights.site, vault=Blindfolded(nights.vault)).backup()
    with pytest.raises(PruneStoppedError, match="does not know"):
        rebuilt.prune()
    rebuilt.close()


def test_after_two_rebuilds_old_catalogs_do_not_stop_it(nights: Nights, tmp_path: Path) -> None:
    """Those of the machine before the last are older than all that is known."""
    site = nights.site
    for number in range(2):
        for turn in range(3):
            again = enrolled(site, 10 * number + turn)
            nights.clock.advance(DAY)
            again.backup()
        back = bare(tmp_path, site, f"bare {number}")
        back.new_id = InventoryId(b"rebuilt again %2d" % number)
        wish = Wish(inventory=site.inventory.id.hex(), trust=Trust())
        assert back.rebuild(wish).state == "done"
        site = back.site()
    site.backup()
    assert site.prune().state == "done"
    site.close()


def test_a_clock_that_falls_back_while_a_prune_runs_shortens_no_grace(nights: Nights) -> None:
    """The vault's list says when it took the catalog that condemns, where the vault has a clock."""
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.site.prune()  # by a list that shows that catalog
    taken = nights.clock.now() + 20 * DAY
    inventory, vault = nights.site.inventory, nights.vault.name
    with inventory.writing() as tx:
        head = newest_kept_head(tx, nights.vault)
        assert head is not None
        changed(
            tx, "UPDATE listed_archives SET created_at = ? WHERE listing = ?", (micros(taken), head.number)
        )
    with inventory.reading() as tx:
        by_list = stored_archives(tx, vault, head.number, has_clock=True)
        by_ours = stored_archives(tx, vault, head.number)
    condemned = [archive for archive in by_list if archive.is_condemned]
    assert condemned
    assert {archive.told_at for archive in condemned} == {taken}
    assert all(archive.told_at < taken for archive in by_ours if archive.told_at)
