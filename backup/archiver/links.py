"""Hard links: all names of an inode get one number that is stable between runs; content is read once a run.

The number is made from the inode's and from the path where the walk first enters its file system, so it does
not change when a restart gives disks other device numbers. Every name of an inode is compared in every run,
so those of one snapshot always agree.
"""

from __future__ import annotations

import os
import stat
from functools import partial
from hashlib import blake2b
from typing import Final

from msgspec import Struct, field

from backup.archiver.contents import Content
from backup.archiver.read_ahead import Failed, ReadAhead, Then
from backup.format.catalog import decode_extra
from backup.inventory.content.entries import LiveEntry
from backup.source.read import same_version
from backup.source.scanned import ScannedDirectory, ScannedEntry

MOST_KNOWN: Final = 100_000  # contents kept for names still to come; one that falls out is read again


class _Inode(Struct):
    """A file that was read, or is queued, and has names that the walk has not met yet."""

    found: os.stat_result
    left: int
    content: Content | None = None
    waiting: list[Then] = field(default_factory=list)


class Links:
    """The hard links of one run, on one thread."""

    def __init__(self) -> None:
        self._systems: dict[int, bytes] = {}
        self._inodes: dict[tuple[int, int], _Inode] = {}

    def enter(self, directory: ScannedDirectory) -> None:
        """Record the directory that the walk has entered."""
        self._systems.setdefault(directory.device, directory.path)

    def number(self, found: os.stat_result) -> int:
        """Return the number shared by all names of an inode; 0 if it has only one, or is a directory."""
        if found.st_nlink < 2 or stat.S_ISDIR(found.st_mode):
            return 0
        # A file's device may differ from its directory's (overlayfs): devices count by order of appearance.
        system = self._systems.setdefault(found.st_dev, b"\0%d" % len(self._systems))
        named = blake2b(b"%b\0%d" % (system, found.st_ino), digest_size=8)
        return int.from_bytes(named.digest(), "little") >> 1 or 1

    def are_known(self, live: LiveEntry, found: os.stat_result) -> bool:
        """Whether the inventory's entry has the same link number as the inode now."""
        if live.extra is None:
            return found.st_nlink < 2 or not self.number(found)
        number = self.number(found)
        extra = decode_extra(live.extra)
        return number == (extra.link if extra else 0)

    def read(
        self, ahead: ReadAhead, directory: ScannedDirectory, scanned: ScannedEntry, then: Then, failed: Failed
    ) -> None:
        """Read a file that has several names only once, unless its status has changed since."""
        found = scanned.stat
        identity = found.st_dev, found.st_ino
        known = self._inodes.get(identity)
        if known is not None and same_version(known.found, found):
            known.left -= 1
            if known.left <= 0:
                del self._inodes[identity]
            if known.content is None:
                known.waiting.append(then)
            else:
                then(known.content)
            return
        inode = _Inode(found, found.st_nlink - 1)
        opened = ahead.read_now(directory.handle, scanned.name, partial(_arrived, inode, then), failed)
        if opened is not None and (opened.st_dev, opened.st_ino) == identity:
            inode.found = opened
            self._remember(identity, inode)

    def _remember(self, identity: tuple[int, int], inode: _Inode) -> None:
        self._inodes[identity] = inode
        if len(self._inodes) > MOST_KNOWN:
            del self._inodes[next(iter(self._inodes))]


def _arrived(inode: _Inode, then: Then, content: Content) -> None:
    inode.content = content
    then(content)
    waiting, inode.waiting = inode.waiting, []
    for other in waiting:
        other(content)
