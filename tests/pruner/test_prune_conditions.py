"""Each condition of a deletion by itself: without it, something that is needed would go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.identities import set_state_of_contents
from backup.inventory.store.invariants import INVARIANTS, violations
from backup.inventory.store.times import micros
from backup.model import Listing, ListingId, PackKind, Tier, VaultState
from backup.protocols import VaultTraits
from backup.pruner.decide import Decider, DecisionAndRows
from backup.pruner.listed import PruneStoppedError
from backup.restorer.restore import begin_restore, plan_restore
from tests.support.backups import Site
from tests.support.checks import check, query
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, PowerCut
from tests.support.nightly_servers import DAY, Nights
from tests.support.rebuilds import archive_file, bare, rows


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    """Five nights."""
    made = Nights(tmp_path)
    for _ in range(5):
        made.night()
    yield made
    made.site.close()


def begin(nights: Nights, number: int, target: Path) -> None:
    """Begin a restore of a snapshot, forgotten or not, and leave it open."""
    every = {snapshot.number: snapshot for snapshot in nights.site.snapshots(also_forgotten=True)}
    world = nights.site.restore_world
    plan = plan_restore(every[number], os.fsencode(nights.source), world)
    begin_restore(
        plan, os.fsencode(target), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [nights.site.key]
    )


def forgotten_by_two_jobs(nights: Nights, other: Path) -> Site:
    """A second job names archives of the first one, and both forget what needs them; the second job."""
    other.mkdir()
    (other / "file 1").write_bytes(nights.restore_file(1, "file 1"))
    second = nights.site.with_job(sources=[other], name="second")
    second.backup()
    (other / "file 1").unlink()
    (other / "empty").touch()  # the source has not lost everything
    second.backup()
    nights.forget(1, 2, 3)
    second.amend(*nights.forgotten(1))
    return second


def test_what_is_taken_up_again_each_job_says_that_had_condemned_it(nights: Nights, tmp_path: Path) -> None:
    forgotten_by_two_jobs(nights, tmp_path / "other")
    nights.site.prune()
    assert len(query(nights.site, "SELECT DISTINCT job FROM condemnations")) == 2
    nights.take_back(1, 2, 3)
    assert nights.site.prune().taken_up.archives >= 1
    again = bare(tmp_path, nights.site)  # knows what the catalogs say
    assert again.rebuild().state == "done"
    assert rows(again.folder) == rows(nights.site.folder)


def test_each_job_must_have_said_so(nights: Nights, tmp_path: Path) -> None:
    """Two jobs named the archives; the prune was cut off after the catalog of the first."""
    forgotten_by_two_jobs(nights, tmp_path / "other")
    cut = FaultyVault(nights.vault, Fault("complete_upload", PowerCut("gone"), skip=1))
    with pytest.raises(PowerCut):
        replace(nights.site, vault=cut).prune()
    nights.site = nights.site.reopen(nights.vault)
    lacking = """SELECT count(*) FROM archives a WHERE state = 'condemned' AND 1 = (
                 SELECT count(*) FROM condemnations WHERE archive = a.number)"""
    assert query(nights.site, lacking)[0][0] >= 1
    nights.site.inventory.close()
    nights.site = nights.site.reopen(nights.vault)
    with nights.site.inventory.writing() as tx:  # the second catalog never came
        tx.connection.execute("UPDATE runs SET outcome = 'failed' WHERE outcome = 'running'")
        tx.connection.execute("DELETE FROM uploads")
        tx.connection.execute("UPDATE archives SET state = 'lost' WHERE state = 'submitted'")
    nights.clock.advance(9 * DAY)
    alone = query(nights.site, "SELECT count(*) FROM archives WHERE state = 'condemned'")[0][0]
    assert nights.site.prune().deleted.archives == alone - 1
    nights.clock.advance(4 * DAY)
    assert nights.site.prune().deleted.archives == 1


def test_a_list_that_lacks_catalogs_stops_it(nights: Nights) -> None:
    """It is not the list of the vault that we know."""
    gone = query(nights.site, "SELECT archive_id FROM archives WHERE kind = 2 ORDER BY number DESC LIMIT 1")
    archive_file(nights.folder / "vault", gone[0][0]).unlink()
    with pytest.raises(PruneStoppedError, match="lacks 1 catalog that was stored"):
        nights.site.prune()


def test_a_list_that_lacks_data_stops_it(nights: Nights) -> None:
    """Others may be held dispensable because of what it held."""
    (gone,) = query(
        nights.site, "SELECT archive_id FROM archives WHERE kind = 1 ORDER BY number DESC LIMIT 1"
    )
    archive_file(nights.folder / "vault", gone[0]).unlink()
    with pytest.raises(PruneStoppedError, match="lacks 1 archive that was stored"):
        nights.site.prune()


class Lagging(FaultyVault):
    """A vault whose newest list is days old, whenever it is asked for."""

    lag = 5 * DAY

    @property
    def traits(self) -> VaultTraits:
        return replace(super().traits, lists_at_once=False)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        now = super().fetch_listing(listing_id)
        as_of = now.as_of - self.lag
        return replace(
            now, as_of=as_of, archives=[archive for archive in now.archives if archive.created_at < as_of]
        )


def test_a_list_of_before_the_catalogs_is_not_gone_by(nights: Nights) -> None:
    nights.forget(1, 2, 3)
    vault = Lagging(nights.vault)
    site = replace(nights.site, vault=vault)
    assert site.prune().condemned.archives == 1
    nights.clock.advance(4 * DAY)
    before = nights.listed()
    report = site.prune()
    assert report.deleted.archives == 0
    assert [group.why for group in report.waiting] == ["listing"]
    assert nights.listed() >= before
    nights.clock.advance(2 * DAY)
    vault.lag = DAY
    assert site.prune().deleted.archives == 1


class Still(FaultyVault):
    """A vault that makes a list only after a change: the last one is made half an hour after it, or never."""

    made: Listing | None = None
    is_late = False

    @property
    def traits(self) -> VaultTraits:
        return replace(super().traits, lists_at_once=False)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        now = super().fetch_listing(listing_id)
        there = {archive.archive_id for archive in now.archives}
        if self.made is None or (
            {archive.archive_id for archive in self.made.archives} != there and not self.is_late
        ):
            newest = max(archive.created_at for archive in now.archives)
            self.made = replace(now, as_of=newest + timedelta(minutes=30))
        return self.made


def test_where_nothing_happens_any_more_what_is_condemned_goes_too(nights: Nights) -> None:
    """No list is ever made that is an hour newer than the catalogs that condemn; the last one shows them."""
    nights.forget(1, 2, 3)
    vault = Still(nights.vault)
    site = replace(nights.site, vault=vault)
    assert site.prune(grace=DAY).condemned.archives == 1
    begins = nights.clock.now()
    nights.clock.advance(2 * DAY)
    (waiting,) = site.prune(grace=DAY).waiting
    assert (waiting.why, waiting.until) == ("listing", begins + 4 * DAY)
    nights.clock.advance(2 * DAY)
    assert site.prune(grace=DAY).deleted.archives == 1
    nights.assert_kept()


def test_a_still_vault_is_not_believed_that_does_not_show_the_catalogs(nights: Nights) -> None:
    """Its list is late, whatever the reason: it may lack others' catalogs, too."""
    nights.forget(1, 2, 3)
    vault = Still(nights.vault)
    site = replace(nights.site, vault=vault)
    vault.is_late = True  # from the list on that the first prune makes
    assert site.prune().condemned.archives == 1
    nights.clock.advance(40 * DAY)
    report = site.prune()
    assert report.deleted.archives == 0
    assert [(group.why, group.until) for group in report.waiting] == [("listing", None)]
    vault.is_late = False
    nights.clock.advance(DAY)
    assert site.prune().deleted.archives == 1


def test_an_archive_of_which_no_chunk_is_known_stays(nights: Nights) -> None:
    """It may hold anything."""
    nights.forget(1, 2, 3)
    ((archive,),) = query(nights.site, "SELECT min(number) FROM archives WHERE kind = 1")
    with nights.site.inventory.writing() as tx:
        tx.connection.execute("DELETE FROM chunks WHERE archive = ?", (archive,))
    assert nights.site.prune().condemned.archives == 0


def test_no_copy_of_a_chunk_is_overlooked(nights: Nights) -> None:
    """Each is found by its prefix before anything is decided."""
    with nights.site.inventory.writing() as tx:
        tx.connection.execute("DELETE FROM chunk_prefixes WHERE chunk % 2 = 0")
    nights.forget(1, 2, 3)
    nights.site.prune()
    with nights.site.inventory.reading() as tx:
        (law,) = (invariant for invariant in INVARIANTS if invariant.name == "prefixes")
        assert violations(tx, law) is None


class Billing(FaultyVault):
    """A vault that bills 90 days at least, from two days after the time that we took down."""

    is_hot = True

    @property
    def traits(self) -> VaultTraits:
        ninety = replace(super().traits, minimum_storage=90 * DAY)
        return replace(ninety, keeps_metadata_hot=self.is_hot)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        now = super().fetch_listing(listing_id)
        later = [replace(archive, created_at=archive.created_at + 2 * DAY) for archive in now.archives]
        return replace(now, archives=later)


def test_the_minimum_duration_runs_by_the_vaults_date(nights: Nights) -> None:
    nights.forget(1, 2, 3)
    site = replace(nights.site, vault=Billing(nights.vault))
    assert site.prune().condemned.archives == 1
    nights.clock.advance(86 * DAY + timedelta(hours=1))  # the first night is five days ago
    assert site.prune().deleted.archives == 0
    nights.clock.advance(DAY)
    assert site.prune().deleted.archives == 1


@pytest.mark.parametrize("is_hot", [True, False])
def test_catalogs_that_are_kept_hot_do_not_wait_as_data_do(nights: Nights, is_hot: bool) -> None:
    site = nights.site
    for number in range(2):
        more = (bytes([number + 1]) * 16, bytes([number + 1]) * 32)
        site = replace(site, keys=replace(site.keys, enrolments=(site.keys.enrolments[0], more)))
        site.backup()
        nights.clock.advance(DAY)
    vault = Billing(nights.vault)
    vault.is_hot = is_hot
    site = replace(site, vault=vault)
    assert site.prune().condemned.archives >= 3
    nights.clock.advance(4 * DAY)
    assert (site.prune().deleted.archives > 0) == is_hot


def test_grace_is_never_shorter_than_the_longest_backup(nights: Nights) -> None:
    """Whoever went on for a week may have decided a week ago what to build upon."""
    with nights.site.inventory.writing() as tx:
        tx.connection.execute(
            "UPDATE runs SET started_at = finished_at - ? WHERE number = 2",
            (micros(nights.clock.now()) - micros(nights.clock.now() - 7 * DAY),),
        )
    nights.forget(1, 2, 3)
    condemned = nights.site.prune().condemned.archives
    assert condemned > 0
    nights.clock.advance(6 * DAY)
    assert nights.site.prune().deleted.archives == 0
    nights.clock.advance(2 * DAY)
    assert nights.site.prune().deleted.archives == condemned


@pytest.mark.parametrize(("minutes", "stops"), [(4, False), (-4, False), (6, True), (-6, True)])
def test_clocks_that_differ_stop_it(nights: Nights, minutes: int, stops: bool) -> None:
    class Ahead(FaultyVault):
        def state(self) -> VaultState:
            return replace(super().state(), at=nights.clock.now() + timedelta(minutes=minutes))

    site = replace(nights.site, vault=Ahead(nights.vault))
    if stops:
        with pytest.raises(PruneStoppedError, match="clock"):
            site.prune()
    else:
        assert site.prune().state == "done"


def test_what_changed_since_the_decision_is_seen(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody begins to restore a forgotten snapshot between the decision and its record."""
    nights.forget(1, 2, 3)
    nights.site.prune()
    nights.clock.advance(5 * DAY)
    real, times = Decider.decide, []

    def then(decider: Decider, *args: Any, **more: Any) -> DecisionAndRows:
        found = real(decider, *args, **more)
        times.append(found)
        if len(times) == 1:
            begin(nights, 1, tmp_path / "late")
        return found

    monkeypatch.setattr(Decider, "decide", then)
    report = nights.site.prune()
    assert len(times) == 2
    assert report.deleted.archives == 0
    assert ArchiveState.DELETING not in nights.states()


def test_what_has_not_changed_is_decided_once(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not again in the transaction for which backups and restores wait."""
    nights.forget(1, 2, 3)
    nights.site.prune()
    nights.clock.advance(5 * DAY)
    real, times = Decider.decide, []

    def counted(decider: Decider, *args: Any, **more: Any) -> DecisionAndRows:
        times.append(args)
        return real(decider, *args, **more)

    monkeypatch.setattr(Decider, "decide", counted)
    assert nights.site.prune().deleted.archives
    assert len(times) == 1


def test_what_an_open_restore_reads_stays(nights: Nights, tmp_path: Path) -> None:
    """Also where its chunks lie elsewhere by now: it has asked for them there."""
    contents = nights.restore_file(1, "file 1")
    nights.forget(1, 2, 3)
    nights.site.prune()
    begin(nights, 1, tmp_path / "open")
    nights.night("file 1 again", contents)
    nights.clock.advance(5 * DAY)
    report = nights.site.prune()
    assert report.deleted.archives == 0
    assert report.taken_up.archives == 1


def test_what_a_first_backup_sent_stays_for_the_next(tmp_path: Path) -> None:
    """It was cut off before its catalog; a prune in between takes nothing away that it builds on."""
    nights = Nights(tmp_path)
    nights.night()
    (nights.source / "file 9").write_bytes(os.urandom(100_000))
    cut = FaultyVault(nights.vault, Fault("complete_upload", PowerCut("gone"), after=True))
    with pytest.raises(PowerCut):
        replace(nights.site, vault=cut).backup()
    nights.site = nights.site.reopen(nights.vault)
    assert nights.site.prune().condemned.archives == 0
    before = len(nights.states())
    nights.site.backup()
    assert len(nights.states(PackKind.DATA)) == before
    nights.site.close()


def test_what_no_backup_came_back_for_goes_in_the_end(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.night()
    (nights.source / "file 9").write_bytes(os.urandom(100_000))
    cut = FaultyVault(nights.vault, Fault("complete_upload", PowerCut("gone"), after=True))
    with pytest.raises(PowerCut):
        replace(nights.site, vault=cut).backup()
    nights.site = nights.site.reopen(nights.vault)
    assert nights.site.prune().condemned.archives == 0
    nights.clock.advance(4 * DAY)
    assert nights.site.prune().condemned.archives == 1
    nights.clock.advance(4 * DAY)
    assert nights.site.prune().deleted.archives == 1
    nights.site.close()


# Another vault was accepted, or what seemed lost is there again.


def test_what_catalogs_condemn_is_condemned_again_once_a_list_shows_it(nights: Nights) -> None:
    """Where a list takes hours all counted as lost; a backup must not build on it, and it goes at last."""
    nights.forget(1, 2, 3)
    assert nights.site.prune().condemned.archives == 1
    for state in (ArchiveState.LOST, ArchiveState.UNCONFIRMED):
        with nights.site.inventory.writing() as tx:
            set_state_of_contents(tx, nights.vault.name, state)
        assert ArchiveState.CONDEMNED not in nights.states()
        check(nights.site)
        assert nights.states().count(ArchiveState.CONDEMNED) == 1
    nights.clock.advance(4 * DAY)
    before = nights.listed()
    assert nights.site.prune().deleted.archives == 1
    assert len(before - nights.listed()) == 1
    nights.assert_kept()
    assert bare(nights.folder, nights.site).rebuild().state == "done"


def test_what_is_needed_of_it_a_catalog_takes_up(nights: Nights) -> None:
    nights.forget(1, 2, 3)
    nights.site.prune()
    with nights.site.inventory.writing() as tx:
        set_state_of_contents(tx, nights.vault.name, ArchiveState.LOST)
    nights.take_back(1, 2, 3)
    check(nights.site)
    assert nights.site.prune().taken_up.archives == 1
    assert query(nights.site, "SELECT count(*) FROM condemnations") == [(0,)]
    nights.clock.advance(40 * DAY)
    assert nights.site.prune().deleted.archives == 0
    nights.assert_kept()


def test_what_is_not_there_is_lost_and_nobody_condemns_it(nights: Nights) -> None:
    nights.forget(1, 2, 3)
    nights.site.prune()
    ((gone,),) = query(nights.site, "SELECT archive_id FROM archives WHERE state = 'condemned'")
    archive_file(nights.folder / "vault", gone).unlink()
    with nights.site.inventory.writing() as tx:
        set_state_of_contents(tx, nights.vault.name, ArchiveState.UNCONFIRMED)
    check(nights.site)
    assert query(nights.site, "SELECT archive_id FROM archives WHERE state = 'lost'") == [(gone,)]


def test_a_condemned_archive_that_a_check_found_damaged_is_condemned_anew(nights: Nights) -> None:
    """Every job's catalogs have condemned it, so that nobody would say it again."""
    nights.forget(1, 2, 3)
    nights.site.prune()
    with nights.site.inventory.writing() as tx:
        tx.connection.execute("UPDATE archives SET state = 'damaged' WHERE state = 'condemned'")
    catalogs = len(nights.states(PackKind.CATALOG))
    assert nights.site.prune().condemned.archives == 1
    assert len(nights.states(PackKind.CATALOG)) == catalogs + 1
    assert nights.states().count(ArchiveState.CONDEMNED) == 1
    nights.clock.advance(4 * DAY)
    assert nights.site.prune().deleted.archives == 1


def test_what_is_retired_stays_so_in_another_directory(nights: Nights) -> None:
    with nights.site.inventory.writing() as tx:
        tx.connection.execute(
            "UPDATE archives SET state = 'retired'"
            " WHERE number = (SELECT min(number) FROM archives WHERE kind = 1)"
        )
        set_state_of_contents(tx, nights.vault.name, ArchiveState.UNCONFIRMED)
    check(nights.site)
    assert nights.states().count(ArchiveState.RETIRED) == 1
