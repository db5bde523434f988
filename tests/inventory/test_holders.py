"""Locks are told apart by device and inode: a daemon of another file system is not one's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.files import file_lock
from backup.inventory.store.holders import held_locks, holders


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[list[Path]]:
    """Two file systems on which the same file has the same inode."""
    made = [tmp_path / "a", tmp_path / "b"]
    for unit in made:
        unit.mkdir()
        if os.system(f"mount -t tmpfs tmpfs {unit} 2>/dev/null"):
            pytest.skip("nothing can be mounted here")
        (unit / "daemon.lock").touch()
    try:
        yield made
    finally:
        for unit in made:
            assert os.system(f"umount {unit}") == 0


def test_the_lock_of_another_file_system_is_not_ones_own(fresh: list[Path]) -> None:
    one, other = fresh
    assert (one / "daemon.lock").stat().st_ino == (other / "daemon.lock").stat().st_ino
    with file_lock(str(one / "daemon.lock"), wait=False):
        assert held_locks(str(one)) == frozenset({"daemon"})
        assert held_locks(str(other)) == frozenset()
        with file_lock(str(other / "daemon.lock"), wait=False):
            assert held_locks(str(other)) == frozenset({"daemon"})


def test_ones_own_lock_is_found_by_any_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    with file_lock(str(tmp_path / "state" / "backup.lock"), wait=False):
        for way in ("state", "link"):
            found = holders(str(tmp_path / way))
            assert found is not None
            assert [holder.process for holder in found["backup"]] == [os.getpid()]
    assert held_locks(str(tmp_path / "state")) == frozenset()


@pytest.mark.slow
def test_ones_own_lock_is_found_where_a_file_system_has_devices_of_its_own(tmp_path: Path) -> None:
    """A subvolume of btrfs shows another device than the kernel's list of locks."""
    image, there = tmp_path / "image", tmp_path / "there"
    there.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * 1024 * 1024)
    commands: list[list[str | Path]] = [["mkfs.btrfs", "-q", image], ["mount", "-o", "loop", image, there]]
    for words in commands:
        try:
            done = subprocess.run(words, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("btrfs is not here")
        if done.returncode:
            pytest.skip("no btrfs can be mounted here")
    try:
        subprocess.run(["btrfs", "subvolume", "create", there / "sub"], check=True, capture_output=True)
        with file_lock(str(there / "sub" / "daemon.lock"), wait=False):
            assert held_locks(str(there / "sub")) == frozenset({"daemon"})
        assert held_locks(str(there / "sub")) == frozenset()
    finally:
        assert os.system(f"umount {there}") == 0
