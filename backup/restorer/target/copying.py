"""Copies one file's bytes into another, holes as holes."""

from __future__ import annotations

import errno
import os

from backup.model import MIB

_NO_HOLES = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY}


def copy_data(source: int, copy: int, size: int) -> None:
    """Copy `size` bytes of an open file into an empty one. OSError if either fails or is too short."""
    offset = 0
    while offset < size:
        start, end = _data(source, offset, size)
        while start < end:
            block = os.pread(source, min(MIB, end - start), start)
            if not block:
                raise OSError(errno.EIO, "it became shorter while it was copied")
            start += os.pwrite(copy, block, start)
        offset = end
    os.ftruncate(copy, size)


def _data(source: int, offset: int, size: int) -> tuple[int, int]:
    """Start and end of the next stretch of data (not hole) from `offset` on."""
    try:
        start = os.lseek(source, offset, os.SEEK_DATA)
        return start, min(size, os.lseek(source, start, os.SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size, size
        if error.errno in _NO_HOLES:
            return offset, size
        raise
