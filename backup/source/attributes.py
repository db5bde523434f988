"""The attributes of an inode besides its `stat`: xattrs with ACLs, and flags; read by a handle.

An O_PATH handle is enough: the system reads it by its name in /proc, which means the very inode and follows
no symlink.
"""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
from collections.abc import Sequence
from typing import NamedTuple

from backup.format.acl import ACCESS, DEFAULT, NAMED_USER, IdName, named_ids
from backup.model import Extra
from backup.source.flags import KEPT, flags_of, read_flags

_HAS_XATTRS = hasattr(os, "listxattr")
_NO_XATTRS = {errno.EOPNOTSUPP, errno.ENOSYS}
_GONE = {errno.ENODATA, errno.EOPNOTSUPP}
_BOUND = {b"security.evm"}  # a signature over the inode number: invalid anywhere else

Xattrs = tuple[tuple[bytes, bytes], ...]


class Attributes(NamedTuple):
    """Sorted xattrs, the names of ids in ACLs, flags; `trouble` says what could not be read."""

    xattrs: Xattrs = ()
    acl_names: tuple[IdName, ...] = ()
    flags: int = 0
    trouble: str = ""


NONE = Attributes()


def read_attributes(handle: int, *, opens_nothing: bool = False) -> Attributes:
    """All attributes of an open inode; `opens_nothing` for an O_PATH handle, which has no flags.

    File systems without xattrs or flags have none. Never fails: other errors are `trouble`, for the content
    is worth saving without attributes.
    """
    trouble = ""
    xattrs: Xattrs = ()
    flags = 0
    try:
        xattrs = _xattrs(os.fsencode(f"/proc/self/fd/{handle}") if opens_nothing else handle)
    except OSError as error:
        trouble = f"extended attributes: {error.strerror}"
    try:
        flags = 0 if opens_nothing else (read_flags(handle) or 0) & KEPT
    except OSError as error:
        trouble += f"{'; ' if trouble else ''}flags: {error.strerror}"
    if not (xattrs or flags or trouble):
        return NONE
    return Attributes(xattrs, _names(xattrs), flags, trouble)


def attributes_of(handles: Sequence[int]) -> dict[int, Attributes]:
    """The attributes of open inodes, by index, of those that have any: in few steps if none has.

    As `read_attributes`: nothing fails.
    """
    try:
        if not any(map(os.listxattr, handles)) and not any(map(KEPT.__and__, flags_of(handles))):
            return {}
    except OSError:  # each by itself: most have no xattrs because the file system has none
        pass
    found = {index: read_attributes(handle) for index, handle in enumerate(handles)}
    return {index: attributes for index, attributes in found.items() if attributes is not NONE}


def extra_of(attributes: Attributes, *, target: bytes = b"", device: int = 0, link: int = 0) -> Extra | None:
    """The rare fields of an entry; None if it has none."""
    xattrs, acl_names, flags, _ = attributes
    if not (xattrs or flags or target or device or link):
        return None
    return Extra(target, device, link, flags, xattrs, acl_names=acl_names)


def _xattrs(inode: int | bytes) -> Xattrs:
    if not _HAS_XATTRS:
        return ()
    try:
        names = os.listxattr(inode)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    if not names:
        return ()
    found = []
    for name in sorted(map(os.fsencode, names)):
        if name in _BOUND:
            continue
        try:
            found.append((name, os.getxattr(inode, name)))
        except OSError as error:
            if error.errno not in _GONE:
                raise
    return tuple(found)


def _names(xattrs: Xattrs) -> tuple[IdName, ...]:
    ids: set[tuple[int, int]] = set()
    for name, value in xattrs:
        if name in {ACCESS, DEFAULT}:
            ids |= named_ids(value)
    named = (IdName(tag, number, _name(tag, number)) for tag, number in sorted(ids))
    return tuple(name for name in named if name.name)


def _name(tag: int, number: int) -> str:
    name = user_name(number) if tag == NAMED_USER else group_name(number)
    return name.encode("utf-8", "backslashreplace").decode()


@functools.lru_cache(maxsize=4096)
def user_name(uid: int) -> str:
    """The name that this machine has for a user, or nothing."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@functools.lru_cache(maxsize=4096)
def group_name(gid: int) -> str:
    """The name that this machine has for a group, or nothing."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
