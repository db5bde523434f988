"""Whatever mixture of files comes, each gets its own content: by the reading process, or by the long way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.archiver import read_ahead, readers
from backup.kinds import Outcome
from backup.model import VaultName
from backup.source.small import LARGEST
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.trees import assert_same_tree, snapshot_of

SIZES = st.sampled_from([0, 1, 77, 5_000, LARGEST, LARGEST + 1, 700_000])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    folders=st.lists(st.lists(SIZES, max_size=25), min_size=1, max_size=6),
    batch=st.integers(1, 6),
    waiting=st.integers(0, 3),
    many=st.sampled_from([0, 1, 3]),
)
def test_files_large_and_small_between_each_other(
    tmp_path_factory: pytest.TempPathFactory, folders: list[list[int]], batch: int, waiting: int, many: int
) -> None:
    folder = tmp_path_factory.mktemp("mixed")
    plant(folder / "source", folders)
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    site = Site.create(folder / "state", vault, [folder / "source"], clock=clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MANY_SMALL_FILES", 3)
        patch.setattr(readers, "MANY_BATCHES", many)
        patch.setattr(read_ahead, "FEW_FILES", batch)
        patch.setattr(read_ahead, "MOST_FILES", batch)
        patch.setattr(read_ahead, "MOST_WAITING", waiting)
        report = site.backup()
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    site.restore(report.snapshot, folder / "out")
    assert_same_tree(snapshot_of(folder / "source"), folder / "out")
    site.close()


def plant(source: Path, folders: list[list[int]]) -> None:
    """No two files alike."""
    source.mkdir()
    for place, sizes in enumerate(folders):
        (source / str(place)).mkdir()
        for number, size in enumerate(sizes):
            content = hashlib.shake_128(b"%d %d" % (place, number)).digest(size)
            (source / str(place) / f"{number:03}").write_bytes(content)
