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

_libfuse: Final = mfusepy._libfuse  # noqa: SLF001  it alone knows which library that is
_libfuse.fuse_get_session.restype = ctypes.c_void_p
_ROOT: Final = 1  # FUSE_ROOT_ID
_WANTS_STATUSES: Final = 1  # FUSE_READDIR_PLUS
_known: Final = threading.local()
_HAS_STATUS: Final = 2  # FUSE_FILL_DIR_PLUS
_MOST_GIVEN: Final = 100_000
"""So many statuses are given before libfuse forgets them: each may cost it 250 bytes."""


class Directory(Protocol):
    """An open directory that is read from a position on."""

    @property
    def stem(self) -> bytes:
        """The beginning of the path of each entry."""
        ...

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
    """A mount until it ends; `status` and `directory` of the operations answer what is asked most.

    `began` of the operations is given the session, for `end`, which any thread may call.
    """

    def __init__(self, operations: Any, directory: str, **options: object) -> None:
        self._directory = os.fsencode(directory)
        self._lock = threading.Lock()
        self._fuse: int | None = None
        self._given = 0
        self._tops: dict[bytes, bool] = {}
        self._many = threading.Event()
        super().__init__(operations, directory, **options)

    def init_fuse_3(self, connection: Any, config: Any) -> None:
        """Begin: from now on it can be used."""
        self._fuse = _libfuse.fuse_get_context().contents.fuse
        super().init_fuse_3(connection, config)
        threading.Thread(target=self._forget_now_and_then, name="forgetting", daemon=True).start()
        self.operations.began(self)

    def end(self) -> None:
        """Let the loop end, as soon as something interrupts it."""
        with self._lock:
            if self._fuse is not None:
                _libfuse.fuse_exit(ctypes.c_void_p(self._fuse))
        self.destroy()

    def destroy(self, _private: Any = None) -> None:
        """Touch nothing of libfuse's any more."""
        with self._lock:
            self._fuse = None
        self._many.set()

    def _note(self, path: bytes) -> None:
        """Remember that libfuse keeps a path: too many are forgotten."""
        top, below, _ = path[1:].partition(b"/")
        self._tops[top] = bool(below) or self._tops.get(top, False)
        self._given += 1
        if self._given == _MOST_GIVEN:
            self._many.set()

    def _forget_now_and_then(self) -> None:
        """Let the kernel forget all that nobody uses, once it knows many: libfuse keeps what the kernel does.

        It forgets what is below an entry of the root together with that. A folder that somebody is in stays,
        and is looked up again by its path from the root, as it could not be named the next time.
        """
        while self._many.wait() and self._fuse is not None:
            self._many.clear()
            tops, self._tops, self._given = self._tops, {}, 0
            for name, is_folder in tops.items():
                self._forget(name)
                if is_folder:
                    with suppress(OSError):
                        os.lstat(self._directory + b"/" + name)

    def _forget(self, name: bytes) -> None:
        with self._lock:
            if self._fuse is not None:
                session = _libfuse.fuse_get_session(ctypes.c_void_p(self._fuse))
                _libfuse.fuse_lowlevel_notify_inval_entry(
                    ctypes.c_void_p(session), ctypes.c_uint64(_ROOT), name, ctypes.c_size_t(len(name))
                )

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
        if path is not None:
            self._note(path)
        _fill(buffer.contents, self.operations.status(path, handle))
        return 0

    def opendir(self, path: bytes, info: Any) -> int:
        """Open a directory."""
        self._note(path + b"/")
        opened: int = super().opendir(path, info)
        return opened

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
                self._note(directory.stem + name)
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
