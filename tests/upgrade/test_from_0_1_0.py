"""What 0.1.0 left behind is opened, gone on with, checked, rebuilt and restored by the code of today."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.upgrade.installed import JOBS, SOURCE, Installed, contents_of, expected, the_place, unpacked

VAULTS = {vault: job for job, vault in JOBS.items()}
SNAPSHOTS = 5

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installed]:
    """The server as 0.1.0 left it."""
    with unpacked(tmp_path) as made:
        yield made


def _restored(site: Installed, what: str, *, allowed: tuple[int, ...] = (0,)) -> dict[str, str]:
    target = site.folder / "restored"
    shutil.rmtree(target, ignore_errors=True)
    where = ("--target", str(target), "--key", str(site.key), "--wait")
    site.run("restore", f"{what}:{SOURCE}", *where, allowed=allowed)
    return contents_of(target)


def _check_all_snapshots(site: Installed, job: str) -> None:
    """Every snapshot of 0.1.0 comes back as it was, but for the one file that was lost for good."""
    known = expected()
    for number, (name, wanted) in enumerate(zip(known["ids"][job], known["snapshots"], strict=True), 1):
        if number == known["lost"]["snapshot"]:
            rest = {path: digest for path, digest in wanted.items() if path != known["lost"]["path"]}
            assert _restored(site, name, allowed=(3,)) == rest
        else:
            assert _restored(site, name) == wanted


@pytest.mark.parametrize("vault", VAULTS)
def test_every_snapshot_of_0_1_0_is_listed_and_restored(site: Installed, vault: str) -> None:
    job = VAULTS[vault]
    listed = site.document("snapshots", "--job", job)
    assert [snapshot["id"] for snapshot in listed] == expected()["ids"][job]
    _check_all_snapshots(site, job)


def test_an_inventory_of_0_1_0_goes_on_is_checked_and_rebuilt_from_every_vault(site: Installed) -> None:
    with the_place():
        newest = expected()["ids"]["on-disk"][-1]
        back = ("--in-place", "--yes", "--key", str(site.key), "--wait")
        site.run("restore", newest, *back)
        assert contents_of(SOURCE) == expected()["snapshots"][-1]
        (SOURCE / "added" / "since.bin").write_bytes(os.urandom(5000))
        now = contents_of(SOURCE)
        for job in JOBS:
            told = site.document("backup", job)
            stored = told[0] if isinstance(told, list) else told
            assert stored["outcome"] == "done", stored
            assert stored["bytes_uploaded"] < 6 * 2**16, "what 0.1.0 stored was sent again"
    for vault, job in VAULTS.items():
        _check_what_is_known(site, vault)
        assert _restored(site, f"{_newest(site, job)}") == now
    _check_laws(site)
    for vault, job in VAULTS.items():
        site.run("rebuild", "--vault", vault, "--set-aside", "--key", str(site.key), "--wait", allowed=(0, 3))
        listed = [snapshot["id"] for snapshot in site.document("snapshots", "--job", job)]
        assert listed[:SNAPSHOTS] == expected()["ids"][job]
        assert len(listed) == SNAPSHOTS + 1
        _check_all_snapshots(site, job)
        assert _restored(site, listed[-1]) == now
        _check_laws(site)


def _newest(site: Installed, job: str) -> str:
    return str(site.document("snapshots", "--job", job)[-1]["id"])


def _check_what_is_known(site: Installed, vault: str) -> None:
    """The list shows all but the archive that was lost, and whose one file is needed still."""
    site.emulator.make_inventories()
    found = site.document("check", "--vault", vault, "--wait", allowed=(1,))
    assert {finding["kind"] for finding in found["findings"]} == {"lost"}, found


def _check_laws(site: Installed) -> None:
    found = site.document("check", "--inventory", allowed=(0, 1))
    assert "law" not in {finding["kind"] for finding in found["findings"]}, found


def test_what_the_changelog_says_of_an_upgrade_from_0_1_0(site: Installed) -> None:
    """A copy of the inventory first; a config that holds; what ends otherwise than it did."""
    site.run("config", "check")
    site.document("status", allowed=(1,))
    (copy,) = (site.folder / "state/copies").iterdir()
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as old:
        assert old.execute("select version_num from alembic_version").fetchone() == ("0005",)
    snapshot, target = expected()["ids"]["in-glacier"][-1], str(site.folder / "asked")
    site.run("restore", snapshot, "--target", target, "--key", str(site.key), allowed=(17,))
    checked = site.document("check", allowed=(1, 17))
    assert {report["vault"] for report in checked} == set(VAULTS)
    written = site.folder / "hosts"
    dump = ("dump", f"{expected()['ids']['on-disk'][-1]}:{SOURCE}/etc/hosts", "--key", str(site.key))
    site.run(*dump, "-o", str(written))
    site.run(*dump, "-o", str(written), allowed=(2,))
    site.run(*dump, "-o", str(written), "--force")
    found = site.document("doctor", allowed=(0, 1, 2, 3))
    assert found
