"""Which entries are left out: gitignore patterns, as if the file that holds them lay in `/`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pathspec import GitIgnoreSpec

from backup.errors import ConfigError

CACHE_TAG = "CACHEDIR.TAG"
_TAG_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/


class Filters:
    """Patterns and rules of a job; asked once an entry."""

    def __init__(
        self, patterns: Sequence[str] = (), *, exclude_caches: bool = False, one_file_system: bool = False
    ) -> None:
        try:
            self._spec = GitIgnoreSpec.from_lines(patterns)
        except ValueError as error:
            raise ConfigError(f"exclude: {error}") from error
        self._any = bool(patterns)
        self._caches = exclude_caches
        self.one_file_system = one_file_system

    def excludes(self, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Whether a pattern leaves this entry out."""
        if not self._any:
            return False
        path = os.fsdecode(directory.rstrip(b"/") + b"/" + name)[1:]
        return self._spec.match_file(path + "/" if is_directory else path)

    def is_cache(self, handle: int) -> bool:
        """Whether the open directory is tagged as a cache and such are left out (all but the tag)."""
        if not self._caches:
            return False
        try:
            tag = os.open(CACHE_TAG, _TAG_FLAGS, dir_fd=handle)
        except OSError:
            return False
        try:
            return os.read(tag, len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
        except OSError:
            return False
        finally:
            os.close(tag)
