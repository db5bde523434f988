"""What of a file is in the system's cache: a backup has no need of it there, and other programs have."""

from __future__ import annotations

import os
from contextlib import suppress


def forget(file: int, start: int = 0, length: int = 0) -> None:
    """Let `length` bytes (0: all from `start`) of an open file leave the cache.

    Linux begins to write what is not on the disk yet and keeps that for now (mm/fadvise.c), so that who asks
    again later also has the bytes of today out. It is advice: nothing tells whether it was followed.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file, start, length, os.POSIX_FADV_DONTNEED)
