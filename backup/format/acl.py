"""POSIX ACLs as Linux keeps them in xattrs: parsed, renumbered, reduced to a mode; pure.

The layout is the kernel's `posix_acl_xattr.h`: version 2 as u32, then for each line tag (u16), rights (u16)
and the user's or group's number (u32), little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from backup.errors import FormatError

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"

NAMED_USER: Final = 0x02
NAMED_GROUP: Final = 0x08
_GROUP: Final = 0x04
_MASK: Final = 0x10
_HEADER: Final = struct.Struct("<I")
_LINE: Final = struct.Struct("<HHI")
_VERSION: Final = 2


class Line(NamedTuple):
    """One line of an ACL; `id` means something for named users and groups alone."""

    tag: int
    rights: int
    id: int


class IdName(NamedTuple):
    """The name that a number in an ACL had on the machine it was saved on; `tag` is user or group."""

    tag: int
    id: int
    name: str


def parse(value: bytes) -> list[Line]:
    """The lines of an ACL. `FormatError` if these bytes are none."""
    lines, rest = divmod(len(value) - _HEADER.size, _LINE.size)
    if lines < 0 or rest or _HEADER.unpack_from(value)[0] != _VERSION:
        raise FormatError("an ACL is damaged")
    return [Line._make(fields) for fields in _LINE.iter_unpack(value[_HEADER.size :])]


def build(lines: Sequence[Line]) -> bytes:
    """The inverse of `parse`."""
    return _HEADER.pack(_VERSION) + b"".join(_LINE.pack(*line) for line in lines)


def named_ids(value: bytes) -> set[tuple[int, int]]:
    """Tag and number of every user and group that an ACL names; nothing if these bytes are no ACL."""
    try:
        return {(line.tag, line.id) for line in parse(value) if line.tag in {NAMED_USER, NAMED_GROUP}}
    except FormatError:
        return set()


def renumbered(value: bytes, number: Callable[[int, int], int]) -> bytes:
    """The same ACL with `number(tag, id)` for each named user and group. `FormatError` if it is none."""
    lines = [
        line._replace(id=number(line.tag, line.id)) if line.tag in {NAMED_USER, NAMED_GROUP} else line
        for line in parse(value)
    ]
    return build(lines)


def mode_without(value: bytes, mode: int) -> int:
    """A mode that grants no more than mode and ACL together, for use where the ACL cannot be set.

    Beside an ACL, a mode's group bits are its mask: alone, they would lend the owning group all that is
    granted to anybody by name. Of bytes that are no ACL, the group gets nothing.
    """
    try:
        rights = {line.tag: line.rights for line in parse(value)}
    except FormatError:
        return mode & ~0o070
    allowed = rights.get(_GROUP, 0) & rights.get(_MASK, 0o7)
    return mode & ~0o070 | (mode & allowed << 3)
