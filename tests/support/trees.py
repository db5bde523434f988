"""What lies in a folder, looked at without any code of ours, and whether two folders are the same."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOST_SHOWN = 10
_GETFLAGS = 0x80086601 if array.array("l").itemsize == 8 else 0x80046601  # x86 and ARM
# chattr's s u c S i a d A m j t D T C: what lsattr shows and a user can set.
_SHOWN_FLAGS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x20000
_NO_FLAGS = {errno.ENOTTY, errno.EOPNOTSUPP}


def extract_tar(tar: tarfile.TarFile, folder: Path) -> None:
    """Everything of it below the folder, also by Debian 12's Python 3.11.2, which knows no filters."""
    if hasattr(tarfile, "data_filter"):
        tar.extraction_filter = tarfile.data_filter
    tar.extractall(folder)


class Seen(NamedTuple):
    """One entry: everything that a restore must bring back. `content` is bytes, or where a symlink points."""

    kind: int  # S_IFMT of st_mode
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...] = ()  # ACLs are among them
    flags: int = 0  # of files and directories
    linked: bytes = b""  # the first path in the folder that is another name of the same


def snapshot_of(folder: Path | bytes | str) -> dict[bytes, Seen]:
    """Every entry below the folder by its path relative to it; the folder itself is not in it.

    By handles, so that no path is too long.
    """
    found: dict[bytes, Seen] = {}
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, handle, name in _below(os.fsencode(folder)):
        seen, inode = _seen(handle, name)
        found[path] = seen
        if seen.kind != stat.S_IFDIR:
            names.setdefault(inode, []).append(path)
    for paths in names.values():
        for path in paths if len(paths) > 1 else ():
            found[path] = found[path]._replace(linked=min(paths))
    return found


def assert_same_tree(
    one: Path | bytes | str | dict[bytes, Seen], other: Path | bytes | str | dict[bytes, Seen]
) -> None:
    """Both hold the same entries: names, kinds, modes, owners, times, targets, attributes, links, bytes."""
    left = one if isinstance(one, dict) else snapshot_of(one)
    right = other if isinstance(other, dict) else snapshot_of(other)
    differing = [path for path in sorted({*left, *right}) if left.get(path) != right.get(path)]
    shown = "\n".join(
        f"{path!r}: {_short(left.get(path))} | {_short(right.get(path))}" for path in differing[:MOST_SHOWN]
    )
    assert not differing, f"{len(differing)} entries differ:\n{shown}"


def flags_of(path: Path | bytes | str) -> int:
    """What lsattr shows of a file or directory."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return _flags(opened)
    finally:
        os.close(opened)


def _below(top: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Path below the top, the open directory it lies in, its name."""
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    waiting = [(b"", root)]
    while waiting:
        prefix, handle = waiting.pop()
        for name in map(os.fsencode, os.listdir(handle)):
            yield prefix + name, handle, name
            if stat.S_ISDIR(os.lstat(name, dir_fd=handle).st_mode):
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                waiting.append((prefix + name + b"/", below))
        os.close(handle)


def _seen(handle: int, name: bytes) -> tuple[Seen, tuple[int, int]]:
    found = os.lstat(name, dir_fd=handle)
    kind = stat.S_IFMT(found.st_mode)
    content, flags = b"", 0
    here = b"/proc/self/fd/%d/%b" % (handle, name)
    if kind in {stat.S_IFREG, stat.S_IFDIR}:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=handle)
        flags = _flags(opened)
        if kind == stat.S_IFREG:
            with open(opened, "rb") as file:
                content = file.read()
        else:
            os.close(opened)
    elif kind == stat.S_IFLNK:
        content = os.readlink(name, dir_fd=handle)
    seen = Seen(
        kind,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        found.st_rdev if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
        content,
        _xattrs(here),
        flags,
    )
    return seen, (found.st_dev, found.st_ino)


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _flags(opened: int) -> int:
    room = array.array("l", [0])
    try:
        fcntl.ioctl(opened, _GETFLAGS, room)
    except OSError as error:
        if error.errno in _NO_FLAGS:
            return 0
        raise
    return room[0] & _SHOWN_FLAGS


def _short(seen: Seen | None) -> str:
    if seen is None:
        return "not there"
    content = seen.content[:20] + (b"..." if len(seen.content) > 20 else b"")
    return str(seen._replace(content=content)) + f" ({len(seen.content)} bytes)"


def on_another_disk(found: os.stat_result) -> os.stat_result:
    """The same look at an entry, but on the next device."""
    in_tuple = {"st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"}
    names = {name for name in dir(found) if name.startswith("st_")} - in_tuple  # 3.13 takes no name twice
    others = {name: getattr(found, name) for name in names}
    return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]), others)
