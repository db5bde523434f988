"""The sources of a job as real paths, each with its filters, and whether they hold very many entries.

`are_many` counts names, by handles and never through a symlink.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from backup.files import mount_of
from backup.source.filters import Filters
from backup.wording import printable

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH: Final = 64  # handles that are open at once; what lies deeper is not counted
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


def roots_of(
    sources: Sequence[bytes], filters: Filters, overrides: Mapping[bytes, Filters]
) -> dict[bytes, Filters]:
    """The real paths of sources, each with its filters."""
    return {resolved(source): overrides.get(source, filters) for source in sources}


def resolved(source: bytes) -> bytes:
    """A source with its parent's symlinks resolved: entries then have their real paths.

    `..` leads where the system goes: above the target of a symlink, not above the symlink.
    """
    parent, name = os.path.split(source.rstrip(b"/") or b"/")
    if name in {b"", b".", b".."}:
        return os.path.realpath(source)
    return os.path.join(os.path.realpath(parent), name)


def is_at_or_below(path: bytes, top: bytes) -> bool:
    """Whether an absolute path is that directory, or lies in it."""
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def symlinks_among(sources: Sequence[bytes]) -> Iterator[str]:
    """A sentence for each source that is itself a symlink: what it leads to is not saved."""
    for source in sources:
        try:
            target = os.readlink(resolved(source))
        except OSError:  # no symlink, or nothing at all
            continue
        yield (
            f"source {printable(os.fsdecode(source))} is a symlink to {printable(os.fsdecode(target))}: only "
            "the symlink is saved, and nothing of what it leads to; name that as a source"
        )


def any_is_there(sources: Sequence[bytes]) -> bool:
    """Whether one of the sources exists, or may exist where this process has no permission to look."""
    for source in sources:
        try:
            os.lstat(source)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
        return True
    return False


def other_paths(directory: str) -> Iterator[str]:
    """Other paths of this machine that lead to a directory, as its file system is mounted in several places.

    A bind mount is one of them. Source: proc(5), mountinfo.
    """
    real = os.path.realpath(directory)
    with suppress(OSError):
        handle = os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            number, identity = mount_of(handle).partition(":")[2].strip(), os.fstat(handle)
        finally:
            os.close(handle)
        with open("/proc/self/mountinfo", "rb") as lines:
            mounts = {fields[0]: fields for fields in (line.split(b" ", 5) for line in lines)}
        here = mounts.get(number.encode())
        if here is None:
            return
        inside = _moved(real, _unescaped(here[4]), _unescaped(here[3]))
        for mount in mounts.values():
            path = _moved(inside, _unescaped(mount[3]), _unescaped(mount[4])) if mount[2] == here[2] else ""
            with suppress(OSError):  # another file system may cover it
                if path not in {"", real} and os.path.samestat(os.stat(path), identity):
                    yield path


def _moved(path: str, above: str, other: str) -> str:
    """A path below one directory as it would be below another; empty if it is not below."""
    if path != above and not path.startswith(above.rstrip("/") + "/"):
        return ""
    return os.path.normpath(os.path.join(other, os.path.relpath(path, above)))


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), field))


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
        kinds = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(found, most)]
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
