"""What each release since 0.2.0 left behind is opened, gone on with, and ended as it should by today's code.

It is checked, pruned, rebuilt and restored. The clock stands where that release left it, and goes on by hand.
What its fixture holds: `make_fixture.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.upgrade.installed import (
    BACK,
    JOBS,
    SOURCE,
    Installed,
    contents_of,
    the_place,
    unpacked,
)

VERSIONS = ("0.2.0",)
KEPT = (1, 2, 3, 4, 6, 7)
"""Snapshots that are there when those that can come back have come back."""
FREE = 181 * 24
"""Hours after which no archive has a minimum duration any more: the bucket's is 180 days."""

pytestmark = pytest.mark.slow


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installed]:
    """The server as the release left it."""
    with the_place(), unpacked(tmp_path, request.param) as made:
        yield made


def _snapshot(site: Installed, job: str, number: int) -> str:
    return str(site.known["ids"][job][number - 1])


def _files_of(site: Installed, number: int) -> Mapping[str, str]:
    """The files of the snapshots with this number, but the one that is lost in all vaults."""
    files, lost = site.known["snapshots"][number - 1], site.known["lost"]
    return {path: files[path] for path in files if (number, path) != (lost["snapshot"], lost["path"])}


def _restored(site: Installed, snapshot: str, *, allowed: tuple[int, ...] = (0,)) -> dict[str, str]:
    target = site.folder / "restored"
    shutil.rmtree(target, ignore_errors=True)
    words = ("--target", str(target), "--key", str(site.key))
    site.finished("restore", f"{snapshot}:{SOURCE}", *words, allowed=allowed)
    return contents_of(target)


def _check_snapshots(site: Installed, job: str, *numbers: int) -> None:
    """These come back as they were. Exit code 3 of the one that lacks a file."""
    for number in numbers:
        codes = (3,) if number == site.known["lost"]["snapshot"] else (0,)
        assert _restored(site, _snapshot(site, job, number), allowed=codes) == _files_of(site, number)


def test_what_was_begun_is_finished(site: Installed) -> None:
    """Restores and a drill that wait for their vaults, without a key; what was forgotten can come back."""
    listed = {restore["id"]: restore["stage"] for restore in site.document("restores")}
    begun = site.known["restores"]
    assert listed == {restore["id"]: "waiting" for restore in begun.values()}
    drills = {drill["drill"]: drill["outcome"] for drill in site.document("drills")["drills"]}
    assert drills == {"of-disk": "done", "of-cold": "running"}
    for job, restore in begun.items():
        site.finished("restore", "resume", restore["id"])
        assert contents_of(BACK / job) == _files_of(site, restore["snapshot"])
    drill = site.finished("drill", "run", "of-cold", allowed=(1,))
    assert (drill["grade"], drill["read"]["damaged_frames"]) == ("read back", 0)
    assert drill["read"]["whole_archives"] > 0
    assert [finding["kind"] for finding in drill["findings"]] == ["lost"], "that is known since `check`"
    for job in JOBS:
        forgotten = {_snapshot(site, job, number) for number in site.known["forgotten"].values()}
        listed = site.document("snapshots", "--job", job, "--forgotten")
        assert {snapshot["id"] for snapshot in listed} == forgotten
        site.run("forget", "--undo", *forgotten)
        assert site.ids(job) == site.known["ids"][job]
        _check_snapshots(site, job, *site.known["forgotten"].values())


def test_a_server_goes_on_is_checked_pruned_and_rebuilt_from_every_vault(site: Installed) -> None:
    back = ("--in-place", "--yes", "--key", str(site.key))
    site.run("restore", _snapshot(site, "on-disk", 7), *back)
    assert contents_of(SOURCE) == _files_of(site, 7)
    (SOURCE / "added" / "since.bin").write_bytes(os.urandom(5000))
    for job in JOBS:
        (report,) = site.document("backup", job)
        assert report["outcome"] == "done", report
        assert report["bytes_new"] < 6000, "what was stored was sent again"
        site.run("forget", "--undo", _snapshot(site, job, site.known["forgotten"]["undoable"]))
    site.pass_time(hours=1)
    for vault in JOBS.values():
        found = site.finished("check", "--vault", vault, allowed=(1,))
        assert {finding["kind"] for finding in found["findings"]} == {"lost"}
    _check_that_prunes_delete_in_time(site)
    for job in JOBS:
        _check_all(site, job, *KEPT)
    for job, vault in JOBS.items():
        words = ("rebuild", "--vault", vault, "--set-aside", "--key", str(site.key))
        made = site.finished(*words, allowed=(3,))
        assert [found["kind"] for found in made["suspicions"]] == ["withheld"], "the lost archive"
        _check_all(site, job, KEPT[0], KEPT[-1])


def _check_all(site: Installed, job: str, *numbers: int) -> None:
    """What was kept is listed, and comes back; so does the night of today's program."""
    listed = site.ids(job)
    assert listed[:-1] == [_snapshot(site, job, number) for number in KEPT]
    _check_snapshots(site, job, *numbers)
    assert _restored(site, listed[-1]) == contents_of(SOURCE)


def _check_that_prunes_delete_in_time(site: Installed) -> None:
    """Nothing at once; in the directory after days of grace; elsewhere after the minimum duration, too."""
    condemned = site.known["condemned"]
    for hours, gone in ((0, ()), (5 * 24, ("disk",)), (FREE, tuple(condemned))):
        site.pass_time(hours)
        site.finished("prune")
        for vault, archives in condemned.items():
            there = {archive["archive_id"] for archive in site.document("archives", "--vault", vault)}
            assert there.isdisjoint(archives) if vault in gone else there.issuperset(archives)
        on_disk = {path.name for path in (site.folder / "vault" / "archives").rglob("*")}
        assert on_disk.isdisjoint(condemned["disk"]) == ("disk" in gone)
