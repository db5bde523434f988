"""The power goes at every vault call, and the process at any moment: run again goes on or begins anew."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.integrity import list_now
from tests.support.nightly_servers import DAY, Nights
from tests.support.other_processes import start_ready
from tests.support.rebuilds import Bare, bare, rows
from tests.support.rigs import glacier_client
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.slow

PROGRAM = "tests.rebuilder.one_rebuild"
KILLS = campaigns.share("NIGHTVAULT_TEST_KILLS", 4)
EVERY = campaigns.share("NIGHTVAULT_TEST_GLACIER_CUTS", 3)


def assert_nothing_half(folder: Path) -> None:
    """Until a rebuild is done there is no inventory; what was built on the way does no harm."""
    assert not (folder / "inventory.sqlite").exists()


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_at_every_call(site: Site, tmp_path: Path, after: bool) -> None:
    was = rows(site.folder)
    for number in itertools.count():
        new = bare(tmp_path, site, f"cut {number}")
        cut = FaultyVault(site.vault, cut_at(number, after=after))
        try:
            new.act(vault=cut)
        except PowerCut:
            assert_nothing_half(new.folder)
            assert new.act().state == "done"
        else:
            assert number >= 10, "too few calls for a test of cuts"
            break
        finally:
            assert rows(new.folder) == was
            assert sorted(path.name for path in new.folder.iterdir()) == [
                "inventory.sqlite",
                "restores",
                "spool",
            ]


def listed(vault: DirectoryVault) -> set[str]:
    """The archives that it holds now."""
    return {archive.archive_id for archive in list_now(vault).archives}


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_whatever_a_cut_prune_left_each_snapshot_that_the_vault_names_comes_back(
    tmp_path: Path, after: bool
) -> None:
    """What tells of a snapshot, and what holds it, are never apart: neither comes without the other."""
    (tmp_path / "nights").mkdir()
    nights = Nights(tmp_path / "nights")
    for _ in range(6):
        nights.night()
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.clock.advance(4 * DAY)
    kept = listed(nights.vault)
    nights.site.close()
    seen = set()
    for number in itertools.count():
        folder = tmp_path / f"prune {number}"
        shutil.copytree(nights.folder, folder)
        vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), nights.clock)
        site = Site.attach(folder / "state", vault, [nights.source], clock=nights.clock)
        try:
            replace(site, vault=FaultyVault(vault, cut_at(number, after=after))).prune()
        except PowerCut:
            pass
        else:
            assert number >= 5, "too few calls for a test of cuts"
            break
        finally:
            seen.add(gone := len(kept - listed(vault)))
            new = Bare(folder / "bare", vault, site)
            assert new.rebuild().state == "done"
            site.prune()
            assert gone <= len(kept - listed(vault)) == 2, "the next one ends what was decided"
            site.close()
            back = new.site()
            assert [snapshot.number for snapshot in back.snapshots()] == [5, 6]
            for snapshot in back.snapshots():
                out = folder / "out" / snapshot.id
                assert not back.restore(snapshot.id, out).problems
                assert_same_tree(nights.trees[snapshot.number], out)
            back.close()
    assert seen == {0, 2}, "it was cut before deletions and after them"


def test_in_glacier_nothing_is_asked_for_twice(
    site: Site, tmp_path: Path, emulator: RunningEmulator, source: Path
) -> None:
    client: Any = glacier_client(emulator)
    vault = GlacierVault(VaultName("cold"), client, "rebuilt")
    vault.create()
    cold = Site.create(tmp_path / "cold", vault, [source])
    cold.backup()
    (source / "second").write_text("night")
    cold.backup()
    emulator.make_inventories()
    was = rows(cold.folder)
    asked = 0
    for number in itertools.count(step=EVERY):
        new = bare(tmp_path, cold, f"cut {number}")
        cut = FaultyVault(vault, cut_at(number, after=bool(number % 2)))
        done = run_to_the_end(new, cut, vault, emulator)
        assert rows(new.folder) == was
        jobs = client.list_jobs(vaultName="rebuilt")["JobList"]
        asked += 1
        assert sum(job["Action"] == "InventoryRetrieval" for job in jobs) <= asked
        assert sum(job["Action"] == "ArchiveRetrieval" for job in jobs) <= 2 * asked
        if done:
            break
        emulator.advance(30 * 3600)  # what was asked for is gone: the next round is on its own
        asked = 0
    cold.close()


def run_to_the_end(new: Bare, cut: FaultyVault, vault: GlacierVault, emulator: RunningEmulator) -> bool:
    """All acts, of which one is cut; whether the cut was never met."""
    seam: Any = cut
    met = False
    for _ in range(8):
        try:
            if new.act(vault=seam).state == "done":
                return not met
        except PowerCut:
            met, seam = True, vault
            assert_nothing_half(new.folder)
        emulator.advance(5 * 3600)
    raise AssertionError("the rebuild never ended")


def test_kills_at_random_moments(site: Site, disk: DirectoryVault, tmp_path: Path) -> None:
    chance = random.Random(20260302)
    began = time.monotonic()
    assert start_ready(PROGRAM, site.folder, tmp_path / "vault", tmp_path / "usual").wait() == 0
    usual = time.monotonic() - began
    was, codes = rows(site.folder), []
    folder = tmp_path / "killed"
    for _ in range(KILLS):
        process = start_ready(PROGRAM, site.folder, tmp_path / "vault", folder)
        time.sleep(chance.uniform(0, usual / 4))
        process.kill()
        codes.append(process.wait())
        if codes[-1] == 0 or (folder / "inventory.sqlite").exists():
            assert rows(folder) == was, "an inventory that has its name is whole"
            folder = tmp_path / f"killed {len(codes)}"
    if not (folder / "inventory.sqlite").exists():
        Bare(folder, disk, site).rebuild()
    assert rows(folder) == was
    assert -9 in codes, f"none was killed in time: {codes}"
