"""A rough count of the entries below a job's sources, to tell whether they are very many.

Names are counted, by handles and never through a symlink.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from backup.source.roots import resolved

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH: Final = 64  # handles that are open at once; what lies deeper is not counted


def are_many(sources: Sequence[bytes], most: int) -> bool:
    """Whether there are at least so many entries below the sources, on their own file systems.

    No status is asked but of directories, and it ends where there are as many. What is left out counts, what
    cannot be listed does not.
    """
    left = most
    for source in sources:
        with suppress(OSError):
            handle = os.open(resolved(source), _DIRECTORY)
            try:
                left -= _count(handle, os.fstat(handle).st_dev, left, _DEPTH)
            finally:
                os.close(handle)
        if left <= 0:
            return True
    return False


def _count(handle: int, device: int, most: int, depth: int) -> int:
    """The number of entries below an open directory, or `most`, if they are at least as many."""
    with os.scandir(handle) as found:
        kinds = [(one.name, one.is_dir(follow_symlinks=False)) for one in islice(found, most)]
    seen = len(kinds)
    for name, is_directory in kinds if depth > 1 else ():
        if seen >= most:
            break
        if is_directory:
            with suppress(OSError):
                seen += _count_in(handle, name, device, most - seen, depth - 1)
    return min(seen, most)


def _count_in(above: int, name: str, device: int, most: int, depth: int) -> int:
    """The same of a subdirectory, 0 of another file system's, which is not opened."""
    if os.stat(name, dir_fd=above, follow_symlinks=False).st_dev != device:
        return 0
    handle = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        return _count(handle, device, most, depth)
    finally:
        os.close(handle)
