"""The target directory of a restore: opened component by component, never through a symlink or above it."""

from __future__ import annotations

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from backup.errors import TargetError
from backup.restorer.selection.entry import is_step
from backup.safe_paths import Way

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_OPEN = 128
_OWN = 0o700  # the permissions needed to write into a directory


class Directories(ABC):
    """Protocol: open directories by path, and the rename of a temporary name to a final one in them."""

    def __init__(self, path: str, *, replaces: bool) -> None:
        self.replaces = replaces  # if False, existing entries are kept
        self.path = path

    @abstractmethod
    def handle(self, path: bytes) -> int:
        """Return a handle of a directory, owned by this object, valid until the next call.

        OSError if none.
        """

    @abstractmethod
    def is_ours(self, path: bytes) -> bool:
        """Whether a directory from `handle` is ours: only we and root can change it."""

    def put(self, handle: int, temporary: bytes, name: bytes) -> None:
        """Rename a temporary name in an open directory to `name`; FileExistsError if that is not allowed."""
        if self.replaces:
            os.rename(temporary, step(name), src_dir_fd=handle, dst_dir_fd=handle)
        else:
            _rename_to_free(handle, temporary, step(name))

    def make(self, handle: int, name: bytes, temporary: bytes, make: Callable[[bytes], None]) -> None:
        """Create something under a temporary name in the directory, then rename it."""
        replacing(handle, name, temporary, make, self.put)


class Target(Directories):
    """Handles of directories below one directory, for use from one thread; `close` it.

    A handle stays valid when others change the path to it, and no component of a path is ever resolved
    through a symlink, so nothing that appears in the target meanwhile can lead outside it. `handle` is the
    open target itself, and is copied; without one the path is walked, and missing directories are created.
    """

    def __init__(self, path: str, *, replaces: bool = True, handle: int | None = None) -> None:
        super().__init__(os.path.abspath(path), replaces=replaces)
        if handle is None:
            with way_to(self.path) as way, target_errors(self.path):
                way.make()
                self._root = way.open()
        else:
            self._root = os.dup(handle)
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._seen: dict[bytes, tuple[int, int]] = {}  # device and inode of every directory we were in
        self._ours: set[bytes] = set()
        self._has_failed = False  # a sync

    def handle(self, path: bytes) -> int:
        """Return a handle of the directory `path` (relative, `b""` is the target itself), created if missing.

        OSError if a component is a symlink, no directory, or another one than before. The handle is owned by
        this object and valid until the next call.
        """
        known = path
        while known and known not in self._open:
            known = known.rpartition(b"/")[0]
        if known == path:
            return self._known(path)
        handle = self._known(known)
        for name in (path[len(known) + 1 :] if known else path).split(b"/"):
            known = known + b"/" + name if known else name
            handle = self._open[known] = self._enter(known, handle, step(name))
            self._shrink()
        return handle

    def directory(self, path: bytes, *, replaces: bool = True) -> tuple[int, bool]:
        """Return a writable handle of `path`, and whether the directory existed before.

        Anything else at that path is removed, as a file would be replaced (a symlink itself, not its target);
        OSError instead if `replaces` is false.
        """
        step(path.partition(b"/")[0])
        parent, _, name = path.rpartition(b"/")
        above = self.handle(parent)
        try:
            os.mkdir(step(name), _OWN, dir_fd=above)
        except FileExistsError:
            return self._existing(path, above, name, replaces=replaces and self.replaces), True
        return self.handle(path), False

    def is_ours(self, path: bytes) -> bool:
        """Whether a directory from `handle` is ours: only we and root can change it."""
        return path in self._ours

    def syncing(self, paths: Iterable[bytes]) -> Callable[[], None]:
        """Return a function that syncs the file systems of these directories.

        Call it once, from any thread. It raises `TargetError` if the sync fails, and so does every later one:
        the system reports bytes that it could not write only once.
        """
        with self._told_of_disk(), ExitStack() as undo:
            handles = [_closed_by(undo, os.dup(self.handle(path))) for path in paths]
            closing = undo.pop_all()

        def sync() -> None:
            with closing, self._told_of_disk():
                if self._has_failed:
                    raise OSError(errno.EIO, "an earlier sync failed")
                self._has_failed = True  # reset below only if everything succeeds
                for handle in handles:
                    sync_file_system(handle)
                self._has_failed = False

        return sync

    @contextmanager
    def _told_of_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TargetError(
                f"what was written below {self.path} may not be on the disk: {error.strerror}",
                advice="look for errors of the disk in the system's log, then run the same command again",
            ) from error

    def close(self) -> None:
        """Close every handle."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()
        os.close(self._root)

    def _known(self, path: bytes) -> int:
        if not path:
            return self._root
        self._open.move_to_end(path)
        return self._open[path]

    def _existing(self, path: bytes, above: int, name: bytes, *, replaces: bool) -> int:
        try:
            handle = self.handle(path)
        except PermissionError:
            _open_up(above, name)
            handle = self.handle(path)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP} or not replaces:
                raise
            os.unlink(name, dir_fd=above)
            return self.handle(path)
        found = os.fstat(handle)
        if found.st_uid == os.geteuid() and found.st_mode & _OWN != _OWN:
            os.fchmod(handle, found.st_mode & 0o7777 | _OWN)  # the entry's own mode is set last
        return handle

    def _enter(self, path: bytes, above: int, name: bytes) -> int:
        handle = _enter(above, name)
        found = os.fstat(handle)
        if self._seen.setdefault(path, (found.st_dev, found.st_ino)) == (found.st_dev, found.st_ino):
            (self._ours.add if found.st_uid == os.geteuid() else self._ours.discard)(path)
            return handle
        os.close(handle)
        raise FileNotFoundError(errno.ENOENT, "during the restore another directory took its place")

    def _shrink(self) -> None:
        while len(self._open) > MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])


def way_to(path: str) -> Way:
    """Return the way to a target. `TargetError` if another user's symlink, or no directory, is on it."""
    with target_errors(path):
        return Way(path)


@contextmanager
def target_errors(path: str) -> Iterator[None]:
    """A context manager that turns an `OSError` into the `TargetError` of a target that cannot be used."""
    try:
        yield
    except OSError as error:
        raise TargetError(
            f"the target {path} cannot be used: {error.strerror}",
            advice="give a directory that you may write, or one that does not exist yet",
        ) from error


def _enter(above: int, name: bytes) -> int:
    try:
        return os.open(name, _STEP, dir_fd=above)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another restore made it at this moment
            os.mkdir(name, _OWN, dir_fd=above)
        return os.open(name, _STEP, dir_fd=above)


def sync_file_system(handle: int) -> None:
    """Sync a file system: by Linux's syncfs, which reports failed writes, else by sync, which does not."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is not None:
        if syncfs(handle) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, os.strerror(number))
    os.sync()


def _closed_by(stack: ExitStack, handle: int) -> int:
    stack.callback(os.close, handle)
    return handle


def step(name: bytes) -> bytes:
    """Return the name if `is_step`; `TargetError` for any other."""
    if not is_step(name):
        raise TargetError(f"the snapshot holds a name that leads out of the target: {name!r}")
    return name


def _open_up(handle: int, name: bytes) -> None:
    """Add our own permissions to a directory of ours, by an O_PATH handle, never through a symlink."""
    there = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
    try:
        os.chmod(b"/proc/self/fd/%d" % there, _OWN)
    finally:
        os.close(there)


def replacing(
    handle: int,
    name: bytes,
    temporary: bytes,
    make: Callable[[bytes], None],
    put: Callable[[int, bytes, bytes], None] | None = None,
) -> None:
    """Create something under a temporary name in the directory, then rename it to `name`, or call `put`."""
    try:
        make(temporary)
        if put is not None:
            put(handle, temporary, name)
        else:
            os.rename(temporary, step(name), src_dir_fd=handle, dst_dir_fd=handle)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=handle)
        raise


def _rename_to_free(handle: int, temporary: bytes, name: bytes) -> None:
    """Rename only if the name is free: by a hard link, which never replaces; else after a check."""
    try:
        os.link(temporary, name, src_dir_fd=handle, dst_dir_fd=handle, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=handle, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
    else:
        os.unlink(temporary, dir_fd=handle)
