"""Filters that exclude entries of a source: by pattern, tag file, size or file system; each with a reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from backup.errors import ConfigError
from backup.source.patterns import Pattern, Patterns

CACHE_TAG = "CACHEDIR.TAG"
_CACHE_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TAG_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Reason(StrEnum):
    """The reason why an entry is excluded; part of the JSON interface."""

    PATTERN = "pattern"
    TAG = "tag"
    FILE_SYSTEM = "file-system"
    SIZE = "size"
    SOCKET = "socket"
    OWN = "own"


class LeftOut(Struct, frozen=True):
    """An excluded entry, or (TAG, FILE_SYSTEM) a directory whose content is excluded."""

    path: bytes
    reason: Reason
    detail: str


class Tag(Struct, frozen=True):
    """A file whose presence excludes the rest of its directory (as CACHEDIR.TAG does).

    With a `header` it must be a regular file that begins with it; without one, any entry of that name will
    do.
    """

    name: bytes
    header: bytes = b""
    origin: str = "exclude_if_present"

    @classmethod
    def parse(cls, text: str, origin: str = "exclude_if_present") -> Tag:
        """NAME or NAME:HEADER. `ConfigError` for a name that no file can have."""
        name, _, header = text.partition(":")
        if not name or "/" in name or name in {".", ".."}:
            raise ConfigError(f"{origin}: must be the name of a file, or NAME:HEADER")
        return cls(os.fsencode(name), os.fsencode(header), origin)

    def is_in(self, directory: int) -> bool:
        """Whether the open directory, which has an entry of that name, is tagged by it."""
        if not self.header:
            return True
        try:
            tag = os.open(self.name, _TAG_FLAGS, dir_fd=directory)
        except OSError:
            return False
        try:
            return stat.S_ISREG(os.fstat(tag).st_mode) and os.read(tag, len(self.header)) == self.header
        except OSError:
            return False
        finally:
            os.close(tag)


_CACHE = Tag(CACHE_TAG.encode(), _CACHE_SIGNATURE.encode(), "exclude_caches")


class Filters:
    """The filters of a job, or of one of its sources. They cost nothing per entry where nothing is set.

    Later patterns count more than earlier ones; `larger_than` is of regular files, in bytes. `looks` tells
    whether any filter depends on the entry's status.
    """

    def __init__(
        self,
        patterns: Sequence[str | Pattern] = (),
        *,
        exclude_caches: bool = False,
        one_file_system: bool = False,
        tags: Iterable[Tag] = (),
        larger_than: int | None = None,
        own: Collection[tuple[int, int]] = (),
    ) -> None:
        given = [Pattern(pattern) if isinstance(pattern, str) else pattern for pattern in patterns]
        self._patterns = Patterns(given)
        self._any = bool(self._patterns)
        self._tags = (*([_CACHE] if exclude_caches else []), *tags)
        self._larger_than = larger_than
        self._own = frozenset(own)
        self.looks = self._any or larger_than is not None
        self.one_file_system = one_file_system

    def leaving_out(self, directory: bytes, name: bytes, found: os.stat_result) -> LeftOut | None:
        """The reason why this entry of an absolute directory is excluded; None if it stays."""
        mode = found.st_mode
        if self._own and stat.S_ISDIR(mode) and (found.st_dev, found.st_ino) in self._own:
            return LeftOut(_join(directory, name), Reason.OWN, "nightvault itself uses it")
        if not self.looks:
            return None
        if self._any:
            by = self._patterns.leaving_out(directory, name, is_directory=stat.S_ISDIR(mode))
            if by is not None:
                how = " (any case)" if by.ignores_case else ""
                return LeftOut(_join(directory, name), Reason.PATTERN, f"{by.text}{how} in {by.origin}")
        if self._larger_than is not None and stat.S_ISREG(mode) and found.st_size > self._larger_than:
            detail = f"{found.st_size} bytes, more than {self._larger_than}"
            return LeftOut(_join(directory, name), Reason.SIZE, detail)
        return None

    def tag_in(self, handle: int, names: Collection[bytes]) -> Tag | None:
        """The tag of an open directory with these names; of a tagged one only the tag itself is saved."""
        for tag in self._tags:
            if tag.name in names and tag.is_in(handle):
                return tag
        return None

    def tags_at(self, path: bytes) -> list[bytes]:
        """The names of the tags that a directory of this machine has now."""
        if not self._tags:
            return []
        try:
            handle = os.open(path, _DIRECTORY)
        except OSError:
            return []
        try:
            return [tag.name for tag in self._tags if _is_there(tag.name, handle) and tag.is_in(handle)]
        finally:
            os.close(handle)


def _is_there(name: bytes, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _join(directory: bytes, name: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/" + name
