"""Who but root and the caller can change what a path leads to: by owners, modes, groups and ACLs.

The way is gone step by step from `/`, through symlinks. As long as no step can be changed by somebody else,
nobody can put something else in the place of the next one: so what is found holds until a right is changed.
Everything here only looks; nothing is opened or changed.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress

from msgspec import Struct

_MOST_LINKS = 40  # as Linux
_ACL = "system.posix_acl_access"


class Hazard(Struct, frozen=True):
    """A step on the way to a path that others can change: `why` is a sentence, `command` mends it."""

    path: str
    why: str
    command: str


def hazard_of_way(path: str | bytes, *, is_last_meant: bool = True) -> Hazard | None:
    """The first step on the way to an absolute path that others than root and the caller can change.

    None if there is none, or if the way ends before (what is not there cannot be changed). A directory where
    everybody may write, but change only what is their own (`/tmp`), is none on the way; it is one at the end.
    Without `is_last_meant` what the path itself leads to is not looked at. `OSError` if that is impossible.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        for at, found, is_last in _steps(os.fsdecode(path)):
            if is_last and not is_last_meant:
                break
            hazard = hazard_of(at, found, is_last=is_last)
            if hazard is not None:
                return hazard
    return None


def hazard_of(
    path: str, found: os.stat_result, *, is_last: bool = True, owners: Collection[int] = ()
) -> Hazard | None:
    """How others than root, the caller and `owners` (user ids) can change what has this status; None: not."""
    if stat.S_ISLNK(found.st_mode):
        return _of_owner(path, found, owners)
    return _of_owner(path, found, owners) or _of_mode(path, found, is_last=is_last, owners=owners)


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
    command = f"chown {option}{user_named(os.geteuid())} {shlex.quote(path)}"
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
        return Hazard(path, f"an ACL lets others write to {path}", f"setfacl -b {shlex.quote(path)}")
    elif found.st_mode & stat.S_IWGRP and not _is_alone(found.st_gid, {0, os.geteuid(), *owners}):
        who, letters = f"the group {_group_named(found.st_gid)}", "g"
    if not who:
        return None
    return Hazard(path, f"{who} may write to {path}", f"chmod {letters}-w {shlex.quote(path)}")


def _has_acl(path: str) -> bool:
    """Whether there is an ACL: then the group's bits of the mode speak for everybody whom it names."""
    with suppress(OSError, AttributeError):
        return bool(os.getxattr(path, _ACL, follow_symlinks=False))
    return False


def _is_alone(gid: int, owners: Collection[int]) -> bool:
    """Whether a group has no members but these users. One that this machine does not know may have others."""
    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False
    members = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid or user.pw_name in names}
    known = {user.pw_name for user in pwd.getpwall()}
    return members <= {*owners} and known.issuperset(names)


def user_named(uid: int) -> str:
    """A user's name, else the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_named(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
