"""A disk that is not mounted tonight: its empty mount point is no order to forget what it held."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver.dryrun import Change, changes
from backup.catalogs.report import Tally
from backup.format.catalog import MountsRecord, unpack_u64
from backup.inventory.content.entries import entry_at
from backup.kinds import Outcome
from backup.model import ProblemKind
from backup.source import disks
from backup.source.filters import Filters
from tests.archiver.reader import read_catalogs
from tests.support.backups import Site
from tests.support.loop_devices import loop_device
from tests.support.rebuilds import bare
from tests.support.trees import Seen, assert_same_tree, on_another_disk, snapshot_of


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


def test_a_folder_with_a_marker_is_no_order_to_forget_the_disk(
    site: Site, source: Path, mount: Mount, tmp_path: Path
) -> None:
    """A marker file in the mount point does not make the disk's files count as deleted."""
    site.backup()
    before = {path: seen for path, seen in snapshot_of(source).items() if path.startswith(b"disk")}
    mount.unmount()
    (source / "disk" / "NOT-MOUNTED").write_text("the disk is not here")
    (source / "disk" / "deep").mkdir()
    (source / "disk" / "deep" / "other").write_text("written while the disk was away")
    for night in range(2):
        report = site.backup()
        assert report.outcome is Outcome.PARTIAL
        ((path, detail),) = [(problem.path, problem.detail) for problem in report.problems]
        assert path == os.fsencode(source / "disk")
        assert "is kept" in detail
        assert "--disk-gone" in detail
        assert_same_tree(disk_of(site, tmp_path / f"out {night}"), before)
        assert list(changes(site.job, site.inventory, Tally())) == []


@pytest.mark.parametrize("what", ["file", "symlink"])
def test_nor_is_what_is_no_folder_at_all(
    site: Site, source: Path, mount: Mount, tmp_path: Path, what: str
) -> None:
    site.backup()
    before = {path: seen for path, seen in snapshot_of(source).items() if path.startswith(b"disk")}
    mount.unmount()
    mount.place.rmdir()
    if what == "file":
        mount.place.write_text("x")
    else:
        mount.place.symlink_to("elsewhere")
    assert site.backup().outcome is Outcome.PARTIAL
    assert_same_tree(disk_of(site, tmp_path / "out"), before)


def test_a_folder_that_took_a_mount_point_s_place_for_good_is_saved_when_told_so(
    site: Site, source: Path, mount: Mount, tmp_path: Path
) -> None:
    """The way out."""
    site.backup()
    mount.unmount()
    (source / "disk" / "new").write_text("used without a mount")
    let_go = replace(site, job=replace(site.job, disks_gone=frozenset([os.fsencode(source / "disk")])))
    assert {change.what for change in changes(let_go.job, site.inventory, Tally())} >= {"new", "removed"}
    assert let_go.backup().outcome is Outcome.DONE
    assert set(disk_of(site, tmp_path / "out")) == {b"disk", b"disk/new"}
    (source / "disk" / "new").unlink()
    assert site.backup().outcome is Outcome.DONE, "it is a folder like any other from then on"
    assert set(disk_of(site, tmp_path / "out 2")) == {b"disk"}


@pytest.mark.parametrize("by_full", [False, True])
def test_a_rebuilt_server_knows_its_mount_points(
    site: Site, source: Path, mount: Mount, tmp_path: Path, by_full: bool
) -> None:
    """The mount is no hint, as hints are lost: an empty folder would be an order to forget."""
    site.backup()
    if not by_full:
        (source / "beside").write_text("a delta after the full catalog")
        site.backup()
    before = {path: seen for path, seen in snapshot_of(source).items() if path.startswith(b"disk")}
    mount.unmount()
    new = bare(tmp_path, site)
    new.rebuild()
    rebuilt = new.site()
    (source / "disk" / "marker").touch()
    assert rebuilt.backup().outcome is Outcome.PARTIAL
    assert_same_tree(disk_of(rebuilt, tmp_path / "out"), before)
    rebuilt.close()


def test_catalogs_carry_the_whole_set_of_live_mount_points(site: Site, source: Path, mount: Mount) -> None:
    """Each replaces the one before, also when nothing of it changed, and when it became empty."""
    site.backup()
    site.backup()
    let_go = replace(site, job=replace(site.job, disks_gone=frozenset([os.fsencode(source / "disk")])))
    mount.unmount()
    let_go.backup()
    sets = [
        [len(unpack_u64(record.entries)) for record in catalog.records if isinstance(record, MountsRecord)]
        for catalog in read_catalogs(site.vault, site.key)
    ]
    assert sets == [[1], [1], [0]]


def test_a_disk_that_is_mounted_over_files_is_told_once(
    site: Site, source: Path, mount: Mount, tmp_path: Path
) -> None:
    """What is visible is saved, what it covers counts as removed, and is told."""
    inodes, mount.inodes = mount.inodes, set()
    site.backup()
    assert site.backup().warnings == ()
    mount.unmount()  # the folder with its files makes room for
    mount.place.mkdir(exist_ok=True)
    (source / "disk" / "of the disk").touch()
    mount.inodes, mount.on = {os.lstat(path).st_ino for path in (mount.place, *mount.place.iterdir())}, True
    assert inodes
    report = site.backup()
    assert report.outcome is Outcome.DONE
    (warning,) = report.warnings
    assert warning.startswith(f"{source / 'disk'}: a file system was mounted on it")
    assert set(disk_of(site, tmp_path / "out")) == {b"disk", b"disk/of the disk"}
    assert site.backup().warnings == ()


def test_of_a_disk_that_went_with_the_folder_of_its_mount_point(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """/media/ann/disk, of which /media/ann goes as well."""
    (source / "media" / "ann" / "disk").mkdir(parents=True)
    (source / "media" / "ann" / "disk" / "file").write_text("precious")
    (source / "media" / "ann" / "other").write_text("x")
    Mount(source / "media" / "ann" / "disk", monkeypatch)
    site.backup()
    (source / "media" / "ann").rename(tmp_path / "away")
    report = site.backup()
    assert [(problem.path, problem.kind) for problem in report.problems] == [
        (os.fsencode(source / "media" / "ann" / "disk"), ProblemKind.UNREADABLE)
    ]
    site.restore("latest", tmp_path / "out")
    assert (tmp_path / "out" / "media" / "ann" / "disk" / "file").read_text() == "precious"
    site = site.with_job(filters=Filters([os.fsdecode(source / "media" / "ann")]))
    assert site.backup().outcome is Outcome.DONE
    site.restore("latest", tmp_path / "out 2")
    assert list((tmp_path / "out 2" / "media").iterdir()) == []


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
            assert not [
                change for change in changes(site.job, site.inventory, Tally()) if change.what == "removed"
            ]
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
    (source / "beside").touch()
    site.backup()
    (source / "cache" / "x").unlink()
    (source / "cache").rmdir()
    (source / "cache").mkdir()
    report = site.backup()
    assert report.outcome is Outcome.DONE
    assert report.problems == ()


class TestADiskAboveTheSource:
    """The source is a folder on it: below the bare mount point a program, or mkdir -p, made one again."""

    @pytest.fixture(params=["as it is", "through a symlink"])
    def inner(self, request: pytest.FixtureRequest, site: Site, source: Path, mount: Mount) -> Site:
        named = source / "disk"
        if request.param == "through a symlink":
            named = source.parent / "link"
            named.symlink_to(source / "disk")
        return site.with_job(sources=[named / "deep"], filters=Filters(["disk"]))

    def unplug(self, mount: Mount) -> None:
        mount.unmount()
        (mount.place / "deep").mkdir()

    def test_is_kept_and_named_night_after_night(
        self, inner: Site, source: Path, mount: Mount, tmp_path: Path
    ) -> None:
        inner.backup()
        self.unplug(mount)
        for night in range(2):
            assert not [
                change for change in changes(inner.job, inner.inventory, Tally()) if change.what == "removed"
            ]
            report = inner.backup()
            assert report.outcome is Outcome.PARTIAL
            assert [(problem.path, problem.kind) for problem in report.problems] == [
                (os.fsencode(source / "disk"), ProblemKind.UNREADABLE)
            ]
            kept = inner.snapshots()[-1]
            assert kept.counts == ((kept.files, kept.bytes),) == ((1, len("precious")),)
            target = restored_all(inner, source / "disk", tmp_path / f"out {night}")
            assert (target / "deep" / "file").read_text() == "precious"
        (mount.place / "deep").rmdir()
        mount.mount()
        assert inner.backup().outcome is Outcome.DONE

    def test_is_given_up_when_told_so(self, inner: Site, source: Path, mount: Mount, tmp_path: Path) -> None:
        inner.backup()
        self.unplug(mount)
        gone = replace(inner, job=replace(inner.job, disks_gone=frozenset([os.fsencode(source / "disk")])))
        assert gone.backup().outcome is Outcome.DONE
        target = restored_all(inner, source / "disk", tmp_path / "out")
        assert list((target / "deep").iterdir()) == []
        assert inner.backup().outcome is Outcome.DONE, "it is a folder like any other from then on"

    def test_is_let_go_with_its_source(self, inner: Site, source: Path, mount: Mount) -> None:
        inner.backup()
        self.unplug(mount)
        assert inner.with_job(sources=[source / "beside"]).backup().outcome is Outcome.DONE


class TestOfANamedSourceThatPatternsSeemToLeaveOut:
    """What is named as a source is read whatever a pattern says of it: its disk is no less missed."""

    @pytest.mark.parametrize("named", ["the mount point", "a folder above it"])
    @pytest.mark.parametrize("is_unplugged", [False, True])
    def test_by_a_pattern_of_the_folder_above(
        self, site: Site, source: Path, mount: Mount, tmp_path: Path, named: str, is_unplugged: bool
    ) -> None:
        top, pattern = (mount.place, source) if named == "the mount point" else (source, source.parent)
        site = site.with_job(sources=[top], filters=Filters([f"{pattern}/*"]))
        site.backup()
        mount.unmount()
        if is_unplugged and top != mount.place:
            mount.place.rmdir()
        for night in range(2):
            assert site.backup().outcome is Outcome.PARTIAL
            target = restored_all(site, source, tmp_path / f"out {night}")
            assert (target / "disk" / "deep" / "file").read_text() == "precious"

    def test_by_a_pattern_of_the_job_that_the_source_takes_back(
        self, site: Site, source: Path, mount: Mount, tmp_path: Path
    ) -> None:
        job, own = Filters(["disk"]), Filters(["disk", "!disk"])
        site = replace(site, job=replace(site.job, filters=job, overrides={os.fsencode(source): own}))
        site.backup()
        mount.unmount()
        assert site.backup().outcome is Outcome.PARTIAL
        assert b"disk/deep/file" in disk_of(site, tmp_path / "out")

    @pytest.mark.parametrize("what", ["disk/", "media"])
    def test_but_what_its_own_patterns_leave_out_is_let_go(
        self, site: Site, source: Path, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        (source / "media" / "disk").mkdir(parents=True)
        (source / "media" / "disk" / "file").touch()
        (source / "media" / "other").touch()
        mount = Mount(source / "media" / "disk", monkeypatch)
        site.backup()
        mount.unmount()
        own = {os.fsencode(source): Filters([what])}
        assert replace(site, job=replace(site.job, overrides=own)).backup().outcome is Outcome.DONE
        with site.inventory.reading() as tx:
            assert entry_at(tx, 1, os.fsencode(source / "media" / "disk" / "file"), 2) is None


@pytest.mark.parametrize("becomes", ["nothing", "symlink"])
def test_a_mount_point_that_held_nothing_is_not_missed(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    (source / "disk").mkdir(parents=True)
    (source / "disk" / "file").touch()
    mount = Mount(source / "disk", monkeypatch)
    site.backup()
    (source / "disk" / "file").unlink()
    replace(site, job=replace(site.job, may_shrink=True)).backup()
    mount.unmount()
    if becomes == "symlink":
        (source / "disk").rmdir()
        (source / "disk").symlink_to("elsewhere")
    report = site.backup()
    assert (report.outcome, report.warnings) == (Outcome.DONE, ())


def test_a_mount_point_that_is_a_symlink_now_is_told_once(site: Site, source: Path, mount: Mount) -> None:
    site.backup()
    mount.unmount()
    (source / "disk").rmdir()
    (source / "disk").symlink_to("elsewhere")
    report = site.backup()
    assert [problem.path for problem in report.problems] == [os.fsencode(source / "disk")]
    assert report.warnings == ()


def test_a_source_that_is_a_symlink_is_told(site: Site, source: Path, tmp_path: Path) -> None:
    """Its data was moved to a larger disk."""
    (source / "file").write_text("x")
    assert site.backup().warnings == ()
    source.rename(tmp_path / "larger")
    source.symlink_to(tmp_path / "larger")
    warning, wait = site.backup().warnings
    assert warning.startswith(f"source {source} is a symlink to {tmp_path / 'larger'}: only the symlink")
    assert wait.startswith("nothing of job job is forgotten")


def test_a_disk_that_the_job_leaves_out_by_now_is_no_loss(site: Site, source: Path, mount: Mount) -> None:
    for number in range(30):
        path = source / "disk" / f"{number}"
        path.touch()
        mount.inodes.add(path.stat().st_ino)
    site.backup()
    report = site.with_job(filters=Filters(one_file_system=True)).backup()
    assert (report.outcome, report.shrunk, report.files) == (Outcome.DONE, (), 1)


def test_another_disk_in_the_place_of_one_is_told_once(
    site: Site, source: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, disk = os.fsencode(source / "disk"), "uuid one"

    def mounted(paths: Collection[bytes]) -> dict[bytes, str]:
        return {place: disk} if paths == {place} else {}

    monkeypatch.setattr(disks, "disks_at", mounted)
    for _ in range(2):
        assert site.backup().warnings == ()
    disk = "uuid two"
    (warning,) = site.backup().warnings
    assert warning.startswith(f"{source / 'disk'}: another file system is mounted on it")
    assert warning.endswith("(uuid one, and now uuid two)")
    assert site.backup().warnings == ()
    mount.unmount()
    assert site.backup().outcome is Outcome.PARTIAL
    mount.mount()
    assert site.backup().warnings == (), "it is the one that was there"
    disk = "nameless tmpfs"
    assert "(uuid two, and now nameless tmpfs)" in site.backup().warnings[0]
    assert site.backup().warnings == ()
    disk = "uuid three"
    (warning,) = site.backup().warnings
    assert warning.endswith("(uuid two, and now uuid three)")
    assert site.backup().warnings == ()


@contextmanager
def disk_at(place: Path, image: Path | None) -> Iterator[None]:
    """A file system of an image, or memory, mounted at a place with a file of its own in it."""
    with ExitStack() as stack:
        device = "tmpfs" if image is None else stack.enter_context(loop_device(image))
        words = ["mount", "-t", "tmpfs"] if image is None else ["mount"]
        made = subprocess.run([*words, device, place], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"nothing can be mounted: {made.stderr.strip()}")
        stack.callback(lambda: subprocess.run(["umount", place], check=True))
        (place / (image.name if image else "memory")).touch()
        yield


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4")
def test_three_real_disks_in_one_place_and_memory_between(site: Site, source: Path, tmp_path: Path) -> None:
    """Each is named in the night in which it is first there; the third was not, as memory came before it."""
    (place := source / "disk").mkdir()
    images = [tmp_path / name for name in ("one", "two", "three")]
    for image in images:
        with image.open("wb") as file:
            file.truncate(2 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-I", "256", image], check=True)
    one, two, three = images
    shown = (one, one, two, None, None, three, three, None, three)
    for night, (disk, told) in enumerate(zip(shown, (0, 0, 1, 1, 0, 1, 0, 1, 0), strict=True)):
        with disk_at(place, disk):
            report = site.backup()
        about = [text for text in report.warnings if "another file system is mounted on it" in text]
        assert len(about) == told, (night, report.warnings)
    report = site.backup()
    assert [problem.path for problem in report.problems] == [os.fsencode(place)], (
        "nothing is mounted: it is kept"
    )


class TestDryRun:
    def dry(self, site: Site) -> tuple[set[Change], Tally]:
        tally = Tally()
        return set(changes(site.job, site.inventory, tally)), tally

    def below(self, site: Site) -> set[tuple[str, bytes]]:
        top = site.job.sources[0] + b"/"
        return {
            (change.what, change.path[len(top) :])
            for change in self.dry(site)[0]
            if change.path.startswith(top)
        }

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
