"""Nothing leads out of the target: no name, no symlink, no change made while a restore is at it."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import TargetError
from backup.restorer.selection.entry import is_step
from backup.restorer.writer import directories as module
from backup.restorer.writer.directories import Target, replacing, step
from tests.restorer.bench import as_root
from tests.support.trees import on_another_disk


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The target's path; it is not there yet."""
    return tmp_path / "target"


@pytest.fixture
def target(place: Path) -> Iterator[Target]:
    made = Target(str(place))
    yield made
    made.close()


@given(st.binary(max_size=20))
def test_a_step_is_one_name(name: bytes) -> None:
    plain = name not in {b"", b".", b".."} and not set(name) & {ord("/"), 0}
    assert is_step(name) is plain


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/etc", b"a\0b"])
def test_other_names_are_refused(name: bytes) -> None:
    with pytest.raises(TargetError, match="leads out of the target"):
        step(name)


@pytest.mark.parametrize("path", [b"in//x", b"in/./x", b"in/../../x", b"/etc", b"..", b"in/a\0b", b"in/"])
def test_paths_that_lead_elsewhere_are_refused(path: bytes, target: Target, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="leads out of the target"):
        target.handle(path)
    with pytest.raises(TargetError, match="leads out of the target"):
        target.directory(path)
    assert os.listdir(tmp_path) == ["target"]
    assert "etc" not in os.listdir(tmp_path / "target")


def test_the_target_is_made_with_its_parents(tmp_path: Path) -> None:
    Target(str(tmp_path / "a" / "b")).close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TargetError, match="cannot be used"):
        Target(str(tmp_path / "file"))
    with pytest.raises(TargetError):
        Target(str(tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(TargetError, match="cannot be used"):
        Target("/proc/self/none")


def test_directories_are_made_on_the_way_for_us_alone(target: Target, place: Path) -> None:
    handle = target.handle(b"a/b/c")
    assert os.fstat(handle).st_ino == (place / "a/b/c").stat().st_ino
    assert (place / "a").stat().st_mode & 0o777 == 0o700


def test_a_symlink_on_the_way_is_not_followed(target: Target, place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / "link").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        target.handle(b"link/below")
    assert not list(outside.iterdir())


def test_a_symlink_in_the_place_of_a_directory_gives_way(target: Target, place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (place / "link").symlink_to(outside)
    handle, was_there = target.directory(b"link")
    assert was_there
    assert os.fstat(handle).st_ino == (place / "link").stat().st_ino
    assert not (place / "link").is_symlink()
    assert (outside / "deep").is_dir()


def test_a_file_in_the_place_of_a_directory_gives_way(target: Target, place: Path) -> None:
    (place / "name").write_text("old")
    target.directory(b"name")
    assert (place / "name").is_dir()


def test_a_handle_stays_where_it_was_when_a_symlink_takes_its_place(
    target: Target, place: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target.handle(b"a/b")
    (place / "a" / "b").rename(place / "a" / "moved")
    (place / "a" / "b").symlink_to(outside)
    os.mkdir(b"made", dir_fd=target.handle(b"a/b"))
    assert (place / "a" / "moved" / "made").is_dir()
    assert not list(outside.iterdir())


def test_a_handle_opened_again_does_not_follow_what_took_its_place(
    target: Target, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    outside = tmp_path / "outside"
    outside.mkdir()
    target.handle(b"a/b")
    for name in (b"c", b"d", b"e"):
        target.handle(name)
    (place / "a").rename(place / "moved")
    (place / "a").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        target.handle(b"a/b")


def test_few_handles_are_open_and_all_are_closed(place: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    target = Target(str(place))
    for number in range(400):
        target.handle(b"d%d/e" % number)
    assert len(os.listdir("/proc/self/fd")) - before < 140
    target.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_longer_than_the_system_takes(target: Target, place: Path) -> None:
    path = b"/".join([b"0123456789"] * 1500)
    target.directory(path)
    os.mkdir(b"end", dir_fd=target.handle(path))
    assert os.listdir(target.handle(path)) == ["end"]
    flatten(place, b"0123456789")


def flatten(place: Path, name: bytes) -> None:
    """Take levels of one name away from above: what cleans up after tests cannot go as deep."""
    top = os.fsencode(place) + b"/" + name
    while os.path.exists(top + b"/" + name):
        os.rename(top + b"/" + name, top + b".below")
        os.rmdir(top)
        os.rename(top + b".below", top)


def test_a_directory_that_takes_the_place_of_another_is_not_written_to(
    target: Target, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    target.directory(b"a")
    for name in (b"c", b"d", b"e"):
        target.handle(name)
    (place / "a").rename(place / "moved")
    (place / "secret").mkdir()
    (place / "secret").rename(place / "a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError, match="another directory took its place"):
        target.handle(b"a/b")
    with pytest.raises(FileNotFoundError, match="another directory took its place"):
        target.directory(b"a")
    assert not list((place / "a").iterdir())
    assert len(os.listdir("/proc/self/fd")) == before
    (place / "a").rmdir()
    (place / "moved").rename(place / "a")
    target.handle(b"a")
    for name in (b"c", b"d"):
        target.handle(name)
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda handle: on_another_disk(real(handle)))
    with pytest.raises(FileNotFoundError, match="another directory took its place"):
        target.handle(b"a")


@pytest.mark.parametrize("of", ["the call", "the target"])
def test_nothing_gives_way_where_nothing_may_be_replaced(place: Path, of: str) -> None:
    place.mkdir()
    (place / "file").write_text("mine")
    (place / "link").symlink_to("file")
    target = Target(str(place), replaces=of == "the call")
    for name in (b"file", b"link"):
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            target.directory(name, replaces=of == "the target")
    target.close()
    assert (place / "link").read_text() == "mine"


def test_a_target_that_was_opened_before_is_copied(place: Path) -> None:
    place.mkdir()
    handle = os.open(place, os.O_RDONLY)
    target = Target("elsewhere", handle=handle)
    _, was_there = target.directory(b"a")
    assert not was_there
    target.close()
    os.fstat(handle)
    os.close(handle)
    assert os.listdir(place) == ["a"]


@pytest.mark.parametrize(
    ("before", "after"), [(0o500, 0o700), (0o2450, 0o2750), (0o755, 0o755), (0o055, 0o700)]
)
def test_a_directory_of_ours_is_made_writable_for_us(
    target: Target, place: Path, before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that we could not even read is so for us alone."""
    refusing(monkeypatch)
    (place / "a").mkdir()
    (place / "a").chmod(before)
    handle, was_there = target.directory(b"a")
    assert was_there
    assert os.fstat(handle).st_mode & 0o7777 == after


def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As anybody but root, we open no directory that we may not read."""
    real = os.open

    def opened(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not flags & os.O_PATH and not os.stat(path, dir_fd=dir_fd).st_mode & 0o400:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)


def test_what_a_symlink_leads_to_is_not_made_writable(
    target: Target, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the place of a directory that could not be read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o055)
    (place / "a").symlink_to(outside)
    refusing(monkeypatch)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        target.directory(b"a")
    assert outside.stat().st_mode & 0o777 == 0o055
    (place / "a").unlink()
    (place / "a").mkdir(0o055)
    target.directory(b"a")
    assert len(os.listdir("/proc/self/fd")) == before + 1


@as_root
def test_a_directory_of_another_user_is_not_ours(
    target: Target, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    (place / "hers").mkdir()
    (place / "given").mkdir()
    os.chown(place / "hers", 4711, 4711)
    (place / "hers").chmod(0o500)
    target.directory(b"hers")
    target.directory(b"given")
    assert (target.is_ours(b"hers"), target.is_ours(b"given")) == (False, True)
    assert (place / "hers").stat().st_mode & 0o777 == 0o500
    os.chown(place / "given", 4711, 4711)
    for name in (b"c", b"d", b"given"):
        target.handle(name)
    assert not target.is_ours(b"given")


def test_a_directory_that_another_restore_makes_at_that_moment(
    target: Target, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def mkdir(path: bytes, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert os.fstat(target.handle(b"a")).st_ino == (place / "a").stat().st_ino


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("name", [b"../out", b"..", b"a/b"])
def test_nothing_is_put_elsewhere(place: Path, name: bytes, replaces: bool) -> None:
    (place / "a").mkdir(parents=True)
    (place / "temporary").touch()
    target = Target(str(place), replaces=replaces)
    with pytest.raises(TargetError, match="leads out of the target"):
        target.put(target.handle(b""), b"temporary", name)
    with pytest.raises(TargetError, match="leads out of the target"):
        replacing(target.handle(b""), name, b"temporary", lambda _: None)
    target.close()
    assert sorted(path.name for path in place.parent.rglob("*")) == ["a", "target", "temporary"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("there", ["file", "link", "folder", ""])
def test_a_name_that_is_taken_is_not_replaced(
    place: Path, there: str, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on a file system without hard links; what comes may be a symlink, and stays one."""
    place.mkdir()
    (place / "file").write_text("mine")
    (place / "link").symlink_to("nowhere")
    (place / "folder").mkdir()
    (place / "temporary").symlink_to("file")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    target = Target(str(place), replaces=False)
    if there:
        before = os.lstat(place / there)
        with pytest.raises(FileExistsError):
            target.put(target.handle(b""), b"temporary", os.fsencode(there))
        assert os.lstat(place / there) == before
        assert (place / "temporary").is_symlink()
    else:
        target.put(target.handle(b""), b"temporary", b"free")
        assert os.readlink(place / "free") == "file"
        assert not (place / "temporary").is_symlink()
    target.close()


def test_a_name_that_was_taken_a_moment_ago_is_not_replaced_either(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir()
    (place / "temporary").touch()
    target = Target(str(place), replaces=False)

    def refuse(*_: object, **__: object) -> None:
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FileExistsError):
        target.put(target.handle(b""), b"temporary", b"name")
    target.close()
    assert os.listdir(place) == ["temporary"]


def test_what_cannot_be_made_is_told_as_it_was(target: Target, place: Path) -> None:
    """Not that the temporary name is not there, either."""

    def refuse(_: bytes) -> None:
        raise PermissionError(1, "Operation not permitted")

    with pytest.raises(PermissionError):
        target.make(target.handle(b""), b"name", b"temporary", refuse)


def test_what_cannot_be_renamed_leaves_nothing(target: Target, place: Path) -> None:
    (place / "name").mkdir()
    handle = target.handle(b"")
    with pytest.raises(IsADirectoryError):
        replacing(handle, b"name", b"temporary", lambda name: os.symlink(b"x", name, dir_fd=handle))
    assert os.listdir(place) == ["name"]


def test_bytes_that_did_not_reach_the_disk_are_no_success(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what is synced after that: the system tells of them once."""

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    for _ in range(2):
        target.syncing([b""])()
    asked_before = target.syncing([b""])
    with monkeypatch.context() as patch:
        patch.setattr(module, "sync_file_system", fail)
        with pytest.raises(TargetError, match="may not be on the disk"):
            target.syncing([b""])()
    for later in (asked_before, target.syncing([b""])):
        with pytest.raises(TargetError, match="may not be on the disk"):
            later()


def test_a_sync_leaves_no_handles(target: Target, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "a").mkdir()
    target.handle(b"a")
    before = len(os.listdir("/proc/self/fd"))
    target.syncing([b"", b"a"])()
    assert len(os.listdir("/proc/self/fd")) == before
    real = os.dup

    def dup(handle: int) -> int:
        if len(os.listdir("/proc/self/fd")) > before:
            raise OSError(24, "Too many open files")
        return real(handle)

    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(TargetError):
        target.syncing([b"", b"a"])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("real_syncs")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSYS, 0])
def test_what_syncfs_says_is_heard(target: Target, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Where the system has none, everything is synced."""
    synced: list[bool] = []

    class Library:
        def syncfs(self, handle: int) -> int:
            os.fstat(handle)
            ctypes.set_errno(number)
            return -1 if number else 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: Library())
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    sync = target.syncing([b""])
    if number == errno.EIO:
        with pytest.raises(TargetError, match="Input/output error"):
            sync()
    else:
        sync()
    assert len(synced) == (number == errno.ENOSYS)


@pytest.mark.usefixtures("real_syncs")
def test_the_real_syncfs_says_why() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        module.sync_file_system(-1)


@pytest.mark.usefixtures("real_syncs")
def test_sync_without_syncfs(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: object())
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    target.syncing([b"", b"a"])()
    assert synced == [True, True]
