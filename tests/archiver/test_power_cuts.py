"""The power goes before or after every vault call in turn: the next run makes everything whole again."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.model import MIB, Listing, VaultName
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import FaultyDisk, FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.integrity import assert_whole, change, fill, list_now
from tests.support.rigs import glacier_client, s3_client, s3_vault
from tests.support.trees import Seen, snapshot_of

pytestmark = pytest.mark.slow

SIZE = 6 * 1024 * 1024
SHARES = 4  # so that test processes share the work
EVERY_GLACIER_CUT = campaigns.share("NIGHTVAULT_TEST_GLACIER_CUTS", 3)  # n: every n-th only

_names = itertools.count()


@dataclass
class Start:
    """A site before the run that will be cut, its bare vault, and the trees of its snapshots."""

    site: Site
    vault: Vault
    before: dict[int, dict[bytes, Seen]]  # by snapshot number
    now: dict[bytes, Seen]


@dataclass
class Stage:
    """Where cuts happen; `begin` makes everything ready anew for each."""

    begin: Callable[[], Start]
    listing: Callable[[Vault], Listing]
    scratch: Path
    faulty: type[FaultyVault] = FaultyVault


def cut_everywhere(stage: Stage, cuts: Iterable[int], *, after: bool) -> int:
    """Cut a run at those vault calls until one ends before its cut; the number of the cut it did not meet."""
    for number in cuts:
        start = stage.begin()
        cut = stage.faulty(start.vault, cut_at(number, after=after))
        try:
            replace(start.site, vault=cut).backup()
        except PowerCut:
            finish_after(stage, start, cut, number)
        else:
            start.site.close()
            return number
    raise AssertionError("the cuts never ended")


def finish_after(stage: Stage, start: Start, cut: FaultyVault, number: int) -> None:
    """Run again as a new process, and see that all is as if nothing had happened."""
    again = stage.faulty(start.vault)
    site = start.site.reopen(again)
    report = site.backup()
    assert not report.problems
    committed = [snapshot.number for snapshot in site.snapshots()]
    assert set(start.before) < set(committed), "the run after the cut made no snapshot"
    trees = {run_number: start.before.get(run_number, start.now) for run_number in committed}
    site = site.reopen(start.vault)
    assert_whole(site, stage.scratch / f"cut {number}", trees, stage.listing(start.vault))
    assert start.vault.list_uploads() == []
    twice = {place for place, count in (cut.sent + again.sent).items() if count > 1}
    assert not twice, "a part that the vault had was sent again"
    site.close()


@pytest.fixture(params=["first run", "second run"])
def on_disk(request: pytest.FixtureRequest, tmp_path: Path, source: Path) -> Stage:
    """A directory vault; what is fresh for each cut are copies of vault and state folder."""
    clock = ManualClock()
    numbers = itertools.count()
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    fill(source, 1, SIZE)
    site = Site.create(tmp_path / "state", vault, [source], clock=clock)
    before = {}
    if request.param == "second run":
        site.backup()
        before = {1: snapshot_of(source)}
        change(source, 2, SIZE // 2)
    site.close()
    now = snapshot_of(source)

    def begin() -> Start:
        number = next(numbers)
        folder, place = tmp_path / f"state {number}", tmp_path / f"vault {number}"
        shutil.copytree(tmp_path / "state", folder)
        shutil.copytree(tmp_path / "vault", place)
        copy = DirectoryVault(VaultName("disk"), str(place), clock)
        return Start(replace(site, folder=folder).reopen(copy), copy, before, now)

    return Stage(begin, list_now, tmp_path / "restored")


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_directory_vault_at_every_call(on_disk: Stage, after: bool, share: int) -> None:
    calls = cut_everywhere(on_disk, itertools.count(share, SHARES), after=after)
    assert calls >= 12, "too few calls for a test of cuts"


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_directory_vault_that_takes_files(on_disk: Stage, after: bool, share: int) -> None:
    calls = cut_everywhere(
        dataclasses.replace(on_disk, faulty=FaultyDisk), itertools.count(share, SHARES), after=after
    )
    assert calls >= 8, "too few calls for a test of cuts"


@pytest.fixture(scope="module")
def client(emulator: RunningEmulator) -> Any:
    """One client for all cuts."""
    return glacier_client(emulator)


@pytest.fixture(params=["first run", "second run"])
def in_glacier(
    request: pytest.FixtureRequest, tmp_path: Path, source: Path, emulator: RunningEmulator, client: Any
) -> Stage:
    """A Glacier vault of its own for each cut, and the source made anew."""

    def wait() -> None:
        emulator.advance(6 * 3600)

    def listing(vault: Vault) -> Listing:
        emulator.make_inventories()
        listed = vault.request_listing("now")
        wait()
        return vault.fetch_listing(listed)

    def begin() -> Start:
        name = f"cut-{next(_names)}"
        vault = GlacierVault(VaultName("cold"), client, name)
        vault.create()
        shutil.rmtree(source)
        source.mkdir()
        fill(source, 1, SIZE)
        site = Site.create(tmp_path / name, vault, [source], wait=wait)
        before = {}
        if request.param == "second run":
            site.backup()
            before = {1: snapshot_of(source)}
            change(source, 2, SIZE // 2)
        return Start(site, vault, before, snapshot_of(source))

    return Stage(begin, listing, tmp_path / "restored")


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_glacier_vault_at_its_calls(in_glacier: Stage, after: bool) -> None:
    calls = cut_everywhere(in_glacier, itertools.count(int(after), EVERY_GLACIER_CUT), after=after)
    assert calls >= 12, "too few calls for a test of cuts"


@pytest.fixture(params=["first run", "second run"])
def in_bucket(
    request: pytest.FixtureRequest, tmp_path: Path, source: Path, emulator: RunningEmulator
) -> Stage:
    """A prefix of its own in a frozen bucket for each cut; S3's parts are larger, and so is the source."""
    s3 = s3_client(emulator.s3_url)
    s3_vault(s3, "cuts").create()

    def begin() -> Start:
        name = f"cut-{next(_names)}"
        vault = s3_vault(s3, "cuts", prefix=f"{name}/")
        shutil.rmtree(source)
        source.mkdir()
        fill(source, 1, 2 * SIZE)
        site = Site.create(
            tmp_path / name,
            vault,
            [source],
            wait=lambda: emulator.advance(13 * 3600),
            part_size=5 * MIB,
            pack_size=7 * MIB,
        )
        before = {}
        if request.param == "second run":
            site.backup()
            before = {1: snapshot_of(source)}
            change(source, 2, 2 * SIZE)
        return Start(site, vault, before, snapshot_of(source))

    return Stage(begin, list_now, tmp_path / "restored")


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_s3_vault_at_its_calls(in_bucket: Stage, after: bool) -> None:
    calls = cut_everywhere(in_bucket, itertools.count(int(after), EVERY_GLACIER_CUT), after=after)
    assert calls >= 12, "too few calls for a test of cuts"
