"""Finds users other than root and the caller who can change a path: by owners, modes, groups and ACLs.

The way is gone step by step from `/`, through symlinks. As long as no step can be changed by other users,
they cannot replace the next one either: so the result holds until a permission is changed.

`hazard_of_way`, `foreign_link` and `hazard_of` only look. `held_directory` and `make_private` are for our
directories in places that other users own: they follow no link of others. No mode is changed through a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from msgspec import Struct

from backup.errors import StateDeniedError

_MOST_LINKS = 40  # as Linux
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PRIVATE = 0o700
_ACL = "system.posix_acl_access"


class Hazard(Struct, frozen=True):
    """A component of a path that others can change: `why` is a sentence, `command` mends it."""

    path: str
    why: str
    command: str


def hazard_of_way(path: str | bytes, *, is_last_meant: bool = True) -> Hazard | None:
    """The first step on the way to an absolute path that others than root and the caller can change.

    None if there is none, or if the way ends before (what is not there cannot be changed). A directory where
    everybody may write, but change only what is their own (`/tmp`), is none on the way; it is one at the end.
    Without `is_last_meant` the last component is not checked. `OSError` if that is impossible.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        for at, status, is_last in _steps(os.fsdecode(path)):
            if is_last and not is_last_meant:
                break
            hazard = hazard_of(at, status, is_last=is_last)
            if hazard is not None:
                return hazard
    return None


def foreign_link(path: str) -> Hazard | None:
    """The first symlink on the way to an absolute path that is neither root's nor the caller's. `OSError`."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for at, status, _ in _steps(path):
            if stat.S_ISLNK(status.st_mode) and (hazard := _of_owner(at, status)) is not None:
                return hazard
    return None


def hazard_of(
    path: str, found: os.stat_result, *, is_last: bool = True, owners: Collection[int] = ()
) -> Hazard | None:
    """The right by which users other than root, the caller and `owners` (ids) can change a file, or None."""
    if stat.S_ISLNK(found.st_mode):
        return _of_owner(path, found, owners)
    return _of_owner(path, found, owners) or _of_mode(path, found, is_last=is_last, owners=owners)


@contextmanager
def held_directory(path: str, parent: int | None = None) -> Iterator[int]:
    """A handle of a directory, in an open one if that is given; a link of root or the caller is followed.

    `StateDeniedError` for another user's link, with the command that mends it; `OSError`.
    """
    name = path if parent is None else os.path.basename(path)
    try:
        handle = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError:
        link = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(link.st_mode):
            raise
        _refuse(path, _of_owner(path, link))
        handle = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


def make_private(path: str, parent: int | None = None) -> None:
    """Make a directory for its owner alone, in an open one if that is given, or close one that is there.

    What a link leads to is not changed: `StateDeniedError` if others can change that, or if a directory that
    is there is another user's than root's, the caller's, or the owner's of the one above it; `OSError`.
    """
    name = path if parent is None else os.path.basename(path)
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    with held_directory(path, parent) as handle:
        found, named = os.fstat(handle), os.stat(name, dir_fd=parent, follow_symlinks=False)
        above = os.stat(os.path.dirname(path)) if parent is None else os.fstat(parent)
        if os.path.samestat(found, named):
            _refuse(path, _of_owner(path, found, [above.st_uid]))
            if stat.S_IMODE(found.st_mode) != _PRIVATE:
                os.fchmod(handle, _PRIVATE)
        else:
            _refuse(path, hazard_of(path, found, owners=[above.st_uid]))


def set_mode(path: str, mode: int, *, was: int | None = None) -> None:
    """Give what has this path a mode, if it has the mode `was`; a link and its target stay as they are.

    It is not opened: closing a handle of a file takes away the locks that this process has on it. `OSError`.
    """
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(handle).st_mode
        if not stat.S_ISLNK(found) and was in {None, stat.S_IMODE(found)}:
            os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)


def _refuse(path: str, hazard: Hazard | None) -> None:
    if hazard is not None:
        raise StateDeniedError(f"{path} is not used: {hazard.why}", advice=hazard.command)


def _steps(path: str) -> Iterator[tuple[str, os.stat_result, bool]]:
    """Each step of the way with its status, symlinks before what they lead to; and whether it is the last."""
    left, at, links = _split(path), "/", 0
    yield "/", os.lstat("/"), not left
    while left:
        name = left.pop()
        if name == "..":
            at = os.path.dirname(at)
            continue
        place = os.path.join(at, name)
        found = os.lstat(place)
        if not stat.S_ISLNK(found.st_mode):
            at = place
            yield place, found, not left
            continue
        yield place, found, False
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(place)
        at = "/" if target.startswith("/") else at
        left += _split(target)


def _split(path: str) -> list[str]:
    """The steps of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def _of_owner(path: str, found: os.stat_result, owners: Collection[int] = ()) -> Hazard | None:
    if found.st_uid in {0, os.geteuid(), *owners}:
        return None
    option = "-h " if stat.S_ISLNK(found.st_mode) else ""
    command = f"chown {option}{user_named(os.geteuid())} {_quoted(path)}"
    return Hazard(path, f"{path} belongs to {user_named(found.st_uid)}", command)


def _of_mode(
    path: str, found: os.stat_result, *, is_last: bool, owners: Collection[int] = ()
) -> Hazard | None:
    if found.st_mode & stat.S_ISVTX and not is_last:
        return None  # the owner of the next step is looked at
    who, letters = "", ""
    if found.st_mode & stat.S_IWOTH:
        who, letters = "every user", "go"
    elif found.st_mode & stat.S_IWGRP and _has_acl(path):
        return Hazard(path, f"an ACL lets others write to {path}", f"setfacl -b {_quoted(path)}")
    elif found.st_mode & stat.S_IWGRP and not _is_alone(found.st_gid, {0, os.geteuid(), *owners}):
        who, letters = f"the group {_group_named(found.st_gid)}", "g"
    if not who:
        return None
    command = f"chmod {letters}-w {_quoted(path)}"
    if os.geteuid() not in {0, found.st_uid}:  # as a container's user whose volume has an fsGroup
        command = f"use a directory of your own below it, or as {user_named(found.st_uid)}: {command}"
    return Hazard(path, f"{who} may write to {path}", command)


def _quoted(path: str) -> str:
    import shlex  # every command loads this module, and hardly one finds a hazard

    return shlex.quote(path)


def _has_acl(path: str) -> bool:
    """Whether there is an ACL: then the group's bits of the mode speak for everybody whom it names."""
    with suppress(OSError, AttributeError):
        return bool(os.getxattr(path, _ACL, follow_symlinks=False))
    return False


def _is_alone(gid: int, owners: Collection[int]) -> bool:
    """Whether a group has no members but these users. One that this machine does not know may have others."""
    import grp
    import pwd

    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False
    members = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid or user.pw_name in names}
    known = {user.pw_name for user in pwd.getpwall()}
    return members <= {*owners} and known.issuperset(names)


def user_named(uid: int) -> str:
    """A user's name, else the number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_named(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
