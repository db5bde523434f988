"""Flags of an inode (`chattr`): those that are kept, and how Linux reads and sets them."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from fcntl import ioctl
from itertools import repeat
from typing import Final

IMMUTABLE: Final = 0x10
APPEND: Final = 0x20

# include/uapi/linux/fs.h. Flags for the file system's own state (extents, encrypted, verity) cannot be set.
NAMES: Final = {
    0x1: "secure deletion",
    0x2: "undeletable",
    0x4: "compressed",
    0x8: "synchronous",
    IMMUTABLE: "immutable",
    APPEND: "append-only",
    0x40: "no dump",
    0x80: "no atime",
    0x400: "not compressed",
    0x4000: "data journalling",
    0x8000: "no tail",
    0x10000: "synchronous directory",
    0x20000: "top of hierarchies",
    0x800000: "no copy on write",
}
KEPT: Final = sum(NAMES)
LOCKS: Final = IMMUTABLE | APPEND  # nothing can be changed after them
LAYOUT: Final = 0x4 | 0x400 | 0x800000  # decide the layout on disk: set before the first byte

_LONG: Final = struct.calcsize("l")
_OTHER_WAY: Final = ("ppc", "mips", "sparc", "alpha")  # asm/ioctl.h there has the directions one bit higher
_READ, _WRITE = (2 << 29, 4 << 29) if os.uname().machine.startswith(_OTHER_WAY) else (2 << 30, 1 << 30)
_GET: Final = _READ | _LONG << 16 | ord("f") << 8 | 1
_SET: Final = _WRITE | _LONG << 16 | ord("f") << 8 | 2
_INT: Final = struct.Struct("i")  # the request speaks of a long, and the kernel of an int
_NONE_HERE: Final = {errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES}


def read_flags(handle: int) -> int | None:
    """All flags of an open file or directory; None where the file system knows none. OSError if it fails."""
    buffer = bytearray(_LONG)
    try:
        ioctl(handle, _GET, buffer)
    except OSError as error:
        if error.errno in _NONE_HERE:
            return None
        raise
    number: int = _INT.unpack_from(buffer)[0]
    return number & 0xFFFFFFFF


def flags_of(handles: Sequence[int]) -> Iterator[int]:
    """All flags of open files, one after the other. OSError if one has none, or it fails."""
    buffers = [bytearray(_LONG) for _ in handles]
    deque(map(ioctl, handles, repeat(_GET), buffers), 0)
    return (number & 0xFFFFFFFF for (number,) in map(_INT.unpack_from, buffers))


def write_flags(handle: int, flags: int) -> None:
    """Set all flags of an open file or directory. OSError where that is refused."""
    buffer = bytearray(_LONG)
    _INT.pack_into(buffer, 0, flags - (1 << 32) if flags >> 31 else flags)
    ioctl(handle, _SET, buffer)
