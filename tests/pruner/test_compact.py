"""Compaction: what is mostly dead is retired, its live files are stored anew from the disk, then it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import asdict

from backup.cost import Price
from backup.format import records
from backup.inventory.content import archives
from backup.inventory.content.archives import ArchiveState
from backup.inventory.store.times import micros
from backup.model import PackKind, VaultName
from backup.pruner.compact import CompactReport, JobRules, compact
from backup.pruner.context import PruneContext
from backup.retention.policy import Policy
from backup.schedule import parse_schedule
from backup.vault.directory import DirectoryVault
from tests.support.backups import PACK, Site
from tests.support.checks import query
from tests.support.doubles import ManualClock
from tests.support.rebuilds import bare, rows
from tests.support.trees import Seen, assert_same_tree, snapshot_of

DAY = timedelta(days=1)
UTC = ZoneInfo("UTC")
NIGHTLY = parse_schedule("daily at 02:30", "UTC")


class Churn:
    """A first night of ten files in one pack; then nine of them are removed, and nights go by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), self.clock)
        self.vault.create()
        self.source = folder / "source"
        (self.source / "quiet").mkdir(parents=True)
        self.site = Site.create(folder / "state", self.vault, [self.source], clock=self.clock)
        self.trees: dict[int, dict[bytes, Seen]] = {}
        for number in range(10):
            (self.source / f"file {number}").write_bytes(os.urandom(200_000))
        (self.source / "quiet" / "small").write_bytes(b"here to stay")
        self.night()
        for number in range(1, 10):
            (self.source / f"file {number}").unlink()
        self.night()

    def night(self) -> int:
        """A backup; returns the new bytes."""
        report = self.site.backup()
        self.trees[self.site.snapshots()[-1].number] = snapshot_of(self.source)
        self.clock.advance(DAY)
        return report.bytes_new

    def compact(
        self,
        policy: Policy | None = None,
        *,
        price: Price | None = None,
        only_plan: bool = False,
        job_is_known: bool = True,
    ) -> CompactReport:
        """One compaction with a horizon of two years; the job is in the config if it `is_known`."""
        context = PruneContext(
            **asdict(self.site.world),
            keys=self.site.keys,
            sending=self.site.job.sending,
            deleting=self.vault,
            price=price,
        )
        jobs = {self.site.job.name: JobRules(policy, NIGHTLY if policy else None, UTC)}
        return compact(context, jobs if job_is_known else {}, pack_size=PACK, only_plan=only_plan)

    def states(self) -> list[ArchiveState]:
        """Of the data archives that are there."""
        with self.site.inventory.reading() as tx:
            every = archives.list_archives(tx, self.site.inventory.id)
        return [archive.state for archive in every if archive.label.kind is PackKind.DATA]

    def assert_kept(self) -> None:
        """Every kept snapshot restores as it was."""
        for snapshot in self.site.snapshots():
            target = self.folder / "out" / f"{snapshot.id} {self.clock.now():%j}"
            self.site.restore(snapshot.id, target)
            assert_same_tree(self.trees[snapshot.number], target)


@pytest.fixture
def churn(tmp_path: Path) -> Iterator[Churn]:
    made = Churn(tmp_path)
    yield made
    made.site.close()


def _forget(churn: Churn, *numbers: int) -> None:
    churn.site.amend(records.ForgottenRecord(list(numbers), micros(churn.clock.now())))


def test_nothing_is_compacted_that_a_kept_snapshot_needs(churn: Churn) -> None:
    assert churn.compact().archives == 0
    churn.assert_kept()


def test_live_files_are_stored_anew_without_a_retrieval_and_the_old_archive_goes(
    churn: Churn, tmp_path: Path
) -> None:
    _forget(churn, 1)
    plan = churn.compact(only_plan=True)
    assert (plan.archives, plan.stored_anew < plan.bytes // 5) == (1, True)
    assert churn.states() == [ArchiveState.STORED]
    report = churn.compact()
    assert report.freed == plan.freed > 1_500_000
    assert churn.states() == [ArchiveState.RETIRED]
    churn.assert_kept()
    new = churn.night()
    assert 200_000 <= new <= 210_000  # the file that lies on the disk, and the small one; nothing else
    assert churn.states() == [ArchiveState.RETIRED, ArchiveState.STORED]
    assert churn.night() == 0
    assert churn.site.prune().condemned.archives >= 1
    churn.clock.advance(4 * DAY)
    assert churn.site.prune().deleted.archives >= 1
    assert churn.states() == [ArchiveState.STORED]
    churn.assert_kept()  # also the snapshot of before, by the new archive
    again = bare(tmp_path, churn.site)
    assert again.rebuild().state == "done"
    assert rows(again.folder) == rows(churn.site.folder)


def test_of_a_job_that_waits_for_an_answer_no_snapshot_is_foreseen_to_go(
    churn: Churn, glacier_price: Price
) -> None:
    policy = Policy(last=1)
    assert churn.compact(policy, price=glacier_price, only_plan=True).archives
    newest = churn.site.snapshots()[-1].number
    churn.site.amend(records.ShrunkRecord(newest, [(b"/source", 1, 1, 30, 300)]))
    assert churn.compact(policy, price=glacier_price, only_plan=True).archives == 0


@pytest.mark.parametrize("state", [ArchiveState.RETIRED, ArchiveState.CONDEMNED])
def test_what_was_stored_anew_is_read_there(churn: Churn, state: ArchiveState) -> None:
    """Somebody else may have deleted the old archive, and no check has seen that yet."""
    _forget(churn, 1)
    churn.compact()
    churn.night()
    if state is ArchiveState.CONDEMNED:
        churn.site.prune(deletes=False)
    assert churn.states() == [state, ArchiveState.STORED]
    ((old,),) = query(churn.site, "SELECT archive_id FROM archives WHERE state = ?", state)
    churn.vault.delete_archives({old: None})
    churn.assert_kept()


def test_a_retired_archive_stays_while_a_kept_snapshot_needs_what_it_alone_holds(churn: Churn) -> None:
    packs = _packs(churn)
    churn.site.amend(records.RetiredRecord(packs))
    churn.night()
    assert churn.site.prune().condemned.archives == 0
    churn.clock.advance(10 * DAY)
    assert churn.site.prune().deleted.archives == 0
    churn.assert_kept()


def test_two_retired_archives_are_not_dispensable_because_of_each_other(churn: Churn) -> None:
    for _ in range(2):  # the second holds what the first one holds of the files on the disk
        churn.site.amend(records.RetiredRecord(_packs(churn)))
        if len(churn.states()) == 1:
            churn.night()
    (churn.source / "file 0").unlink()
    (churn.source / "quiet" / "small").unlink()
    churn.night()
    _forget(churn, 1)
    assert churn.states() == [ArchiveState.RETIRED, ArchiveState.RETIRED]
    churn.site.prune()
    churn.clock.advance(4 * DAY)
    churn.site.prune()
    assert ArchiveState.RETIRED in churn.states()
    churn.assert_kept()


def test_of_two_retired_archives_with_the_same_needed_chunks_the_older_goes(churn: Churn) -> None:
    churn.site.amend(records.RetiredRecord(_packs(churn)))
    churn.night()  # stores all live files anew
    churn.site.amend(records.RetiredRecord(_packs(churn)))
    (churn.source / "file 0").unlink()
    (churn.source / "quiet" / "small").unlink()
    (churn.source / "empty").touch()  # the source has not lost everything
    churn.night()
    _forget(churn, 1)
    old, new = _packs(churn)
    churn.site.prune()
    churn.clock.advance(4 * DAY)
    churn.site.prune()
    assert (churn.states(), _packs(churn)) == ([ArchiveState.RETIRED], [new])
    assert old != new
    churn.assert_kept()
    churn.site.prune()
    assert churn.states() == [ArchiveState.RETIRED]


@pytest.mark.parametrize("forgotten", [[], [1]], ids=["all kept", "one forgotten"])
def test_of_a_job_that_the_config_lacks_nothing_is_compacted(
    churn: Churn, glacier_price: Price, forgotten: list[int]
) -> None:
    """No backup stores its files anew, and no policy ends its snapshots."""
    _forget(churn, *forgotten)
    assert churn.compact(Policy(last=1), price=glacier_price, only_plan=True).archives
    assert churn.compact(Policy(last=1), price=glacier_price, job_is_known=False).archives == 0


def test_what_a_job_that_the_config_lacks_needs_is_needed_for_ever(
    churn: Churn, glacier_price: Price
) -> None:
    other = churn.folder / "other"
    other.mkdir()
    churn.site.restore("latest~1", churn.folder / "back", path=churn.source / "file 1")
    shutil.copy(churn.folder / "back" / "file 1", other / "file 1")
    second = churn.site.with_job(sources=[other], name="second")
    assert second.backup().bytes_new == 0
    (other / "file 1").unlink()
    second.backup()  # now its first snapshot alone needs it
    _forget(churn, 1)
    assert churn.compact(Policy(last=1), price=glacier_price).archives == 0


def test_a_pinned_snapshot_is_needed_whatever_the_policy_says(churn: Churn, glacier_price: Price) -> None:
    assert churn.compact(Policy(last=1), price=glacier_price, only_plan=True).archives
    churn.site.amend(records.MarksRecord(1, [], pinned=True))
    assert churn.compact(Policy(last=1), price=glacier_price).archives == 0


def test_with_prices_the_gain_counts_from_the_last_need(churn: Churn, glacier_price: Price) -> None:
    soon = churn.compact(Policy(last=1), price=glacier_price, only_plan=True)
    later = churn.compact(Policy(daily=400), price=glacier_price, only_plan=True)
    never = churn.compact(None, price=glacier_price, only_plan=True)
    assert soon.gain is not None
    assert later.gain is not None
    assert soon.gain > later.gain > 0
    assert never.archives == 0


def test_a_rebuild_keeps_it_retired(churn: Churn, tmp_path: Path) -> None:
    _forget(churn, 1)
    churn.compact()
    again = bare(tmp_path, churn.site)
    again.rebuild()
    assert rows(again.folder) == rows(churn.site.folder)


def _packs(churn: Churn) -> list[bytes]:
    with churn.site.inventory.reading() as tx:
        every = archives.list_archives(tx, churn.site.inventory.id)
    return [bytes(archive.label.pack_id) for archive in every if archive.label.kind is PackKind.DATA]


@pytest.fixture
def glacier_price() -> Price:
    """That of a Glacier vault in the built-in table."""
    from backup.app.money.prices import builtin_table

    price = builtin_table().find("us-east-1", "glacier")
    assert price is not None
    assert price.storage > Decimal(0)
    return price
