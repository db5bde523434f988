"""What lies in a folder, looked at without any code of ours, and whether two folders are the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

MOST_SHOWN = 10


class Seen(NamedTuple):
    """One entry: everything that a restore must bring back. `content` is bytes, or where a symlink points."""

    kind: int  # S_IFMT of st_mode
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    content: bytes


def snapshot_of(folder: Path | bytes | str) -> dict[bytes, Seen]:
    """Every entry below the folder by its path relative to it; the folder itself is not in it."""
    top = os.fsencode(folder)
    found: dict[bytes, Seen] = {}
    for place, directories, files, handle in os.fwalk(top, onerror=_raise):
        for name in (*directories, *files):
            path = os.path.relpath(os.path.join(place, name), top)
            found[path] = _seen(handle, name)
    return found


def assert_same_tree(
    one: Path | bytes | str | dict[bytes, Seen], other: Path | bytes | str | dict[bytes, Seen]
) -> None:
    """Both hold the same entries: names, kinds, modes, owners, times, targets and every byte."""
    left = one if isinstance(one, dict) else snapshot_of(one)
    right = other if isinstance(other, dict) else snapshot_of(other)
    differing = [path for path in sorted({*left, *right}) if left.get(path) != right.get(path)]
    shown = "\n".join(
        f"{path!r}: {_short(left.get(path))} | {_short(right.get(path))}" for path in differing[:MOST_SHOWN]
    )
    assert not differing, f"{len(differing)} entries differ:\n{shown}"


def _seen(handle: int, name: bytes) -> Seen:
    found = os.lstat(name, dir_fd=handle)
    kind = stat.S_IFMT(found.st_mode)
    content = b""
    if kind == stat.S_IFREG:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=handle)
        with open(opened, "rb") as file:
            content = file.read()
    elif kind == stat.S_IFLNK:
        content = os.readlink(name, dir_fd=handle)
    is_device = kind in {stat.S_IFCHR, stat.S_IFBLK}
    device = found.st_rdev if is_device else 0
    return Seen(
        kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, device, content
    )


def _short(seen: Seen | None) -> str:
    if seen is None:
        return "not there"
    content = seen.content[:20] + (b"..." if len(seen.content) > 20 else b"")
    return str(seen._replace(content=content)) + f" ({len(seen.content)} bytes)"


def _raise(error: OSError) -> None:
    raise error


def on_another_disk(found: os.stat_result) -> os.stat_result:
    """The same look at an entry, but on the next device."""
    in_tuple = {"st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"}
    names = {name for name in dir(found) if name.startswith("st_")} - in_tuple  # 3.13 takes no name twice
    others = {name: getattr(found, name) for name in names}
    return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]), others)
