"""A suspended backup loses its lock, another one runs, then the first goes on: it records nothing more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.errors import ExitCode
from backup.inventory.records.runs import list_runs
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.rebuilds import bare, rows
from tests.support.suspended import suspended
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.slow

MOMENTS = [
    ("begin_upload", 1, "before", 2, "its first pack is recorded, and nothing of it sent"),
    ("complete_upload", 1, "after", 2, "its first pack is stored, and that is not recorded"),
    ("begin_upload", 2, "before", 3, "its delta is recorded, and nothing of it sent"),
    ("complete_upload", 2, "after", 3, "its delta is stored, and that is not recorded"),
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    source = tmp_path / "source"
    source.mkdir()
    (source / "first").write_text("night")
    site = Site.create(tmp_path / "state", vault, [source], clock=clock)
    site.backup()
    (source / "second").write_bytes(os.urandom(1000))
    yield site
    site.close()


@pytest.mark.parametrize(
    ("method", "count", "when", "snapshots", "what"), MOMENTS, ids=[moment[4] for moment in MOMENTS]
)
def test_it_records_nothing_more(
    site: Site, tmp_path: Path, method: str, count: int, when: str, snapshots: int, what: str
) -> None:
    """Its snapshot is made by the next run if its delta was recorded, as after a kill; never by itself."""
    process = suspended(site, "backup", method, count, when)
    try:
        site.inventory.take_lock_away()
        (tmp_path / "source" / "third").write_text("of another run")
        site.backup()
        assert len(site.snapshots()) == snapshots, what
        before = rows(site.folder)
    finally:
        process.send_signal(signal.SIGCONT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.LOCKED, told
    assert "was taken away" in told
    assert rows(site.folder) == before
    with site.inventory.reading() as tx:
        assert "running" not in {run.outcome for run in list_runs(tx)}
    (tmp_path / "source" / "fourth").write_text("night")
    site.backup()
    assert list(site.spool.iterdir()) == []
    new = bare(tmp_path, site)
    new.rebuild()
    assert rows(new.folder)["snapshots"] == rows(site.folder)["snapshots"]
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]
    assert not site.restore("latest", tmp_path / "latest").problems
    assert_same_tree(tmp_path / "source", tmp_path / "latest")


def test_it_goes_on_before_another_runs(site: Site, tmp_path: Path) -> None:
    """Its lock is taken away, and nobody came since: it stops all the same, and nothing is lost."""
    process = suspended(site, "backup", "begin_upload", 2, "before")
    try:
        site.inventory.take_lock_away()
    finally:
        process.send_signal(signal.SIGCONT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.LOCKED, told
    assert len(site.snapshots()) == 1
    site.backup()
    assert len(site.snapshots()) == 3
