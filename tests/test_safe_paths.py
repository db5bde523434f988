"""Ways to directories where others may write: whose links are followed, and what is told of each."""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup import safe_paths
from backup.safe_paths import (
    Way,
    held_folder,
    make_folders,
    open_plain,
    open_special,
    remove_plain,
    special_at,
)

MALLORY = 4242
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes other users' directories")


@pytest.fixture(autouse=True)
def no_handle_is_left() -> Iterator[None]:
    """Each test leaves as many handles open as there were; other threads have one for a moment."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    until = time.monotonic() + 2
    while len(os.listdir("/proc/self/fd")) > before:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory that root alone may write to, and the real path of it."""
    place = tmp_path.resolve() / "top"
    place.mkdir(mode=0o755)
    return place


def risks(path: Path) -> list[str]:
    with Way(str(path)) as way:
        return [risk.why for risk in way.risks]


def given(path: Path, user: int = MALLORY, mode: int | None = None) -> Path:
    """A directory of that user."""
    path.mkdir(exist_ok=True)
    os.chown(path, user, user)
    if mode is not None:
        path.chmod(mode)
    return path


def acl_that_lets_in(user: int) -> bytes:
    """A POSIX ACL by which another user may write."""
    entries = [(0x01, 7, 0xFFFFFFFF), (0x02, 7, user), (0x04, 5, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF)]
    entries.append((0x20, 5, 0xFFFFFFFF))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_a_way_that_is_ours_is_none_to_speak_of(top: Path) -> None:
    (top / "real").mkdir()
    (top / "link").symlink_to("real/../real")
    (top / "round").symlink_to(top / "link")
    with Way(f"{top}/./round//new/er") as way:
        assert (way.path, way.exists, way.risks) == (f"{top}/real/new/er", False, ())
        assert way.make()
        assert way.exists
        handle = way.open()
    assert os.path.samestat(os.fstat(handle), (top / "real/new/er").stat())
    os.close(handle)
    assert (top / "real/new").stat().st_mode & 0o777 == 0o700


def test_merged_usr_and_home_as_a_link(top: Path) -> None:
    """As `/lib` is on most machines, and `/home` on some."""
    for name in ("usr/lib", "srv/home/alice"):
        (top / name).mkdir(parents=True)
    (top / "lib").symlink_to("usr/lib")
    (top / "home").symlink_to(top / "srv/home")
    for path, real in {"lib/new": "usr/lib/new", "home/alice": "srv/home/alice"}.items():
        with Way(str(top / path)) as way:
            assert (way.path, way.risks) == (f"{top}/{real}", ())


def test_what_was_made_goes_again(top: Path) -> None:
    with Way(str(top / "a/b/c")) as way:
        way.make()
        (top / "a/other").write_text("put there meanwhile")
        way.unmake()
    assert sorted(path.name for path in top.rglob("*")) == ["a", "other"]


def test_what_is_missing_is_not_opened(top: Path) -> None:
    """Instead of what is missing the last directory that is there would be opened, and written into."""
    with Way(str(top / "a/b")) as way:
        with pytest.raises(FileNotFoundError, match="No such file"):
            way.open()
        way.make()
        os.close(way.open())
        way.close()  # and once more at the end


@pytest.mark.parametrize("text", ["loop", "missing/../out", "file"])
def test_a_way_that_leads_nowhere(top: Path, text: str) -> None:
    (top / "file").write_text("no directory")
    (top / "loop").symlink_to(text)
    with pytest.raises(OSError, match=r"Too many levels|No such file|Not a directory"):
        Way(str(top / "loop"))


@pytest.mark.parametrize("links", [40, 41])
def test_as_many_symlinks_as_the_kernel_follows(top: Path, links: int) -> None:
    (top / "0").mkdir()
    for number in range(links):
        (top / f"{number + 1}").symlink_to(f"{number}")
    path = str(top / f"{links}")
    if links > 40:
        for follow in (Way, os.stat):
            with pytest.raises(OSError, match="Too many levels"):
                follow(path)
        return
    with Way(path) as way:
        assert (way.path, way.exists) == (f"{top}/0", os.path.isdir(path))


@needs_root
def test_another_users_symlink_is_refused(top: Path) -> None:
    victim = top / "victim"
    victim.mkdir()
    mallory = given(top / "mallory")
    (mallory / "link").symlink_to(victim)
    os.chown(mallory / "link", MALLORY, MALLORY, follow_symlinks=False)
    for path in ("mallory/link", "mallory/link/below"):
        with pytest.raises(OSError, match=f"{mallory}/link is a symlink of {MALLORY}"):
            Way(str(top / path))
    (top / "ours").symlink_to("mallory/link")
    with pytest.raises(OSError, match="is a symlink of"):
        Way(str(top / "ours"))
    assert list(victim.iterdir()) == []


@needs_root
@pytest.mark.parametrize("owner", [0, MALLORY])
def test_a_sticky_directory_and_whose_the_next_step_is(top: Path, owner: int) -> None:
    """As `/tmp`: nobody takes away there what belongs to root or to the caller."""
    shared = given(top / "tmp", 0, 0o1777)
    assert risks(shared / "new") == []
    given(shared / "next", owner)
    assert risks(shared / "next") == ([] if not owner else [f"every user may write to {shared}"])
    shared.chmod(0o777)
    assert risks(shared / "next")[0] == f"every user may write to {shared}"


@needs_root
def test_a_directory_of_somebody_else_is_told_each_and_once(top: Path) -> None:
    alice = given(top / "alice", 1_234_567)
    deep = given(alice / "deep")
    told = [f"{alice} belongs to 1234567", f"{deep} belongs to {MALLORY}"]
    assert risks(deep / "restored/in/it") == told
    assert risks(alice) == [], "whoever owns the end takes nothing away from above"
    given(top / "sticky", MALLORY, 0o1755)
    assert risks(top / "sticky/new") == [f"{top}/sticky belongs to {MALLORY}"]


@needs_root
@pytest.mark.parametrize(
    ("group", "lets_in", "is_told"),
    [(0, None, False), (1_234_567, None, True), (0, MALLORY, True)],
    ids=["root's own", "one that nobody knows", "an ACL that names another user"],
)
def test_a_group_that_may_write(top: Path, group: int, lets_in: int | None, is_told: bool) -> None:
    place = given(top / "shared", 0, 0o775)
    os.chown(place, 0, group)
    if lets_in is not None:
        os.setxattr(place, "system.posix_acl_access", acl_that_lets_in(lets_in))
        assert place.stat().st_mode & stat.S_IWGRP
    assert bool(risks(place / "new")) is is_told


@needs_root
@pytest.mark.parametrize(("members", "is_told"), [([], False), (["alice"], False), (["mallory"], True)])
def test_a_group_of_one(
    top: Path, monkeypatch: pytest.MonkeyPatch, members: list[str], is_told: bool
) -> None:
    """What most distributions make for each user holds nobody else."""
    import grp
    import pwd

    def user(name: str, number: int, group: int) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", number, group, "", "/", "/bin/sh"))

    users = [user("root", 0, 0), user("alice", 0, 1000), user("mallory", MALLORY, 1001)]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group(("alice", "x", 1000, members)))
    place = given(top / "shared", 0, 0o775)
    os.chown(place, 0, 1000)
    assert bool(risks(place / "new")) is is_told
    users.append(user("bob", 1002, 1000))  # by /etc/passwd alone
    assert risks(place / "new")


@pytest.mark.parametrize("name", ["end", "middle"])
def test_a_real_path_is_walked_again_without_any_symlink(top: Path, name: str) -> None:
    (top / "middle/end").mkdir(parents=True)
    os.close(open_plain(f"{top}/middle/end"))
    place = top / ("middle/end" if name == "end" else "middle")
    place.rename(top / "moved")
    place.symlink_to(top / "moved")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_plain(f"{top}/middle/end")


def test_only_the_directory_that_is_open_is_removed(top: Path) -> None:
    (top / "mine").mkdir()
    handle = open_plain(f"{top}/mine")
    (top / "mine").rename(top / "moved")
    (top / "mine").mkdir()
    remove_plain(f"{top}/mine", handle)
    assert (top / "mine").is_dir()
    remove_plain(f"{top}/moved", handle)
    assert not (top / "moved").exists()
    os.close(handle)


@needs_root
@pytest.mark.parametrize("make", [Path.write_text, None], ids=["a file", "nothing"])
def test_the_folder_of_a_file(top: Path, make: Callable[[Path, str], int] | None) -> None:
    (top / "real").mkdir()
    if make is not None:
        make(top / "real/lines", "text")
    (top / "link").symlink_to("real/lines")
    with held_folder(str(top / "link"), follows=True) as (handle, name):
        assert (name, os.path.samestat(os.fstat(handle), (top / "real").stat())) == ("lines", True)
    with held_folder(str(top / "link")) as (handle, name):
        assert (name, os.path.samestat(os.fstat(handle), top.stat())) == ("link", True)
    os.chown(top / "link", MALLORY, MALLORY, follow_symlinks=False)
    with pytest.raises(OSError, match="is a symlink of"), held_folder(str(top / "link"), follows=True):
        pass


def test_a_file_whose_symlinks_lead_round(top: Path) -> None:
    (top / "here").symlink_to("there")
    (top / "there").symlink_to("here")
    with (
        pytest.raises(OSError, match="Too many levels"),
        held_folder(str(top / "here"), follows=True),
    ):
        pass


def test_what_is_in_dev_is_taken_as_it_is() -> None:
    """`/dev/stdout` leads to whatever the caller opened, also through symlinks of the kernel."""
    read, write = os.pipe()
    handle = open_special(f"/dev/fd/{write}")
    assert handle is not None
    os.write(handle, b"bytes")
    assert os.read(read, 9) == b"bytes"
    for descriptor in (handle, read, write):
        os.close(descriptor)


@needs_root
@pytest.mark.parametrize("how", ["pipe", "linked", "through their link", "ours"])
def test_only_our_own_pipes_are_opened(top: Path, how: str) -> None:
    """What is written there may be a secret, and another user reads it."""
    given(top, 0, 0o1777)
    os.mkfifo(top / "pipe")
    reader = os.open(top / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    (top / "link").symlink_to("pipe")
    (top / "around").symlink_to(top)
    path = {"pipe": top / "pipe", "through their link": top / "around/pipe"}.get(how, top / "link")
    if how in {"pipe", "linked"}:
        os.chown(top / "pipe", MALLORY, MALLORY)
    if how == "through their link":
        os.lchown(top / "around", MALLORY, MALLORY)
    if how == "ours":
        handle = open_special(str(path))
        assert handle is not None
        assert os.get_blocking(handle)
        os.write(handle, b"bytes")
        os.close(handle)
        assert os.read(reader, 9) == b"bytes"
    else:
        with pytest.raises(OSError, match=r"only root's and your own|only those of root and of your own"):
            open_special(str(path))
    os.close(reader)


@needs_root
def test_what_is_no_pipe_by_then_or_not_ours(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may come in place of a pipe meanwhile: it is none, whoever it belongs to."""
    os.mkfifo(top / "pipe")
    os.chown(top / "pipe", MALLORY, MALLORY)
    with pytest.raises(OSError, match=r"only root's and your own"):
        special_at(str(top / "pipe"))
    monkeypatch.setattr(safe_paths, "is_special", lambda _: True)
    for owner in (0, MALLORY):
        (top / "file").touch()
        os.chown(top / "file", owner, owner)
        assert special_at(str(top / "file")) is None


def test_a_file_or_nothing_is_no_pipe(top: Path) -> None:
    (top / "file").touch()
    assert special_at(str(top / "file")) is None
    assert special_at(str(top)) is None
    assert open_special(str(top / "nothing")) is None


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_folders_are_never_for_others_to_write(top: Path, mode: int) -> None:
    """What was above the last one had the mode of the umask."""
    before = os.umask(0)
    try:
        make_folders(f"{top}/a/b/c", mode)
    finally:
        os.umask(before)
    for name in ("a", "a/b", "a/b/c"):
        assert (top / name).stat().st_mode & 0o777 == mode
    make_folders(str(top / "a"))


def test_an_absolute_path_needs_no_place_where_one_stands(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a directory that was removed told its own error."""
    (top / "gone").mkdir()
    monkeypatch.chdir(top / "gone")
    (top / "gone").rmdir()
    with Way(str(top)) as way:
        assert way.path == str(top)
    with pytest.raises(FileNotFoundError):
        Way("here")
