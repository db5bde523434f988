"""An entry of the tree, as a status of it is answered: from a row of the inventory, or made up."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from backup.errors import FormatError
from backup.format.catalog import decode_extra
from backup.inventory.questions.browsing import Status
from backup.model import EntryKind, Extra

_LINKED: Final = 1 << 60
_MADE_UP: Final = 1 << 61
_LONGEST_NAME: Final = 255
_MOST_MODE: Final = 0o7777
_KINDS: Final = frozenset(map(int, EntryKind))


class Node(NamedTuple):
    """An entry of the tree. `entry` is the number of its version in the inventory, 0 for what is made up.

    The same version has the same `inode` wherever it is seen, and so have hard links with one content.
    `owner` is a number of the inventory's owners, 0 for whoever looks.
    """

    kind: int
    mode: int
    owner: int
    mtime_ns: int
    size: int
    inode: int
    links: int = 1
    entry: int = 0
    extra: bytes | None = None
    target: bytes = b""  # of a symlink
    device: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether it has entries."""
        return self.kind == EntryKind.DIRECTORY

    @property
    def rare(self) -> Extra:
        """Its rare fields, such as xattrs."""
        return read_extra(self.extra)


def read_extra(packed: bytes | None) -> Extra:
    """Rare fields from a row; empty if they are damaged."""
    if not isinstance(packed, bytes):
        return Extra()
    try:
        return decode_extra(packed) or Extra()
    except FormatError:
        return Extra()


def node_of(row: Status) -> Node | None:
    """The entry of a row; None for one that cannot be true, as of a damaged or forged catalog."""
    if not _can_be(row):
        return None
    if row.extra is None:
        return Node(row.kind, row.mode, row.owner, row.mtime_ns, row.size, row.number + 1, 1, row.number)
    extra = read_extra(row.extra)
    inode, links = row.number + 1, 1
    if extra.link and row.kind != EntryKind.DIRECTORY:
        alike = b"%d %d %d " % (extra.link, row.kind, extra.device) + (row.content_id or extra.target)
        inode, links = _LINKED | _number_of(alike), 2
    is_link = row.kind == EntryKind.SYMLINK
    return Node(
        row.kind,
        row.mode,
        row.owner,
        row.mtime_ns,
        len(extra.target) if is_link else row.size,
        inode,
        links,
        row.number,
        row.extra,
        extra.target if is_link else b"",
        extra.device,
    )


def made_up(path: bytes, mtime_ns: int = 0, *, mode: int = 0o755) -> Node:
    """A directory that no source had."""
    return Node(EntryKind.DIRECTORY, mode, 0, mtime_ns, 0, _MADE_UP | _number_of(path))


def gathered(name: bytes) -> Node:
    """One in which files lie without the directories that closed them: for whoever looks alone."""
    return made_up(name, mode=0o700)


def alias(path: bytes, target: bytes, mtime_ns: int) -> Node:
    """A symlink of the tree's own."""
    return Node(
        EntryKind.SYMLINK,
        0o777,
        0,
        mtime_ns,
        len(target),
        _MADE_UP | _number_of(path),
        target=target,
    )


def _can_be(row: Status) -> bool:
    numbers = row.mode, row.owner, row.mtime_ns, row.size
    is_known = row.kind in _KINDS and all(isinstance(number, int) for number in numbers)
    return is_known and 0 <= row.mode <= _MOST_MODE and row.size >= 0 and can_be_named(row.name)


def can_be_named(name: bytes) -> bool:
    """Whether an entry of a file system can have that name: a forged catalog's might not."""
    return name not in {b"", b".", b".."} and len(name) <= _LONGEST_NAME and not {0, 47} & set(name)


def _number_of(text: bytes) -> int:
    return zlib.crc32(text) << 27 | zlib.adler32(text) & 0x7FFFFFF
