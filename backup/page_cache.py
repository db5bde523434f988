"""Drops files from the page cache: a backup does not need them there, and other programs need the space."""

from __future__ import annotations

import os
from contextlib import suppress


def forget(file: int, start: int = 0, length: int = 0) -> None:
    """Drop `length` bytes (0: everything from `start`) of an open file from the page cache.

    Linux starts writing dirty pages and keeps those for now (mm/fadvise.c), so a later call drops them, too.
    It is advice: nothing tells whether it was followed.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file, start, length, os.POSIX_FADV_DONTNEED)
