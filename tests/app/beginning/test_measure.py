"""What is found on a machine, within a time; sizes are about those of `du`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from backup.app.base.silent_mounts import Places, SeenDirectory
from backup.app.beginning.measure import (
    databases_here,
    is_missing,
    measure,
    unanswered,
    usual_folders,
)


def test_files_are_counted_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 24)
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    (tmp_path / "loop").symlink_to(tmp_path)
    folder, file, gone = measure([str(tmp_path), str(tmp_path / "b"), str(tmp_path / "gone")])
    assert (folder.bytes, folder.files, folder.is_whole) == (1024, 2, True)
    assert (file.bytes, file.files, file.is_whole) == (24, 1, True)
    assert (gone.bytes, gone.files, gone.is_whole) == (0, 0, False)


def test_it_ends_in_time_whatever_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that does not answer, as of a server that is away: the others have their share of time."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "fine").mkdir()
    (tmp_path / "fine" / "a").write_bytes(b"x" * 7)
    listed = os.scandir

    def hanging(path: str) -> object:
        if path.endswith("slow"):
            time.sleep(5)
        return listed(path)

    monkeypatch.setattr(os, "scandir", hanging)
    began = time.monotonic()
    fine, slow = measure([str(tmp_path / "fine"), str(tmp_path / "slow")], 0.3)
    assert time.monotonic() - began < 2
    assert (fine.bytes, fine.is_whole, slow.is_whole) == (7, True, False)


def test_what_is_too_much_is_told_as_far_as_it_was_counted(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").mkdir()
    (found,) = measure([str(tmp_path)], 0.0)
    assert not found.is_whole


def test_folders_that_hold_something_are_proposed() -> None:
    """Not one that is empty, not there, has this program alone, or does not answer; a home to its user."""
    there = {
        "/etc": ["fstab"],
        "/srv": [],
        "/opt": ["nightvault"],
        "/home": ["ada"],
        "/var/lib/mysql": ["ibdata1"],
    }

    class Made(Places):
        def at(self, path: str) -> SeenDirectory:
            return SeenDirectory(frozenset(there.get(path, ())), is_silent=path in {"/var/www", "/home/eve"})

    made = Made()
    assert usual_folders("/root", made, is_root=True) == ["/etc", "/home"]
    assert usual_folders("/home/ada", made, is_root=False) == ["/home/ada"]
    assert usual_folders("/home/eve", made, is_root=False) == []
    assert databases_here(made) == ["/var/lib/mysql"]
    assert unanswered("/root", made, is_root=True) == ["/var/www"]
    assert unanswered("/home/eve", made, is_root=False) == ["/home/eve"]


def test_tokens_are_no_missing_files(tmp_path: Path) -> None:
    assert is_missing(str(tmp_path / "gone"))
    assert not is_missing(str(tmp_path))
    assert not is_missing("pkcs11:token=x")
