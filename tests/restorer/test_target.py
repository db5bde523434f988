"""Nothing leads out of the target: no name, no symlink, no change made while a restore is at it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import TargetError
from backup.restorer.selection.entry import is_step
from backup.restorer.target import directories as module
from backup.restorer.target.directories import Target, replacing, step


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
    with pytest.raises(FileNotFoundError, match="another directory took its place"):
        target.handle(b"a/b")
    assert not list((place / "a").iterdir())


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
def test_sync_without_syncfs(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: object())
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    target.syncing([b"", b"a"])()
    assert synced == [True, True]
