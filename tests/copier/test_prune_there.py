"""A vault with copies is pruned by its own policy and catalogs; neither side harms the other."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from backup.copier.context import CopyChoice
from backup.format.records import ForgottenRecord, RetiredRecord, TakenBackRecord
from backup.inventory.content import copied, copied_pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.locks import needed_keys
from backup.inventory.records import runs
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.times import micros
from backup.kinds import RunKind
from backup.model import ArchiveId, VaultName
from backup.pruner.report import PruneReport
from backup.retention.copies import CopyRule
from backup.retention.policy import Policy
from backup.vault.directory import DirectoryVault
from tests.copier.support import brought_back, copies, nights
from tests.support.backups import Site
from tests.support.checks import check
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.rebuilds import Bare
from tests.support.transaction_cuts import cut_transaction
from tests.support.trees import Seen, snapshot_of

DAY = timedelta(days=1)
LAST = CopyChoice(rule=CopyRule(Policy(last=1), ZoneInfo("UTC")))


def there(site: Site, to: DirectoryVault | FaultyVault) -> Site:
    """The same server with the other vault at hand."""
    return replace(site, vault=to)


def pruned(site: Site, to: DirectoryVault | FaultyVault, clock: ManualClock, times: int = 3) -> PruneReport:
    """The vault with copies, pruned so often, days apart; the last report."""
    for _ in range(times):
        report = there(site, to).prune(grace=timedelta(hours=1))
        clock.advance(2 * DAY)
    return report


def states(site: Site, to: DirectoryVault) -> list[ArchiveState]:
    with site.inventory.reading() as tx:
        return [copy.state for copy in copied.list_copies(tx, copied.vault_number(tx, to.name))]


def test_what_its_policy_gives_up_goes_there_alone(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 3)
    copies(site, second)
    assert pruned(site, second, clock, 1).condemned.archives == 0
    seen += nights(site, source, 1, first=3)
    report = copies(site, second, LAST)
    assert (len(report.snapshots), report.forgotten) == (1, 3)
    assert pruned(site, second, clock, 1).condemned.archives
    assert pruned(site, second, clock, 1).deleted.archives
    assert ArchiveState.DELETED in states(site, second)
    pruned(site, second, clock)
    assert brought_back(site, second, tmp_path, "there") == seen[3:]
    assert brought_back(site, site.vault, tmp_path, "here") == seen
    assert copies(site, second, LAST).archives == 0, "what it gave up is not copied again"


def test_forgotten_there_and_taken_back_within_the_grace(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 3)
    copies(site, second)
    copies(site, second, LAST)
    there(site, second).prune(grace=7 * DAY)
    clock.advance(2 * DAY)
    back = there(site, second).amend(TakenBackRecord([1, 2]))
    assert back.vault == second.name
    report = there(site, second).prune(grace=7 * DAY)
    assert report.taken_up.archives
    assert ArchiveState.UNCONFIRMED in states(site, second)
    with site.inventory.reading() as tx:
        every = {ArchiveId(key) for (key,) in raw_rows(tx, "SELECT archive_id FROM copies", ())}
        needed = needed_keys(tx, second.name, clock.now(), lambda *_: set())
    assert every <= needed, "what was taken up is locked for longer, too"
    clock.advance(2 * DAY)
    there(site, second).prune(grace=7 * DAY)
    assert set(states(site, second)) == {ArchiveState.STORED}
    pruned(site, second, clock)
    assert brought_back(site, second, tmp_path, "there") == seen


def test_both_gave_a_night_up_and_it_is_gone_for_good(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """First the source, then the copy: nothing of it stays in the inventory."""
    seen = nights(site, source, 3)
    copies(site, second)
    site.amend(ForgottenRecord([1], micros(clock.now())))
    for _ in range(3):
        site.prune(grace=timedelta(hours=1))
        clock.advance(2 * DAY)
    there(site, second).amend(ForgottenRecord([1], micros(clock.now())))
    pruned(site, second, clock)
    with site.inventory.reading() as tx:
        row = runs.find_job(tx, site.job.name)
        assert row is not None
        left = copied.kept_there(tx, copied.vault_number(tx, second.name), row.number)
        assert left == {2: KeptThere.COPIED, 3: KeptThere.COPIED}
        assert not copied.has_alone(tx, row.number)
    assert brought_back(site, second, tmp_path, "there") == seen[1:]
    assert brought_back(site, site.vault, tmp_path, "here") == seen[1:]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_prune_there_is_cut_at_every_call(
    site: Site, source: Path, tmp_path: Path, clock: ManualClock, after: bool
) -> None:
    seen = nights(site, source, 3)
    for call in range(60):
        to = DirectoryVault(VaultName(f"second-{call}"), str(tmp_path / f"second-{call}"), clock)
        to.create()
        copies(site, to)
        copies(site, to, LAST)
        cut = False
        for _ in range(3):
            try:
                pruned(site, FaultyVault(to, cut_at(call, after=after)), clock, 1)
            except PowerCut:
                cut = True
            site = site.reopen()
        pruned(site, to, clock)
        assert brought_back(site, to, tmp_path, f"bare-{call}") == seen[2:]
        assert brought_back(site, site.vault, tmp_path, f"source-{call}") == seen
        shutil.rmtree(tmp_path / f"second-{call}")
        if not cut:
            assert call > 3
            return
    pytest.fail("it never came to an end")


def test_a_prune_there_is_cut_at_every_transaction(
    site: Site, source: Path, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 3)
    for number in range(80):
        to = DirectoryVault(VaultName(f"second-{number}"), str(tmp_path / f"second-{number}"), clock)
        to.create()
        copies(site, to)
        copies(site, to, LAST)
        cut = False
        for _ in range(3):
            try:
                with cut_transaction(site, number):
                    there(site, to).prune(grace=timedelta(hours=1))
            except PowerCut:
                cut = True
            clock.advance(2 * DAY)
            site = site.reopen()
        pruned(site, to, clock)
        assert brought_back(site, to, tmp_path, f"bare-{number}") == seen[2:]
        shutil.rmtree(tmp_path / f"second-{number}")
        if not cut:
            assert number > 8
            return
    pytest.fail("it never came to an end")


def test_chunks_of_a_pack_that_is_not_copied_are_taken_from_another(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 1)
    with site.inventory.reading() as tx:
        packs = [pack for (pack,) in tx.connection.execute("SELECT pack_id FROM archives WHERE kind = 1")]
    site.amend(RetiredRecord(packs), kind=RunKind.COMPACT)
    (source / "again").write_bytes((source / "new-0").read_bytes())
    site.backup()
    seen.append(dict(snapshot_of(source)))
    (source / "changed").write_bytes(b"the same as before but for this")
    site.backup()
    seen.append(dict(snapshot_of(source)))
    sent = copies(site, second).archives
    assert ArchiveState.DELETED in states(site, second), "the pack itself was not to be copied"
    assert brought_back(site, second, tmp_path, "once") == seen
    seen += nights(site, source, 1, first=1)
    for _ in range(3):
        there(site, second).amend(ForgottenRecord([1], micros(clock.now())))
        there(site, second).amend(TakenBackRecord([1]))
        pruned(site, second, clock)
    assert copies(site, second).archives < sent
    pruned(site, second, clock)
    assert brought_back(site, second, tmp_path, "later") == seen


def test_when_the_newest_copy_was_given_up_a_later_one_has_nothing_of_it(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 2)
    copies(site, second)
    (source / "new-1").unlink()
    seen += nights(site, source, 1, first=5)
    for of in (there(site, second), site):
        of.amend(ForgottenRecord([2], micros(clock.now())))
        for _ in range(3):
            of.prune(grace=timedelta(hours=1))
            clock.advance(2 * DAY)
    assert [snapshot.number for snapshot in site.snapshots(also_forgotten=True)] == [1, 3]
    copies(site, second)
    assert brought_back(site, second, tmp_path, "there") == [seen[0], seen[2]]


def test_what_was_lost_and_sent_again_is_found_whatever_older_catalogs_say(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """Both jobs need the pack; only the catalogs of one know where it lies now."""
    seen = nights(site, source, 1)
    other = site.with_job(name="other")
    other.backup()
    copies(site, second)
    copies(other, second)
    with site.inventory.reading() as tx:
        lost = [ArchiveId(at) for (at,) in tx.connection.execute("SELECT archive_id FROM copies")]
    second.delete_archives(dict.fromkeys(lost))
    check(there(site, second))
    assert set(states(site, second)) == {ArchiveState.LOST}
    clock.advance(2 * DAY)
    assert copies(other, second).archives == len(lost)
    machine = Bare(tmp_path / "bare", second, site)
    machine.rebuild()
    built = machine.site()
    for name in ("job", "other"):
        built.with_job(name=name).restore("latest", tmp_path / name)
        assert dict(snapshot_of(tmp_path / name)) == seen[0]
    built.close()


def marked(site: Site, to: DirectoryVault, state: ArchiveState, only: ArchiveState) -> None:
    """All copies that are in the second state are in the first."""
    with site.inventory.writing() as tx:
        vault = copied.vault_number(tx, to.name)
        some = [copy.archive for copy in copied.list_copies(tx, vault) if copy.state is only]
        assert some
        copied_pruning.mark(tx, vault, some, state, site.clock.now())


def test_what_was_lost_and_sent_again_has_its_whole_grace(
    site: Site, source: Path, second: DirectoryVault, clock: ManualClock
) -> None:
    """It was condemned long ago, before it was lost."""
    nights(site, source, 2)
    copies(site, second)
    there(site, second).amend(ForgottenRecord([1], micros(clock.now())))
    assert there(site, second).prune(grace=7 * DAY).condemned.archives
    marked(site, second, ArchiveState.LOST, ArchiveState.CONDEMNED)
    there(site, second).amend(TakenBackRecord([1]))
    assert copies(site, second).archives
    with site.inventory.reading() as tx:
        assert not list(raw_rows(tx, "SELECT * FROM condemned_copies", ()))


def test_a_lost_copy_that_was_condemned_goes_with_its_archive(
    site: Site, source: Path, second: DirectoryVault, clock: ManualClock
) -> None:
    """Both sides give it up: nothing of it stays behind, and later prunes go on."""
    nights(site, source, 3)
    copies(site, second)
    there(site, second).amend(ForgottenRecord([1], micros(clock.now())))
    assert there(site, second).prune(grace=7 * DAY).condemned.archives
    with site.inventory.writing() as tx:
        vault = copied.vault_number(tx, second.name)
        ((archive,),) = raw_rows(tx, "SELECT min(archive) FROM condemned_copies", ())
        copied_pruning.mark(tx, vault, [archive], ArchiveState.LOST, clock.now())
    site.amend(ForgottenRecord([1], micros(clock.now())))
    for _ in range(4):
        site.prune(grace=timedelta(hours=1))
        pruned(site, second, clock, 1)
        clock.advance(30 * DAY)
    site.prune(grace=timedelta(hours=1))


def test_old_catalogs_of_copies_go(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """Each is condemned once, and deleted; a rebuild from there knows what is condemned."""
    seen: list[dict[bytes, Seen]] = []
    for night in range(5):
        seen += nights(site, source, 1, first=night)
        copies(replace(site, most_deltas=1), second)
    before = catalogs_in(site, second)
    reports = [pruned(site, second, clock, 1) for _ in range(6)]
    assert sum(report.deleted.archives for report in reports) >= 5
    assert reports[-1].condemned.archives == 0
    assert len(catalogs_in(site, second)) < len(before)
    assert brought_back(site, second, tmp_path, "there") == seen


def catalogs_in(site: Site, to: DirectoryVault) -> list[int]:
    """The catalogs that a vault has, by number."""
    sql = """SELECT a.number FROM catalogs c JOIN archives a ON a.number = c.archive
             JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
             WHERE v.name = ? AND a.state NOT IN ('deleted', 'lost') AND a.archive_id IS NOT NULL"""
    with site.inventory.reading() as tx:
        return [number for (number,) in raw_rows(tx, sql, (to.name,))]
