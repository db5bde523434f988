"""The directory below which a restore writes: opened step by step, never through a symlink or above it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from backup.errors import TargetError

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 128


class Target:
    """Hands out handles of directories below one directory. For one thread; `close` it."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetError(
                f"the target {self.path} cannot be used: {error.strerror}",
                advice="give a directory that you may write, or one that does not exist yet",
            ) from error
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def handle(self, path: bytes) -> int:
        """The directory `path` (relative, `b""` is the target itself), made where it is missing.

        OSError if a step is a symlink or no directory. The handle is ours and may be closed at the next call.
        """
        if not path:
            return self._root
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        parent, _, name = path.rpartition(b"/")
        step(name)
        above = self.handle(parent)
        try:
            found = os.open(name, _STEP, dir_fd=above)
        except FileNotFoundError:
            os.mkdir(name, 0o700, dir_fd=above)
            found = os.open(name, _STEP, dir_fd=above)
        self._open[path] = found
        self._shrink(path)
        return found

    def close(self) -> None:
        """Close every handle."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()
        os.close(self._root)

    def _shrink(self, keep: bytes) -> None:
        while len(self._open) > _MOST_OPEN:
            path, handle = next(iter(self._open.items()))
            if path == keep:
                return
            del self._open[path]
            os.close(handle)


def step(name: bytes) -> bytes:
    """A name that can only mean an entry of the directory it is used in; `TargetError` for any other."""
    if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
        raise TargetError(f"the snapshot holds a name that leads out of the target: {name!r}")
    return name


def replacing(handle: int, name: bytes, make: Callable[[bytes], None]) -> None:
    """Make something under a temporary name in the directory, then rename it over `name`."""
    temporary = temporary_name()
    make(temporary)
    try:
        os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
    except OSError:
        os.unlink(temporary, dir_fd=handle)
        raise


def temporary_name() -> bytes:
    """A name that nothing else has."""
    return b".nightvault-" + os.urandom(8).hex().encode()
