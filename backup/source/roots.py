"""The sources of a job as real paths, each with its filters, and whether they hold very many entries.

`are_many` counts names, by handles and never through a symlink.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from msgspec import Struct, field

from backup.files import mount_of
from backup.source.filters import Filters
from backup.wording import printable

_EXACT: Final = ("st_mtime_ns", "st_ctime_ns", "st_blocks", "st_rdev")  # of a status, beside its first ten
VOLUMES: Final = b"/.volumes/"
"""Below it are volumes of containers, each by its name, wherever the engine has it."""
VOLUME_GONE: Final = (
    "there is no such volume, its driver mounts it only for containers, or nothing names it now: what it "
    "held is kept; if it is gone for good, exclude it"
)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH: Final = 64  # handles that are open at once; what lies deeper is not counted
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


def roots_of(
    sources: Sequence[bytes], filters: Filters, overrides: Mapping[bytes, Filters]
) -> dict[bytes, Filters]:
    """The real paths of sources, each with its filters."""
    return {resolved(source): overrides.get(source, filters) for source in sources}


class SourceNode(Struct):
    """A directory in the tree of sources: within one, with its filters, or only leading to its `children`."""

    filters: Filters | None = None
    children: dict[bytes, SourceNode] = field(default_factory=dict)
    place: bytes = b""  # the directory that is read under this name, which the disk does not have

    @property
    def is_source(self) -> bool:
        return self.filters is not None

    def below(self) -> SourceNode:
        """The node of a subdirectory that leads to no other source."""
        return SourceNode(self.filters) if self.children or self.place else self

    def places_of(self, names: Iterable[bytes]) -> Mapping[bytes, bytes]:
        """The directories that are read under some of these names."""
        if not self.children:
            return {}
        return {name: node.place for name in names if (node := self.children.get(name)) and node.place}

    def status(self, name: bytes, handle: int) -> os.stat_result:
        """The status of an entry of the open directory; of one that lies elsewhere as if it was no mount."""
        if (node := self.children.get(name)) is None or not node.place:
            return os.stat(name, dir_fd=handle, follow_symlinks=False)
        found, device = os.stat(node.place, follow_symlinks=False), os.fstat(handle).st_dev
        return os.stat_result((*found[:2], device, *found[3:]), {key: getattr(found, key) for key in _EXACT})


def planted(roots: Mapping[bytes, Filters], places: Mapping[bytes, bytes]) -> SourceNode:
    """The tree of sources from `/` on; `places`: where those are whose paths are names only."""
    top = SourceNode()
    for path, filters in roots.items():
        node, place = top, places.get(path, b"")
        for part in filter(None, path.split(b"/")):
            node = node.children.setdefault(part, SourceNode(place=place and b"/"))
        node.filters, node.place = filters, place
    return top


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
