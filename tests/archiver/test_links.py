"""Names of one inode come back as such, are read once, and cost no row while nothing changes."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.archiver import links as module
from backup.archiver.contents import Content, Contents
from backup.archiver.links import Links
from backup.inventory.content import entries
from backup.kinds import Outcome
from backup.model import ProblemKind
from backup.source.scanned import ScannedDirectory
from tests.support.backups import Site
from tests.support.trees import assert_same_tree, on_another_disk

TICK = 0.011  # longer than the file system's clock stands still


def plant(source: Path) -> None:
    """One inode of every kind that can have two names, the second in another directory."""
    (source / "in").mkdir()
    (source / "file").write_bytes(b"content" * 1000)
    (source / "empty").touch()
    (source / "symlink").symlink_to("nowhere")
    os.mkfifo(source / "fifo")
    for name in ("file", "empty", "symlink", "fifo"):
        os.link(source / name, source / "in" / name, follow_symlinks=False)


def inode(path: Path) -> int:
    return path.lstat().st_ino


def test_every_kind_comes_back_as_one_inode(site: Site, source: Path, tmp_path: Path) -> None:
    plant(source)
    report = site.backup()
    assert (report.files, report.files_read, report.bytes_read) == (8, 2, 7000)
    told = site.restore("latest", tmp_path / "out")
    assert (told.outcome, told.files, told.bytes) == (Outcome.DONE, 8, 7000)
    assert_same_tree(source, tmp_path / "out")
    assert inode(tmp_path / "out" / "file") == inode(tmp_path / "out" / "in" / "file")


def test_devices(site: Site, source: Path, tmp_path: Path) -> None:
    try:
        os.mknod(source / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    (source / "null2").hardlink_to(source / "null")
    site.backup()
    site.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def test_across_the_sources_of_a_job(site: Site, source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (source / name).mkdir()
    (source / "one" / "a").write_text("content")
    (source / "two" / "b").hardlink_to(source / "one" / "a")
    site = site.with_job(sources=[source / "one", source / "two"])
    assert site.backup().files_read == 1
    site.restore("latest", tmp_path / "out", path=source)
    assert inode(tmp_path / "out" / "one" / "a") == inode(tmp_path / "out" / "two" / "b")
    told = site.restore("latest", tmp_path / "one", path=source / "two")
    assert (told.outcome, (tmp_path / "one" / "b").read_text()) == (Outcome.DONE, "content")
    assert (tmp_path / "one" / "b").stat().st_nlink == 1


def test_a_quiet_night_writes_no_row(site: Site, source: Path) -> None:
    plant(source)
    time.sleep(TICK)
    site.backup()
    quiet = site.backup()
    assert (quiet.entries_added, quiet.entries_removed, quiet.bytes_new) == (0, 0, 0)


def test_links_made_and_broken_between_nights(site: Site, source: Path, tmp_path: Path) -> None:
    (source / "b").write_text("content")
    site.backup()
    time.sleep(TICK)
    (source / "a").hardlink_to(source / "b")
    made = site.backup()
    assert (made.entries_added, made.entries_removed, made.bytes_new) == (3, 2, 0)  # a, b and the folder
    time.sleep(TICK)
    (source / "b").unlink()
    (source / "b").write_text("content")
    broken = site.backup()
    assert broken.bytes_new == 0
    for snapshot, linked in zip(site.snapshots(), (None, True, False), strict=True):
        out = tmp_path / snapshot.id
        site.restore(snapshot.id, out)
        assert (out / "b").read_text() == "content"
        if linked is not None:
            assert (inode(out / "a") == inode(out / "b")) is linked


def test_entries_of_before_links_were_kept_get_their_numbers(
    site: Site, source: Path, tmp_path: Path
) -> None:
    plant(source)
    time.sleep(TICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Links, "number", lambda *_: 0)
        site.backup()
    assert site.backup().bytes_new == 0
    site.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def directory(path: bytes, device: int) -> ScannedDirectory:
    return ScannedDirectory(path, -1, device, (), frozenset())


def test_a_number_outlives_another_order_of_disks(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    found = (tmp_path / "a").stat()
    moved = on_another_disk(found)
    numbers = []
    for look, other in ((found, moved), (moved, found)):
        links = Links()
        links.enter(directory(b"/", look.st_dev))
        links.enter(directory(b"/mnt", other.st_dev))
        numbers.append((links.number(look), links.number(other)))
    assert numbers[0] == numbers[1]
    assert len({0, *numbers[0]}) == 3, "the same inode number on another disk is another file"


def test_one_name_and_directories_have_no_number(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "d" / "below").mkdir(parents=True)
    assert Links().number((tmp_path / "a").stat()) == 0
    assert Links().number((tmp_path / "d").stat()) == 0


def test_contents_that_are_not_remembered_are_read_again(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KNOWN", 1)
    for name, other in (("a", "c"), ("b", "d")):
        (source / name).write_text(name)
        (source / other).hardlink_to(source / name)
    report = site.backup()
    assert (report.files_read, report.bytes_new) == (4, 2)
    site.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def test_a_file_written_between_two_of_its_names(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_text("old content")
    (source / "b").hardlink_to(source / "a")
    real = Contents.read

    def read(
        self: Contents, handle: int, name: bytes, then: Callable[[Content], None], before: bytes | None
    ) -> os.stat_result:
        found = real(self, handle, name, then, before)
        if name == b"a":
            time.sleep(TICK)
            (source / "a").write_text("new content!")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Contents, "read", read)
        # The walk has looked at b before a was read: as if it had come later.
        patch.setattr(module, "same_version", lambda *_: False)
        site.backup()
    site.restore("latest", tmp_path / "first")
    assert [(tmp_path / "first" / name).read_text() for name in "ab"] == ["old content", "new content!"]
    time.sleep(TICK)
    site.backup()
    site.restore("latest", tmp_path / "second")
    assert_same_tree(source, tmp_path / "second")


def test_without_links_copies(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source)
    with open(source / "file", "r+b") as file:
        file.truncate(9_000_000)
    site.backup()

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        told = site.restore("latest", tmp_path / "out")
    assert (told.outcome, told.files) == (Outcome.PARTIAL, 8)
    assert {(problem.path, problem.kind) for problem in told.problems} == {
        (b"in/" + name, ProblemKind.NOT_SET) for name in (b"file", b"empty", b"symlink", b"fifo")
    }
    assert (tmp_path / "out" / "in" / "file").read_bytes() == (source / "file").read_bytes()
    assert (tmp_path / "out" / "in" / "file").stat().st_blocks < 1000, "a hole stays a hole"
    assert stat.S_ISFIFO((tmp_path / "out" / "in" / "fifo").stat().st_mode)
    assert (tmp_path / "out" / "file").stat().st_nlink == 1


def test_a_name_that_cannot_be_made_does_not_take_the_others_with_it(
    site: Site, source: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        if name == "a":
            (source / name).write_text("content")
        else:
            (source / name).hardlink_to(source / "a")
    site.backup()
    for place in ("a", "b"):
        blocked = tmp_path / place
        (blocked / place).mkdir(parents=True)
        told = site.restore("latest", blocked)
        assert [problem.path for problem in told.problems] == [os.fsencode(place)]
        others = {"a", "b", "c"} - {place}
        assert {(blocked / name).read_text() for name in others} == {"content"}
        assert len({inode(blocked / name) for name in others}) == 1
        assert sorted(os.listdir(blocked)) == ["a", "b", "c"]


def test_damage_is_told_of_every_name(site: Site, source: Path, tmp_path: Path) -> None:
    (source / "a").write_text("content")
    (source / "b").hardlink_to(source / "a")
    site.backup()
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE frames SET digest = zeroblob(16)")
    told = site.restore("latest", tmp_path / "out")
    assert {problem.path for problem in told.problems} == {b"a", b"b"}
    assert not (tmp_path / "out" / "b").exists()
    with site.inventory.reading() as tx:
        assert entries.find_directory(tx, site.snapshot().job_number, os.fsencode(source)) is not None
