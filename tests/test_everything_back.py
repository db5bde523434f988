"""Every kind of entry, changed by chance from night to night: each snapshot restores to what its night saw.

`NIGHTVAULT_TEST_NIGHTS=365` tries a whole year of nights; without it a share of one.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.kinds import Outcome
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.random_trees import RandomTree, loosen
from tests.support.trees import Seen, assert_same_tree, snapshot_of

pytestmark = pytest.mark.slow

NIGHTS = campaigns.share("NIGHTVAULT_TEST_NIGHTS", 20)
TICK = 0.011  # longer than the file system's clock stands still: 10 ms at most


@contextmanager
def installation() -> Iterator[tuple[Path, Site]]:
    folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    site = Site.create(folder / "state", vault, [folder / "source"], clock=clock)
    try:
        yield folder, site
    finally:
        site.close()
        loosen(folder)
        shutil.rmtree(folder)


def night(site: Site, random_tree: RandomTree) -> dict[bytes, Seen]:
    """Back up what the day left; the tree as it was."""
    time.sleep(TICK)
    report = site.backup()
    assert (report.outcome, list(report.problems)) == (Outcome.DONE, []), random_tree.done
    return snapshot_of(random_tree.folder)


def assert_back(
    site: Site, snapshot: str, expected: dict[bytes, Seen], out: Path, random_tree: RandomTree
) -> None:
    told = site.restore(snapshot, out)
    assert (told.outcome, list(told.problems)) == (Outcome.DONE, []), random_tree.done
    assert_same_tree(expected, out)
    loosen(out)
    shutil.rmtree(out)


@settings(max_examples=15)
@given(chance=st.randoms(use_true_random=False), days=st.integers(1, 3))
def test_whatever_is_there_comes_back(chance: random.Random, days: int) -> None:
    with installation() as (folder, site):
        random_tree = RandomTree(folder / "source", chance)
        trees = []
        for _ in range(days):
            random_tree.day()
            trees.append(night(site, random_tree))
        quiet = site.backup()
        assert (quiet.entries_added, quiet.entries_removed, quiet.bytes_new) == (0, 0, 0), random_tree.done
        for snapshot, expected in zip(site.snapshots(), trees, strict=False):
            assert_back(site, snapshot.id, expected, folder / "out", random_tree)


@pytest.mark.parametrize("seed", [1])
def test_a_year_of_random_nights(seed: int) -> None:
    with installation() as (folder, site):
        random_tree = RandomTree(folder / "source", random.Random(seed))
        trees = []
        for number in range(NIGHTS):
            random_tree.day(most=20 if number % 7 else 60)
            trees.append(night(site, random_tree))
            site.clock.sleep(86_400)
        for snapshot, expected in zip(site.snapshots(), trees, strict=True):
            assert_back(site, snapshot.id, expected, folder / "out", random_tree)
