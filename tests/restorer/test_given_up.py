"""A restore whose archive is gone takes what it held from others, and its report names the archive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.kinds import Outcome
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.checks import check, query
from tests.support.doubles import ManualClock
from tests.support.rebuilds import archive_file
from tests.support.trees import assert_same_tree, snapshot_of

SHARED, OTHER = os.urandom(300_000), os.urandom(200_000)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A job whose two files lie in two archives, of which the second holds both."""
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "shared").write_bytes(SHARED)
    made = Site.create(tmp_path / "state", vault, [first], clock=clock)
    made.backup()
    ((gone,),) = query(made, "SELECT archive_id FROM archives WHERE kind = 1")
    away = tmp_path / "away"
    archive_file(tmp_path / "vault", gone).rename(away)
    check(made)
    for name, content in (("shared", SHARED), ("other", OTHER)):
        (second / name).write_bytes(content)
    made.with_job(sources=[second], name="second").backup()
    away.rename(archive_file(tmp_path / "vault", gone))
    check(made)
    (first / "other").write_bytes(OTHER)
    made.backup()
    return made


def test_what_lies_in_another_archive_that_it_asked_for_comes_and_the_loss_is_named(
    site: Site, tmp_path: Path
) -> None:
    ((gone,),) = query(site, "SELECT archive_id FROM archives WHERE number = 1")
    archive_file(tmp_path / "vault", gone).unlink()
    report = site.restore(site.snapshots()[-1].id, tmp_path / "out")
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    assert_same_tree(snapshot_of(tmp_path / "first"), tmp_path / "out")
    (warning,) = report.warnings
    assert f"vault disk has lost archive {gone}: what is needed of it was taken from another one" in warning
    assert report.document()["warnings"] == [warning]
    ((state,),) = query(site, "SELECT state FROM archives WHERE number = 1")
    assert state == "lost"
    again = site.restore(site.snapshots()[-1].id, tmp_path / "again")
    assert again.warnings == (), "it is known, and not asked for"


def test_without_a_loss_there_is_no_warning(site: Site, tmp_path: Path) -> None:
    report = site.restore(site.snapshots()[-1].id, tmp_path / "out")
    assert (report.outcome, report.warnings) == (Outcome.DONE, ())
