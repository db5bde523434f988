"""A trail: an open directory and those above it up to a top, for trees of any depth.

    with Trail(top) as trail:
        trail.go(b"a/b")         down and up by steps, from where it is; never through a symlink
        trail.handle             the directory that it is in, open

Few handles are open at a time: those further up are closed, and opened again by `..` on the way back, if that
leads to the same directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from backup.files import mount_of
from backup.vault.marker import MARKER

Mount = tuple[int, str]  # a device, and a mount of it

MOST_OPEN: Final = 64
_MARKER: Final = MARKER.encode()
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _TrailDirectory(Struct):
    """A directory on the trail; `handle` is None while it is closed."""

    name: bytes
    handle: int | None
    identity: tuple[int, int]
    mount: Mount
    is_vault: bool


class Trail:
    """The way from an open directory (`top` is copied) to one below it; a context that closes its handles."""

    def __init__(self, top: int) -> None:
        self._steps = [_step(b"", os.dup(top))]

    @property
    def handle(self) -> int:
        """The handle of the present directory."""
        handle = self._steps[-1].handle
        assert handle is not None  # noqa: S101 (the last one is always open)
        return handle

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the present directory."""
        return self._steps[-1].identity

    @property
    def mount(self) -> Mount:
        """Device and mount of the present directory."""
        return self._steps[-1].mount

    @property
    def is_vault(self) -> bool:
        """Whether the present directory held a vault's marker when it was entered."""
        return self._steps[-1].is_vault

    def has_vault(self) -> bool:
        """Whether the present directory holds a vault's marker now, or one above it did."""
        return _holds_marker(self.handle) or any(step.is_vault for step in self._steps)

    def mount_points(self) -> Iterator[bytes]:
        """Return the paths, from the top, of directories that are other mounts than those above them."""
        for depth in range(1, len(self._steps)):
            if self._steps[depth].mount != self._steps[depth - 1].mount:
                yield b"/".join(step.name for step in self._steps[1 : depth + 1])

    def go(self, path: bytes) -> None:
        """Go to a directory, by its path from the top. `OSError` if it cannot be reached."""
        names = path.split(b"/") if path else []
        same = 0
        for step, name in zip(self._steps[1:], names, strict=False):
            if step.name != name:
                break
            same += 1
        while len(self._steps) > same + 1 and self.up():
            pass
        for name in names[len(self._steps) - 1 :]:
            self.down(name)

    def down(self, name: bytes) -> None:
        """Go into a subdirectory. `OSError` if it is not a directory, or cannot be read."""
        self._steps.append(_step(name, os.open(name, _STEP, dir_fd=self.handle)))
        if len(self._steps) > MOST_OPEN + 1:  # the top stays open
            far = self._steps[-MOST_OPEN - 1]
            if far.handle is not None:
                os.close(far.handle)
                far.handle = None

    def up(self) -> bool:
        """Go to the parent directory. False, and to the top, if the way back no longer leads there."""
        done, above = self._steps.pop(), self._steps[-1]
        if above.handle is None:
            above.handle = _reopened(done.handle, above.identity)
        _close(done)
        if above.handle is not None:
            return True
        while len(self._steps) > 1:
            _close(self._steps.pop())
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for step in self._steps:
            _close(step)


def mount_at(handle: int) -> Mount:
    """Return device and mount of an open directory; only the device if the mount cannot be determined."""
    return os.fstat(handle).st_dev, mount_of(handle)


def _step(name: bytes, handle: int) -> _TrailDirectory:
    try:
        found = os.fstat(handle)
        return _TrailDirectory(
            name, handle, (found.st_dev, found.st_ino), mount_at(handle), _holds_marker(handle)
        )
    except BaseException:
        os.close(handle)
        raise


def _reopened(below: int | None, identity: tuple[int, int]) -> int | None:
    """The directory above an open one, if it is the one that is meant."""
    if below is None:
        return None
    try:
        handle = os.open(b"..", _STEP, dir_fd=below)
    except OSError:
        return None
    found = os.fstat(handle)
    if (found.st_dev, found.st_ino) == identity:
        return handle
    os.close(handle)
    return None


def _holds_marker(handle: int) -> bool:
    try:
        return bool(os.stat(_MARKER, dir_fd=handle, follow_symlinks=False))
    except OSError:
        return False


def _close(step: _TrailDirectory) -> None:
    if step.handle is not None:
        os.close(step.handle)
