"""Identifies the file systems that are mounted at given paths.

A file system is identified by the UUID of its disk, the export of its server or the data set of its pool, and
by the folder in it that is mounted. Others (tmpfs, overlays) have no name that stays the same after a reboot,
and cannot be told apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from backup.wording import shown_path

MOUNTS: Final = "/proc/self/mountinfo"
BY_UUID: Final = "/dev/disk/by-uuid"
_EXPORTS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "fuse.sshfs", "fuse.glusterfs"}
)
_NOTHING: Final = "nameless"
_OF_ONE_DISK: Final = {"uuid", "fsid"}  # which of these is known depends on udev
_NAMELESS: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "overlay", "autofs"})
_NUMBER: Final = re.compile("[0-9]+")
_FSID_OF_UUID: Final = frozenset({"ext2", "ext3", "ext4"})  # of others it may follow from the device's number
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


def disks_at(paths: Collection[bytes], *, mounts: str = MOUNTS, by_uuid: str = BY_UUID) -> dict[bytes, str]:
    """The file system at each of these real paths: the kind of its name (such as UUID), and the name.

    Paths of which that is not known are left out. Source: proc(5), mountinfo.
    """
    found: dict[bytes, str] = {}
    if not paths:
        return found
    with suppress(OSError), open(mounts, "rb") as lines:
        for line in lines:
            place, _, rest = line.rstrip(b"\n").partition(b" - ")
            fields, (kind, device, *_) = place.split(b" "), [*rest.split(b" "), b"", b""]
            root, path = map(_unescaped, fields[3:5])
            if path in paths:  # of several mounts at one place the last is seen
                name = _identity(path, os.fsdecode(kind), device, by_uuid)
                found[path] = name and name + ("" if root == b"/" else f" at {shown_path(root)}")
    return {path: name for path, name in found.items() if name}


def before_it(known: str, now: str) -> str | None:
    """The name of the file system that was at a place before another one; None if it may be the same.

    `known` is what was remembered of that place. A name that is missing now counts as well: a file system
    that had a name was not a tmpfs.
    """
    for name in known.split("\n"):
        kinds = {_kind(name), _kind(now)}
        if kinds == {_NOTHING}:
            break
        if _kind(name) not in {_NOTHING, ""} and kinds != _OF_ONE_DISK:
            return name if _comparable(name) != _comparable(now) else None
    return None


def remembered(known: str, now: str) -> str:
    """The text to record: the file system there now, and the one before if it may be the same.

    Names, each on a line, the newest first: a disk that follows a tmpfs is compared with the disk before
    that.
    """
    names = known.split("\n")
    if _kind(now) != _NOTHING and before_it(known, now) is not None:
        names = []
    return "\n".join((now, *(name for name in names if _kind(name) not in {_kind(now), ""})))


REPLACED: Final = (
    "another file system is mounted on it than when this job last ran; what only that one held counts as "
    "removed (older snapshots have it): mount it again if this is a mistake"
)


def replaced_disks(known: Mapping[bytes, str], found: Mapping[bytes, str]) -> list[str]:
    """A sentence for each place at which another file system is mounted than is known."""
    return [
        f"{shown_path(path)}: {REPLACED} ({before}, and now {now})"
        for path, now in sorted(found.items())
        if (before := before_it(known.get(path, ""), now)) is not None
    ]


def _kind(name: str) -> str:
    return name.partition(" ")[0]


def _comparable(name: str) -> tuple[str, str]:
    """A name without numbers in the path of its folder: a hook may mount another snapshot each night."""
    disk, _, folder = name.partition(" at ")
    return disk, _NUMBER.sub("0", folder)


def _unescaped(field: bytes) -> bytes:
    return _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), field)


def _identity(path: bytes, kind: str, device: bytes, by_uuid: str) -> str:
    """The name, on one line of text; empty if there is none."""
    if kind in _EXPORTS:
        return f"export {shown_path(_unescaped(device))}"
    if kind in _NAMELESS:
        return f"{_NOTHING} {kind}"
    if kind == "zfs":
        return f"pool {shown_path(device.partition(b'@')[0])}"  # a hook mounts another snapshot each night
    if device.startswith(b"/dev/"):
        uuid = _uuid_of(device, by_uuid)
        if uuid:
            return f"uuid {uuid}"
    with suppress(OSError):
        if kind in _FSID_OF_UUID and (number := os.statvfs(path).f_fsid):
            return f"fsid {number:x}"
    return ""


def _uuid_of(device: bytes, by_uuid: str) -> str:
    """The name under which udev lists a device by its UUID."""
    with suppress(OSError):
        number = os.stat(device).st_rdev
        for name in sorted(os.listdir(by_uuid)):
            with suppress(OSError):
                if number and os.stat(os.path.join(by_uuid, name)).st_rdev == number:
                    return name
    return ""
