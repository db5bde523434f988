"""A check over each kind of vault: all well, an archive gone, stored again, restored; in acts hours apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from backup.checker import read_sample
from backup.checker.check import _ListComparison, compare_with_vault
from backup.checker.report import CheckReport
from backup.checker.sample import Amount
from backup.errors import CapacityError
from backup.model import MIB, ArchiveId, VaultName
from backup.protocols import Vault
from backup.transfer.recognise import Meeting
from backup.transfer.retrievals.listing import newest_kept_head
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.support.backups import Site
from tests.support.checks import archive_ids, check_world, kinds, state_of
from tests.support.clocks import EmulatorClock
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, ManualClock
from tests.support.emulated import REGION, RunningEmulator, write_accounts
from tests.support.integrity import fill
from tests.support.rigs import glacier_client, s3_client
from tests.support.trees import assert_same_tree

_numbers = itertools.count()
HOURS = 13


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    folder = tmp_path_factory.mktemp("emulator")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


class Rig:
    """A site on a vault of some kind, and what lets hours pass."""

    def __init__(self, site: Site, source: Path, act_again: Callable[[], object]) -> None:
        self.site, self.source, self.pass_hours = site, source, act_again

    def compare(self) -> tuple[CheckReport, int]:
        """A check, and how often it had to wait."""
        return self._until_done(lambda: compare_with_vault(check_world(self.site)))

    def read(self, amount: Amount, *, vault: Vault | None = None) -> tuple[CheckReport, int]:
        world = check_world(self.site, keys=[self.site.key], vault=vault)
        run = read_sample.begin_reading(read_sample.plan_sample(amount, world), world, NO_LIMIT)
        return self._until_done(lambda: read_sample.go_on(run, world))

    def _until_done(self, act: Callable[[], CheckReport]) -> tuple[CheckReport, int]:
        waited = 0
        while (report := act()).state == "waiting":
            waited += 1
            assert waited < 10
            self.pass_hours()
        return report, waited


@pytest.fixture(params=["directory", "glacier", "s3"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Rig]:
    vault: Vault
    if request.param == "directory":
        vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)

        def pass_hours() -> None:
            """It waits for nothing."""

    else:
        running: RunningEmulator = request.getfixturevalue("emulator")
        if request.param == "glacier":
            vault = GlacierVault(VaultName("cold"), glacier_client(running), f"check-{next(_numbers)}")
        else:
            bucket = Bucket(f"check-{next(_numbers)}", REGION, storage_class="DEEP_ARCHIVE")
            its_clock = EmulatorClock(running)
            vault = S3Vault(VaultName("bucket"), s3_client(running.s3_url), bucket, its_clock)

        def pass_hours() -> None:
            clock.advance(timedelta(hours=HOURS))
            running.advance(HOURS * 3600)
            running.make_inventories()

    vault.create()
    source = tmp_path / "source"
    source.mkdir()
    fill(source, 1, 2 * 1024 * 1024)
    part = max(MIB, vault.traits.smallest_part)
    site = Site.create(tmp_path / "state", vault, [source], clock=clock, wait=pass_hours, part_size=part)
    site.backup()
    clock.advance(timedelta(minutes=5))
    pass_hours()
    clock.advance(timedelta(hours=2))
    yield Rig(site, source, pass_hours)
    site.close()


def test_gone_and_stored_again(rig: Rig, clock: ManualClock, tmp_path: Path) -> None:
    site = rig.site
    count = len(archive_ids(site, "1"))
    report, _ = rig.compare()
    assert (report.findings, report.compared and report.compared.shown) == ((), count)
    lost = archive_ids(site)[0]
    site.vault.delete_archives({ArchiveId(lost): None})
    rig.pass_hours()
    rig.pass_hours()
    clock.advance(timedelta(days=1))
    report, _ = rig.compare()
    assert {finding.what: finding.kind for finding in report.findings} == {lost: "missing"}
    assert report.affected.live_files > 0
    assert site.backup().bytes_new > 0
    assert site.restore("latest", tmp_path / "out").problems == ()
    assert_same_tree(rig.source, tmp_path / "out")


def test_read_back(rig: Rig) -> None:
    site = rig.site
    report, waited = rig.read(Amount(share=Fraction(1)))
    assert (report.findings, report.read and report.read.never_read) == ((), 0)
    assert report.read
    assert report.read.opened_frames == report.read.frames > 0
    assert bool(waited) == site.vault.traits.waits
    report, _ = rig.read(Amount(size=1))
    assert (report.findings, report.read and report.read.archives) == ((), 1)
    lost = archive_ids(site)[0]
    site.vault.delete_archives({ArchiveId(lost): None})
    report, _ = rig.read(Amount(share=Fraction(1)))
    assert {finding.what: finding.kind for finding in report.findings} == {lost: "missing"}
    assert state_of(site, lost) == "lost"


def test_no_capacity_is_waited_for(rig: Rig) -> None:
    if not rig.site.vault.traits.waits:
        pytest.skip("a directory always has it")
    faulty = FaultyVault(rig.site.vault, Fault("request_retrieval", CapacityError("none now"), count=2))
    report, waited = rig.read(Amount(share=Fraction(1)), vault=faulty)
    faulty.assert_all_met()
    assert (report.findings, kinds(report)) == ((), {})
    assert waited >= 2


def test_an_output_that_expired_is_asked_for_again(rig: Rig) -> None:
    if not rig.site.vault.traits.waits:
        pytest.skip("nothing expires in a directory")
    world = check_world(rig.site)
    run = read_sample.begin_reading(
        read_sample.plan_sample(Amount(share=Fraction(1)), world), world, NO_LIMIT
    )
    assert read_sample.go_on(run, world).state == "waiting"
    for _ in range(20):
        rig.pass_hours()
    waited = 0
    while (report := read_sample.go_on(run, world)).state == "waiting":
        rig.pass_hours()
        waited += 1
        assert waited < 5
    assert report.findings == ()


def test_what_is_asked_for_at_a_time_is_bounded(rig: Rig) -> None:
    if not rig.site.vault.traits.waits:
        pytest.skip("a directory is read at once")
    counting = FaultyVault(rig.site.vault)
    world = check_world(rig.site, vault=counting, round_bytes=1)
    run = read_sample.begin_reading(
        read_sample.plan_sample(Amount(share=Fraction(1)), world), world, NO_LIMIT
    )
    asked = [0]
    while (report := read_sample.go_on(run, world)).state == "waiting":
        asked.append(counting.calls["request_retrieval"])
        assert asked[-1] - asked[-2] <= 1, "one at a time, as none fits"
        rig.pass_hours()
    assert asked[-1] == len(archive_ids(rig.site, "1"))
    assert report.findings == ()


def test_a_list_from_before_does_not_find_again_what_was_missed_since(rig: Rig, clock: ManualClock) -> None:
    site = rig.site
    report, _ = rig.compare()
    assert report.findings == ()
    lost = archive_ids(site)[0]
    site.vault.delete_archives({ArchiveId(lost): None})
    clock.advance(timedelta(minutes=10))
    report, _ = rig.read(Amount(share=Fraction(1)))
    assert kinds(report) == {"missing": 1}
    with site.inventory.reading() as tx:
        head = newest_kept_head(tx, site.vault)
    assert head is not None
    world = check_world(site)
    _ListComparison(world, head, Meeting(None, ()), None).report()
    assert state_of(site, lost) == "lost"
