"""A disk that is not mounted tonight: its empty mount point is no order to forget what it held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.archiver.dryrun import Change, changes
from backup.archiver.report import Tally
from backup.inventory.runs import Outcome
from backup.model import ProblemKind
from backup.source.filters import Filters
from tests.backups import Site
from tests.trees import Seen, assert_same_tree, on_another_disk, snapshot_of


class Mount:
    """A folder that is a mount point as far as device numbers tell, until it is unmounted."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.on = True
        self.inodes = {os.lstat(path).st_ino for path in (place, *place.rglob("*"))}
        stat, fstat = os.stat, os.fstat
        monkeypatch.setattr(os, "stat", lambda *args, **options: self.shown(stat(*args, **options)))
        monkeypatch.setattr(os, "fstat", lambda handle: self.shown(fstat(handle)))

    def shown(self, found: os.stat_result) -> os.stat_result:
        if not self.on or found.st_ino not in self.inodes:
            return found
        return on_another_disk(found)

    def unmount(self) -> None:
        """What is mounted goes; an empty folder of another inode appears."""
        self.place.rename(self.place.parent.parent / "unplugged")
        self.place.mkdir()
        self.on = False

    def mount(self) -> None:
        """And comes back."""
        self.place.rmdir()
        (self.place.parent.parent / "unplugged").rename(self.place)
        self.on = True


@pytest.fixture
def mount(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    (source / "disk" / "deep").mkdir(parents=True)
    (source / "disk" / "deep" / "file").write_text("precious")
    (source / "beside").write_text("x")
    with monkeypatch.context() as patch:
        yield Mount(source / "disk", patch)


def disk_of(site: Site, target: Path) -> dict[bytes, Seen]:
    site.restore("latest", target)
    return {path: seen for path, seen in snapshot_of(target).items() if path.startswith(b"disk")}


def test_is_kept_and_named_night_after_night(site: Site, source: Path, mount: Mount, tmp_path: Path) -> None:
    site.backup()
    before = {path: seen for path, seen in snapshot_of(source).items() if path.startswith(b"disk")}
    mount.unmount()
    (source / "beside").write_text("changed")
    for night in range(2):
        report = site.backup()
        assert report.outcome is Outcome.PARTIAL
        assert [(problem.path, problem.kind) for problem in report.problems] == [
            (os.fsencode(source / "disk"), ProblemKind.UNREADABLE)
        ]
        assert "mounted" in report.problems[0].detail
        assert_same_tree(disk_of(site, tmp_path / f"out {night}"), before)
    mount.mount()
    assert site.backup().outcome is Outcome.DONE
    assert_same_tree(disk_of(site, tmp_path / "out"), before)


def test_what_a_mounted_disk_lost_is_let_go(site: Site, source: Path, mount: Mount, tmp_path: Path) -> None:
    site.backup()
    (source / "disk" / "deep" / "file").unlink()
    (source / "disk" / "deep").rmdir()
    assert site.backup().outcome is Outcome.DONE
    assert list(disk_of(site, tmp_path / "out")) == [b"disk"]


def test_a_folder_that_took_a_mount_point_s_place_is_saved(
    site: Site, source: Path, mount: Mount, tmp_path: Path
) -> None:
    site.backup()
    mount.unmount()
    (source / "disk" / "new").write_text("used without a mount")
    assert site.backup().outcome is Outcome.DONE
    assert set(disk_of(site, tmp_path / "out")) == {b"disk", b"disk/new"}


class TestAMountPointThatGoesWithItsDisk:
    """As those below /media do."""

    def unplug(self, mount: Mount) -> None:
        mount.unmount()
        mount.place.rmdir()

    def test_is_kept_and_named_night_after_night(
        self, site: Site, source: Path, mount: Mount, tmp_path: Path
    ) -> None:
        site.backup()
        before = {path: seen for path, seen in snapshot_of(source).items() if path.startswith(b"disk")}
        self.unplug(mount)
        for night in range(2):
            report = site.backup()
            assert report.outcome is Outcome.PARTIAL
            assert [(problem.path, problem.kind) for problem in report.problems] == [
                (os.fsencode(source / "disk"), ProblemKind.UNREADABLE)
            ]
            assert_same_tree(disk_of(site, tmp_path / f"out {night}"), before)
            assert not [one for one in changes(site.job, site.inventory, Tally()) if one.what == "removed"]
        mount.place.mkdir()
        mount.mount()
        assert site.backup().outcome is Outcome.DONE

    def test_is_let_go_once_it_is_excluded(
        self, site: Site, source: Path, mount: Mount, tmp_path: Path
    ) -> None:
        site.backup()
        self.unplug(mount)
        site = site.with_job(filters=Filters([os.fsdecode(source / "disk")]))
        assert site.backup().outcome is Outcome.DONE
        assert disk_of(site, tmp_path / "out") == {}

    def test_is_let_go_with_its_source(self, site: Site, source: Path, mount: Mount, tmp_path: Path) -> None:
        site.backup()
        self.unplug(mount)
        (source / "other").mkdir()
        site = site.with_job(sources=[source / "other"])
        assert site.backup().outcome is Outcome.DONE
        assert list(snapshot_of(restored_all(site, source, tmp_path / "out"))) == [b"other"]

    def test_of_which_nothing_was_saved_is_let_go(
        self, site: Site, source: Path, mount: Mount, tmp_path: Path
    ) -> None:
        site = site.with_job(filters=Filters(one_file_system=True))
        site.backup()
        mount.unmount()
        assert site.backup().outcome is Outcome.DONE
        mount.place.rmdir()
        assert site.backup().outcome is Outcome.DONE
        assert disk_of(site, tmp_path / "out") == {}


def restored_all(site: Site, source: Path, target: Path) -> Path:
    site.restore("latest", target, path=source)
    return target


def test_an_emptied_folder_that_was_no_mount_point_is_let_go(site: Site, source: Path) -> None:
    (source / "cache").mkdir()
    (source / "cache" / "x").touch()
    site.backup()
    (source / "cache" / "x").unlink()
    (source / "cache").rmdir()
    (source / "cache").mkdir()
    report = site.backup()
    assert report.outcome is Outcome.DONE
    assert report.problems == ()


class TestDryRun:
    def dry(self, site: Site) -> tuple[set[Change], Tally]:
        tally = Tally()
        return set(changes(site.job, site.inventory, tally)), tally

    def below(self, site: Site) -> set[tuple[str, bytes]]:
        top = site.job.sources[0] + b"/"
        return {(one.what, one.path[len(top) :]) for one in self.dry(site)[0] if one.path.startswith(top)}

    def test_tells_what_a_backup_would_do_and_does_nothing(self, site: Site, source: Path) -> None:
        (source / "a").write_text("123")
        (source / "b").write_text("x")
        assert self.below(site) == {("new", b"a"), ("new", b"b")}
        assert site.snapshots() == []
        site.backup()
        assert self.dry(site)[0] == set()
        (source / "a").write_text("changed")
        (source / "b").unlink()
        assert self.below(site) == {("changed", b"a"), ("removed", b"b")}
        tally = self.dry(site)[1]
        assert tally.files == 1

    def test_removes_nothing_that_is_not_mounted(self, site: Site, mount: Mount) -> None:
        site.backup()
        mount.unmount()
        assert not {change for change in self.below(site) if change[0] == "removed"}
