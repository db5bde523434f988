"""Who else can change what a path leads to: each right that another user can have is found, and no other."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import struct
import subprocess
from pathlib import Path

import pytest

from backup.owners import hazard_of, hazard_of_way, set_mode

MALLORY = 65534
ALICE = 4242  # a user whom this machine does not know
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def way(tmp_path: Path) -> Path:
    """A file below two directories, all ours."""
    path = tmp_path / "above" / "folder" / "file"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    for step in (path, path.parent, path.parent.parent):
        step.chmod(0o755 if step.is_dir() else 0o644)
    return path


def why(path: Path, **how: bool) -> str:
    found = hazard_of_way(str(path), **how)
    return found.why if found else ""


def test_what_is_ours_alone_is_no_hazard(way: Path) -> None:
    assert why(way) == why(way.parent) == ""
    assert why(way.parent / "not there" / "at all") == ""
    assert why(way / "below a file") == ""


@pytest.mark.parametrize("step", ["", "..", "../.."])
def test_a_step_that_every_user_may_write(way: Path, step: str) -> None:
    at = Path(os.path.normpath(way / step))
    at.chmod(0o777)
    found = hazard_of_way(str(way))
    assert found is not None
    assert found.why == f"every user may write to {at}"
    assert found.command == f"chmod go-w {at}"
    subprocess.run(shlex.split(found.command), check=True)
    assert why(way) == ""


def test_a_sticky_directory_is_one_at_the_end_alone(way: Path) -> None:
    way.parent.chmod(0o1777)
    assert why(way) == ""
    assert why(way.parent) == f"every user may write to {way.parent}"
    assert why(way.parent, is_last_meant=False) == ""
    way.chmod(0o1666)  # a file is sticky in vain
    assert why(way) == f"every user may write to {way}"


@needs_root
class TestOwners:
    @pytest.mark.parametrize("step", ["", "..", "../.."])
    def test_a_step_of_another_user(self, way: Path, step: str) -> None:
        at = Path(os.path.normpath(way / step))
        os.chown(at, MALLORY, 0)
        found = hazard_of_way(str(way))
        assert found is not None
        assert found.why == f"{at} belongs to {pwd.getpwuid(MALLORY).pw_name}"
        assert found.command == f"chown root {at}"

    def test_in_a_sticky_directory_what_another_made(self, way: Path) -> None:
        way.parent.chmod(0o1777)
        os.chown(way, ALICE, 0)
        assert why(way) == f"{way} belongs to {ALICE}"

    def test_owners_who_are_named_are_meant(self, way: Path) -> None:
        os.chown(way, ALICE, 0)
        assert hazard_of(str(way), os.stat(way), owners=[ALICE]) is None
        assert hazard_of(str(way), os.stat(way), owners=[MALLORY]) is not None

    def test_links_are_followed_and_looked_at(self, way: Path, tmp_path: Path) -> None:
        links = tmp_path / "links"
        links.mkdir()
        os.symlink("../above", links / "up")
        os.symlink(str(links / "up" / "folder"), tmp_path / "link")
        assert why(tmp_path / "link" / "file") == ""
        os.chown(way.parent.parent, MALLORY, 0)  # a step that only the links lead over
        assert why(tmp_path / "link" / "file").startswith(f"{way.parent.parent} belongs to")
        os.chown(way.parent.parent, 0, 0)
        os.chown(links / "up", MALLORY, 0, follow_symlinks=False)
        assert why(tmp_path / "link" / "file").startswith(f"{links}/up belongs to")
        links.chmod(0o777)
        assert why(tmp_path / "link" / "file").startswith(f"every user may write to {links}")

    def test_a_group(self, way: Path) -> None:
        """One that holds the owner alone is nobody else; one with members is, as is one without a name."""
        way.chmod(0o664)
        assert why(way) == ""  # root's own
        others = next(user for user in pwd.getpwall() if user.pw_uid and user.pw_gid)
        os.chown(way, 0, others.pw_gid)
        assert why(way) == f"the group {grp.getgrgid(others.pw_gid).gr_name} may write to {way}"
        os.chown(way, 0, 4_242_424)
        assert why(way) == f"the group 4242424 may write to {way}"
        assert hazard_of_way(str(way)).command == f"chmod g-w {way}"  # type: ignore[union-attr]

    def test_an_acl_speaks_by_the_groups_bits(self, way: Path) -> None:
        entries = [(1, 6, -1), (2, 6, MALLORY), (4, 4, -1), (16, 6, -1), (32, 4, -1)]
        packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
        try:
            os.setxattr(way, "system.posix_acl_access", struct.pack("<I", 2) + packed)
        except OSError:
            pytest.skip("this file system has no ACLs")
        assert why(way) == f"an ACL lets others write to {way}"


def test_a_circle_of_links(tmp_path: Path) -> None:
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    with pytest.raises(OSError, match="symbolic links"):
        hazard_of_way(str(tmp_path / "a"))


def test_a_mode_is_set_without_opening_and_through_no_link(way: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(way)
    set_mode(str(tmp_path / "link"), 0o600)
    assert way.stat().st_mode & 0o777 == 0o644
    set_mode(str(way), 0o600, was=0o640)
    assert way.stat().st_mode & 0o777 == 0o644
    set_mode(str(way), 0o600, was=0o644)
    assert way.stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    set_mode(str(tmp_path / "pipe"), 0o620)  # does not wait for a writer
    assert (tmp_path / "pipe").stat().st_mode & 0o777 == 0o620


@needs_root
def test_the_advice_is_one_that_the_caller_can_follow(way: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user whose volume is root's, and its group's, cannot change the volume's mode."""
    way.parent.chmod(0o2777)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = hazard_of_way(str(way.parent))
    assert found is not None
    told = f"use a directory of your own below it, or as root: chmod go-w {way.parent}"
    assert found.command == told
