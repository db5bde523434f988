"""Answers of both ways in: statuses, attributes, open files, and errors that tools print well.

Cold contents are refused at once, with ENODATA ("No data available"). EIO would say that a disk is broken,
EAGAIN and ESTALE make programs try again, and EACCES would blame rights.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from backup.browser.contents import FileContents, OpenFile
from backup.browser.node import Node
from backup.browser.packs import ColdContentError
from backup.browser.tree import Tree
from backup.errors import FormatError, NightvaultError
from backup.format import acl
from backup.format.holes import Layout
from backup.model import EntryKind, Extra, Owner

COLD: Final = errno.ENODATA
CONTROL: Final = b"/.nightvault"
"""A directory that no list shows: what was refused, and what it would cost."""
_MOST_REFUSED: Final = 100
_BLOCK: Final = 512
TYPES: Final[dict[int, int]] = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
}
_ACLS: Final = {acl.ACCESS, acl.DEFAULT}


class OwnerIds(NamedTuple):
    """Saved owners as they are shown: by numbers of this machine."""

    ids: Callable[[Owner], tuple[int, int]]
    acl: Callable[[bytes, Extra], bytes]


class EntryStatus(NamedTuple):
    """The status of an entry, as `stat` gives it."""

    mode: int
    inode: int
    links: int
    uid: int
    gid: int
    device: int
    size: int
    blocks: int
    mtime_ns: int


class Look:
    """One tree as programs see it. For any thread; raises `OSError` alone.

    With `is_shared`, others' access is decided by the mode: it gives no group more than an ACL does.
    """

    def __init__(
        self, tree: Tree, contents: FileContents, owners: OwnerIds, *, is_shared: bool = False
    ) -> None:
        self.tree = tree
        self._contents = contents
        self._owners = owners
        self._is_shared = is_shared
        self._mine = os.geteuid(), os.getegid()
        self._ids: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._refused: deque[bytes] = deque(maxlen=_MOST_REFUSED)

    def node(self, path: bytes) -> Node:
        """The entry at a path. `ENOENT`; `EIO` if the inventory cannot be read."""
        try:
            found = self.tree.node(path)
        except NightvaultError as error:
            raise OSError(errno.EIO, str(error)) from error
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def entries(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        """The entries of a directory. `ENOENT`, `ENOTDIR`, `EIO`."""
        node = self.node(path)
        if not node.is_directory:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            yield from self.tree.entries(path) or ()
        except NightvaultError as error:
            raise OSError(errno.EIO, str(error)) from error

    def status(self, node: Node) -> EntryStatus:
        """The status of an entry."""
        uid, gid = self._ids.get(node.owner) or self._ids_of(node)
        mode, size = node.mode, node.size
        if node.extra is not None:
            extra = node.rare
            size = _stored(node, extra)
            if self._is_shared:
                mode = _without_mask(mode, extra)
        return EntryStatus(
            mode | TYPES[node.kind],
            node.inode,
            node.links,
            uid,
            gid,
            node.device,
            node.size,
            -(-size // _BLOCK),
            node.mtime_ns,
        )

    def _ids_of(self, node: Node) -> tuple[int, int]:
        owner = self.tree.owner(node)
        found = self._mine if owner is None else self._owners.ids(owner)
        self._ids[node.owner] = found
        return found

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """The extended attributes of an entry, ACLs with this machine's ids."""
        node = self.node(path)
        if node.extra is None:
            return {}
        extra = node.rare
        return {name: self._attribute(name, value, extra) for name, value in extra.xattrs}

    def _attribute(self, name: bytes, value: bytes, extra: Extra) -> bytes:
        if name not in _ACLS:
            return value
        try:
            return self._owners.acl(value, extra)
        except FormatError:
            return value

    def open(self, path: bytes) -> OpenFile:
        """The contents of a file. `ENODATA` if they are cold; `EISDIR`, `EINVAL`, `EIO`."""
        node = self.node(path)
        if node.kind != EntryKind.FILE:
            number = errno.EISDIR if node.is_directory else errno.EINVAL
            raise OSError(number, os.strerror(number))
        try:
            return self._contents.open(node.entry)
        except (ColdContentError, NightvaultError, FormatError) as error:
            raise self.failed(path, error) from error

    def read(self, path: bytes, file: OpenFile, offset: int, length: int) -> bytes:
        """Bytes of an open file. `ENODATA` if they have become cold; `EIO` if they cannot be had intact."""
        try:
            return file.read(offset, length)
        except (ColdContentError, NightvaultError) as error:
            raise self.failed(path, error) from error

    def failed(self, path: bytes, error: Exception) -> OSError:
        """The error that a program gets for contents that cannot be read."""
        if isinstance(error, ColdContentError):
            with self._lock:
                if path not in self._refused:
                    self._refused.append(path)
            return OSError(COLD, os.strerror(COLD))
        return OSError(errno.EIO, str(error))

    @property
    def refused(self) -> list[bytes]:
        """The last paths whose contents were refused because they are cold."""
        with self._lock:
            return list(self._refused)


def _stored(node: Node, extra: Extra) -> int:
    """The bytes that a file takes: without its holes."""
    if node.kind != EntryKind.FILE or not extra.holes:
        return node.size if node.kind == EntryKind.FILE else 0
    try:
        return Layout(extra.holes, node.size).data_size
    except FormatError:
        return node.size


def _without_mask(mode: int, extra: Extra) -> int:
    """The mode whose group bits are the owning group's own rights: in one with an ACL they are its mask."""
    for name, value in extra.xattrs:
        if name == acl.ACCESS:
            return acl.mode_without(value, mode)
    return mode
