"""The tree as a FUSE mount: read-only, but for the control file by which cold contents are asked for."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from backup.browser.contents import OpenFile
from backup.browser.node import Node
from backup.model import EntryKind
from backup.served.control import REQUEST, ControlFiles
from backup.served.look import CONTROL, EntryStatus, Look

if TYPE_CHECKING:
    from backup.served.session import MountSession

LASTS: Final = 60.0
"""So many seconds the kernel believes a status; what a prune removed is gone after that at the latest."""
_ABSENT_LASTS: Final = 5.0
_CREDIT: Final = 32
"""So many directories give statuses with their names after somebody has asked for a file's."""
_READ_AHEAD: Final = 1024 * 1024
_LARGEST_CONTROL: Final = 1024 * 1024
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN: Final = 0.05  # seconds until it is asked again whether the session has begun
_BY_ITSELF: Final = 0.3  # seconds in which libfuse 3.17 ends by itself; older ones are interrupted
_IN_VAIN: Final = 3.0  # seconds until the next interruption: one in the midst of unmounting is not for that
_WRITES: Final = os.O_WRONLY | os.O_RDWR


class _OpenDirectory:
    """A directory that is being read; what the reader had no room for is kept."""

    def __init__(
        self,
        stem: bytes,
        entries: Callable[[], Iterator[tuple[bytes, Node]]],
        status: Callable[[bytes, Node], EntryStatus],
        *,
        gives_statuses: bool,
    ) -> None:
        self.stem = stem
        self._entries = entries
        self._reading = entries()
        self._position = 0
        self._next: tuple[bytes, Node] | None = None
        self.status = status
        self.gives_statuses = gives_statuses

    def at(self, position: int) -> Iterator[tuple[bytes, Node]]:
        """The entries from that position on."""
        if position != self._position:
            self._reading = itertools.islice(self._entries(), position, None)
            self._position, self._next = position, None
        while True:
            if self._next is None:
                self._next = next(self._reading, None)
            if self._next is None:
                return
            yield self._next

    def took(self) -> None:
        """Go on to the next one."""
        self._next = None
        self._position += 1


class _ControlFile:
    """A control file that is open: what it said when it was opened, and what is written into it."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.written = b""


class MountOperations:
    """Answers to the kernel; each error is an `OSError`. `mounted` is called once it can be used."""

    use_ns = True

    def __init__(self, look: Look, control: ControlFiles, mounted: Callable[[], None]) -> None:
        self._look = look
        self._control = control
        self._mounted = mounted
        self._session: MountSession | None = None
        self._credit = 0
        self._handles = itertools.count(1)
        self._open: dict[int, Any] = {}

    # Called by `session` with bytes.

    def status(self, path: bytes | None, handle: int) -> EntryStatus:
        """The status of a path, or of an open file that may have no path any more."""
        if path is None:
            path = self._open[handle][0]
        if path == CONTROL or self._control.is_file(path):
            return self._control_status(path)
        node = self._look.node(path)
        if not node.is_directory:
            self._credit = _CREDIT
        return self._look.status(node)

    def directory(self, handle: int) -> _OpenDirectory:
        """An open directory."""
        found: _OpenDirectory = self._open[handle]
        return found

    def xattrs(self, path: bytes) -> Mapping[bytes, bytes]:
        """The extended attributes of a path."""
        return {} if path == CONTROL or self._control.is_file(path) else self._look.xattrs(path)

    def began(self, session: MountSession) -> None:
        """Know the session, which can be used from now on."""
        self._session = session
        self._mounted()

    def end(self) -> bool:
        """End the session; whether it had begun."""
        if self._session is not None:
            self._session.end()
        return self._session is not None

    # Called by mfusepy, which decodes paths as Python does.

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Set up: our inode numbers, times for which answers are true, large reads."""
        config.use_ino = 1
        config.nullpath_ok = 1
        config.attr_timeout = config.entry_timeout = LASTS
        config.negative_timeout = _ABSENT_LASTS
        connection.max_readahead = _READ_AHEAD

    def destroy(self, _path: str) -> NoReturn:
        """Answered by the session."""
        raise NotImplementedError

    def getattr(self, path: str, fh: Any = None) -> NoReturn:
        """Answered by `status`."""
        raise NotImplementedError

    def readdir(self, path: str, fh: int) -> NoReturn:
        """Answered by `directory`."""
        raise NotImplementedError

    def opendir(self, path: str) -> int:
        """Open a directory."""
        place = os.fsencode(path)
        if place == CONTROL:
            return self._keep(self._control_directory())
        node = self._look.node(place)
        if not node.is_directory:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return self._keep(self._directory(place, node))

    def releasedir(self, _path: str | None, fh: int) -> int:
        """Close a directory."""
        self._open.pop(fh, None)
        return 0

    def readlink(self, path: str) -> str:
        """The target of a symlink, as it was saved."""
        return os.fsdecode(self._look.node(os.fsencode(path)).target)

    def open(self, path: str, info: Any) -> int:
        """Open a file, or a control file."""
        place, flags = os.fsencode(path), info.flags
        if self._control.is_file(place):
            if flags & _WRITES and place != REQUEST:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            info.direct_io = 1  # its size is not known before it is read
            said = b"" if flags & os.O_WRONLY else self._control.read(place)
            info.fh = self._keep((place, _ControlFile(said)))
            return 0
        if flags & _WRITES:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        info.fh = self._keep((place, self._look.open(place)))
        return 0

    def read(self, _path: str | None, size: int, offset: int, info: Any) -> bytes:
        """Bytes of an open file."""
        place, file = self._open[info.fh]
        if isinstance(file, OpenFile):
            return self._look.read(place, file, offset, size)
        said: bytes = file.said
        return said[offset : offset + size]

    def write(self, _path: str | None, data: bytes, offset: int, info: Any) -> int:
        """Collect a request."""
        _, file = self._open[info.fh]
        if not isinstance(file, _ControlFile) or offset + len(data) > _LARGEST_CONTROL:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        file.written = file.written[:offset].ljust(offset, b"\0") + data
        return len(data)

    def flush(self, _path: str | None, info: Any) -> int:
        """Take a request that was written; an error is that of `close`."""
        place, file = self._open[info.fh]
        if isinstance(file, _ControlFile) and file.written:
            said, file.written = file.written, b""
            self._control.write(place, said)
        return 0

    def release(self, _path: str | None, info: Any) -> int:
        """Close a file."""
        self._open.pop(info.fh, None)
        return 0

    def truncate(self, path: str | None, _length: int, _fh: Any = None) -> int:
        """Let a shell write over the control file."""
        if path is not None and os.fsencode(path) == REQUEST:
            return 0
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def listxattr(self, path: str) -> NoReturn:
        """Answered by `xattrs`."""
        raise NotImplementedError

    def getxattr(self, path: str, name: str, position: int = 0) -> NoReturn:
        """Answered by `xattrs`."""
        raise NotImplementedError

    def statfs(self, _path: str) -> Mapping[str, int]:
        """A full disk, on which nothing can be written."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}

    def _refuse(self, *_: Any) -> NoReturn:
        """Refuse every change."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    chmod = chown = create = link = mkdir = mknod = removexattr = rename = rmdir = _refuse
    setxattr = symlink = unlink = utimens = _refuse

    def _keep(self, opened: object) -> int:
        handle = next(self._handles)
        self._open[handle] = opened
        return handle

    def _directory(self, path: bytes, node: Node) -> _OpenDirectory:
        """An open directory, whose statuses come with its names where files were asked about of late."""
        stem = path.rstrip(b"/") + b"/"
        self._credit -= self._credit > 0

        def entries() -> Iterator[tuple[bytes, Node]]:
            return itertools.chain([(b".", node), (b"..", node)], self._look.entries(path))

        def status(name: bytes, node: Node) -> EntryStatus:
            self._look.tree.keep(stem + name, node)
            return self._look.status(node)

        return _OpenDirectory(stem, entries, status, gives_statuses=self._credit > 0)

    def _control_directory(self) -> _OpenDirectory:
        here = self._look.node(b"/")
        named = [(b".", here), (b"..", here)]
        named += [(name, here._replace(kind=EntryKind.FILE)) for name in self._control.names]

        def status(name: bytes, _: Node) -> EntryStatus:
            return self._control_status(CONTROL if name in {b".", b".."} else CONTROL + b"/" + name)

        return _OpenDirectory(CONTROL + b"/", lambda: iter(named), status, gives_statuses=False)

    def _control_status(self, path: bytes) -> EntryStatus:
        here = self._look.status(self._look.node(b"/"))
        here = here._replace(uid=os.geteuid(), gid=os.getegid())  # who may ask is who pays, whoever's / is
        if path == CONTROL:
            return here._replace(mode=stat.S_IFDIR | 0o700, inode=here.inode + 1)
        mode = stat.S_IFREG | (0o600 if path == REQUEST else 0o400)
        number = self._control.names.index(os.path.basename(path))
        return here._replace(mode=mode, inode=here.inode + 2 + number, size=0, links=1)


def serve_mount(
    look: Look,
    control: ControlFiles,
    directory: str,
    *,
    mounted: Callable[[], None],
    options: Mapping[str, object],
) -> None:
    """Serve the tree at a directory until it is unmounted, or a signal comes. `OSError` if it cannot be."""
    from backup.served.session import MountSession

    operations = MountOperations(look, control, mounted)
    with _ended_by_signals(operations.end):
        try:
            MountSession(
                operations,
                directory,
                raw_fi=True,
                foreground=True,
                fsname="nightvault",
                subtype="nightvault",
                nodev=True,
                nosuid=True,
                noexec=True,
                auto_unmount=True,  # by a helper that outlives a killed process
                **options,
            )
        except RuntimeError as error:  # libfuse has said why on standard error
            raise OSError(errno.EIO, f"it could not be mounted (libfuse: {error})") from error


@contextmanager
def _ended_by_signals(end: Callable[[], bool]) -> Iterator[None]:
    """Let a thread wait for the signals that end a process, from before the body on, and call `end` then.

    It is called until it says that there was something to end; what the body waits for then is interrupted.
    libfuse itself hears them once it has mounted: one that comes a moment earlier would leave a dead mount.
    """
    ignored = {number for number in _ENDING if signal.getsignal(number) is signal.SIG_IGN}
    signals = {*_ENDING} - ignored | {signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # mfusepy and libfuse would hear ignored ones
    signal.signal(signal.SIGUSR1, lambda *_: None)  # interrupts what the main thread waits for
    is_over, body = threading.Event(), threading.get_ident()

    def wait() -> None:
        signal.sigwait(signals)
        while not end() and not is_over.wait(_AGAIN):
            pass
        pause = _BY_ITSELF
        while not is_over.wait(pause):
            signal.pthread_kill(body, signal.SIGUSR1)
            pause = _IN_VAIN

    waiter = threading.Thread(target=wait, name="signals")
    waiter.start()
    try:
        yield
    finally:
        is_over.set()
        with suppress(ProcessLookupError):
            signal.pthread_kill(waiter.ident or 0, signal.SIGTERM)
        waiter.join()
        while signal.sigtimedwait(signals, 0):
            pass  # who was impatient has what was wanted
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
