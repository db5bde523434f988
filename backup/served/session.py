"""A session of libfuse 3, by mfusepy: paths as bytes, and directories with the statuses of their entries.

Where libfuse is missing this module cannot be imported (`OSError`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

from backup.browser.node import Node
from backup.served.look import TYPES, EntryStatus

_LIBRARIES: Final = ("libfuse3.so.4", "libfuse3.so.3")
_VARIABLES: Final = ("FUSE_LIBRARY_PATH", "FUSE_LIBRARY_NAME")


def _choose_library() -> None:
    """Name libfuse 3 to mfusepy, which takes libfuse 2 where both are there, and asks a compiler."""
    if any(variable in os.environ for variable in _VARIABLES):
        return
    for name in _LIBRARIES:
        with suppress(OSError):
            ctypes.CDLL(name)
            os.environ["FUSE_LIBRARY_PATH"] = name
            return
    raise OSError("libfuse 3 is not installed")


_choose_library()

import mfusepy  # noqa: E402  it loads the library when it is imported

_WANTS_STATUSES: Final = 1  # FUSE_READDIR_PLUS
_known: Final = threading.local()
_HAS_STATUS: Final = 2  # FUSE_FILL_DIR_PLUS


class Directory(Protocol):
    """An open directory that is read from a position on."""

    @property
    def gives_statuses(self) -> bool:
        """Whether statuses are likely to be asked for."""
        ...

    def at(self, position: int) -> Iterator[tuple[bytes, Node]]:
        """The entries from that position on; what a caller has no room for comes again."""
        ...

    def status(self, name: bytes, node: Node) -> EntryStatus:
        """The status of an entry."""
        ...

    def took(self) -> None:
        """The caller had room for the last one."""
        ...


class MountSession(mfusepy.FUSE):  # type: ignore[misc]
    """A mount until it ends; `status` and `directory` of the operations answer what is asked most."""

    def _wrapper(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Answer what is asked, on one of libfuse's threads.

        Python makes a state for each call from a thread that it does not know, which takes longer than most
        answers. A thread that has called once keeps it: libfuse keeps its threads, too.
        """
        if not hasattr(_known, "state"):
            _known.state = ctypes.pythonapi.PyGILState_Ensure()
        return super()._wrapper(function, *given, **named)

    def getattr_fuse_3(self, path: bytes | None, buffer: Any, info: Any) -> int:
        """Fill in a status."""
        ctypes.memset(buffer, 0, ctypes.sizeof(mfusepy.c_stat))
        handle = info.contents.fh if info else 0
        _fill(buffer.contents, self.operations.status(path, handle))
        return 0

    def readdir_fuse_3(
        self, _path: bytes | None, buffer: Any, filler: Callable[..., int], offset: int, info: Any, flags: int
    ) -> int:
        """Fill in as many entries as there is room for, with their statuses if these are wanted."""
        directory: Directory = self.operations.directory(info.contents.fh)
        given = mfusepy.c_stat()
        # The kernel asks for the first statuses of every directory, whoever reads it, and each costs it and
        # libfuse memory. Those after the first are asked for where it has seen that they are used.
        wants = flags & _WANTS_STATUSES and (offset > 0 or directory.gives_statuses)
        has_status = _HAS_STATUS if wants else 0
        for position, (name, node) in enumerate(directory.at(offset), offset + 1):
            if wants:
                _fill(given, directory.status(name, node))
            else:
                given.st_mode, given.st_ino = TYPES[node.kind], node.inode
            if filler(buffer, name, given, position, has_status):
                break
            directory.took()
        return 0

    def listxattr(self, path: bytes, buffer: Any, size: int) -> int:
        """The names of extended attributes: their length alone if there is no room for any."""
        names = b"".join(name + b"\0" for name in self.operations.xattrs(path))
        return _give(names, buffer, size)

    def getxattr(self, path: bytes, name: bytes, buffer: Any, size: int, *_: Any) -> int:
        """The value of an extended attribute, or its length."""
        value = self.operations.xattrs(path).get(name)
        return -errno.ENODATA if value is None else _give(value, buffer, size)


def _give(value: bytes, buffer: Any, size: int) -> int:
    if size and len(value) > size:
        return -errno.ERANGE
    if size:
        ctypes.memmove(buffer, value, len(value))
    return len(value)


def _fill(given: Any, status: EntryStatus) -> None:
    given.st_mode = status.mode
    given.st_ino = status.inode
    given.st_nlink = status.links
    given.st_uid = status.uid
    given.st_gid = status.gid
    given.st_rdev = status.device
    given.st_size = status.size
    given.st_blocks = status.blocks
    seconds, rest = divmod(status.mtime_ns, 1_000_000_000)
    for time in (given.st_atimespec, given.st_mtimespec, given.st_ctimespec):
        time.tv_sec = seconds
        time.tv_nsec = rest
