"""Files that outlive a power cut, and locks that die with their process.

`write_durably` replaces a file: the bytes go to a file beside it, which is synced and renamed; then the
directory is synced. So a cut leaves the old file or the new one, whole. `create_durably` is for secrets and
marks that are never written over, and lie under no second name even for a moment: it creates the file in its
place, exclusively. `Draft` does what `write_durably` does for bytes that come little by little, and for
several files that change together.

A device or a pipe (/dev/null, /dev/stdout) is never replaced, and is written to only if the caller hands in
an open one (`special`, from `safe_paths.open_special`): in a place where others write it may be theirs, and
what is written may be a key. A name in a `dir_fd` is one of ours in a directory that others may write:
nothing that exists there is followed or written to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from backup.errors import LockedError, SpoolError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_THE_SYSTEM = {"/dev", "/dev/fd", "/dev/pts", "/proc/self/fd"}
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}  # of directories, on some file systems
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def write_durably(
    path: str | bytes,
    data: bytes,
    *,
    mode: int = 0o600,
    dir_fd: int | None = None,
    beside: str | None = None,
    special: int | None = None,
) -> None:
    """Put `data` in place of what `path` holds, durably; the arguments are those of `Draft`."""
    with _telling_of(path), Draft(path, mode=mode, dir_fd=dir_fd, beside=beside, special=special) as draft:
        draft.write(data)
        draft.place()


def create_durably(path: str | bytes, data: bytes, *, mode: int = 0o600, dir_fd: int | None = None) -> None:
    """Make a new file durably. `FileExistsError` if there is one; after another error, there is none."""
    with _telling_of(path):
        handle = os.open(path, _NEW, mode, dir_fd=dir_fd)
        try:
            _keep_mode(handle, mode)
            _write(handle, data)
            os.fsync(handle)
            sync_directory(_directory_of(path, dir_fd))
        except BaseException:
            with suppress(OSError):  # it may be the half of a key
                os.pwrite(handle, bytes(os.fstat(handle).st_size), 0)
                os.fsync(handle)
            with suppress(OSError):
                os.unlink(path, dir_fd=dir_fd)
            raise
        finally:
            os.close(handle)


class Draft:
    """A file that is written beside its final path, and renamed once all of it is on the disk.

    A context manager: a draft that was not placed by its end is removed. `mode` is meant, whatever the umask
    takes away. Writers at the same time do not hinder each other; where there is but one, `beside` names the
    file that a cut may leave, so that the next writer can reuse it or a clean-up can find it. `special` is
    the open device or pipe that the path leads to, to be written to and closed; without it, one that is there
    is refused (`OSError`).
    """

    def __init__(
        self,
        path: str | bytes,
        *,
        mode: int = 0o600,
        dir_fd: int | None = None,
        beside: str | None = None,
        special: int | None = None,
    ) -> None:
        self._path, self._dir_fd = os.fsdecode(path), dir_fd
        self._temporary: str | None = None
        if special is not None:
            self.file = open(special, "wb")  # noqa: SIM115 (we are a context)
            return
        if dir_fd is None and is_special(path):
            raise OSError(errno.EEXIST, "a pipe or a device is there, which is not replaced", self._path)
        temporary = beside or f"{self._path}.{os.urandom(4).hex()}"
        if beside:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=dir_fd)
        with _telling_of(path):
            self.file = open(os.open(temporary, _NEW, mode, dir_fd=dir_fd), "wb")  # noqa: SIM115
            self._temporary = temporary
            try:
                _keep_mode(self.file.fileno(), mode)
            except OSError as error:
                self.__exit__(OSError, error, None)
                raise

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes after those before; in small pieces, `file` is faster."""
        with _telling_of(self._path):
            self.file.flush()
            _write(self.file.fileno(), data)

    def sync(self) -> None:
        """Bring all that was written to the disk; nothing may be written any more."""
        if self.file.closed:
            return
        with _telling_of(self._path):
            self.file.flush()
            if self._temporary is not None:
                os.fsync(self.file.fileno())
        self.file.close()

    def place(self, *, replace: bool = True) -> None:
        """Sync it and give it its name, durably; without `replace`, `FileExistsError` if that is taken."""
        self.sync()
        if self._temporary is None:
            return
        with _telling_of(self._path):
            if replace:
                self._rename(self._temporary)
            else:
                self._take_name(self._temporary)
            self._temporary = None
            sync_directory(_directory_of(self._path, self._dir_fd))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.file.close()
        except OSError:  # what could not be written is not wanted any more
            if error is None:
                raise
        finally:
            if self._temporary is not None:
                with suppress(OSError):
                    os.unlink(self._temporary, dir_fd=self._dir_fd)

    def _rename(self, temporary: str) -> None:
        os.rename(temporary, self._path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)

    def _take_name(self, temporary: str) -> None:
        """Give the file a name that is free: unlike a rename, a link fails if the name is taken meanwhile."""
        at = self._dir_fd
        try:
            os.link(temporary, self._path, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.close(os.open(self._path, _NEW, 0o600, dir_fd=at))  # the name is ours, if it is nobody's
            try:
                self._rename(temporary)
            except OSError:
                os.unlink(self._path, dir_fd=at)
                raise
        else:
            os.unlink(temporary, dir_fd=at)


def open_small(path: str | bytes, flags: int = os.O_RDONLY) -> int:
    """Open a file that a user named, for reading: an `opener` for `open`.

    `OSError` for a pipe, which would be waited for, or a device, which may have no end. What is in /dev
    itself was named on purpose (/dev/stdin, or a shell's pipe in /dev/fd): the caller limits what is read.
    """
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or is_of_system(path):  # `open` takes no directory
        os.set_blocking(handle, True)
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "it is no regular file", path)


def read_small(path: str | bytes, most: int) -> bytes:
    """The bytes of a file that a user named; `OSError` as `open_small`, or if it has more than `most`."""
    with open(path, "rb", opener=open_small) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", path)
    return data


def is_special(path: str | bytes) -> bool:
    """Whether a path leads to a device, a pipe or a socket: to what is written to, but not replaced.

    So does all that is in /dev itself: /dev/stdout may lead to a file, and must not be replaced by one.
    """
    if is_of_system(path):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_of_system(path: str | bytes) -> bool:
    """Whether a path is directly in /dev, or in /dev/fd, where only the system creates names."""
    return os.path.dirname(os.path.abspath(os.fsdecode(path))) in _OF_THE_SYSTEM


def mount_of(handle: int) -> str:
    """The id of the mount through which an open file or directory was opened; "" if it is not known.

    One file system may be mounted in two places: its device is the same, but no link leads from one to the
    other. Source: proc(5), fdinfo.
    """
    with suppress(OSError), open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as lines:
        return next((line for line in lines if line.startswith("mnt_id:")), "")
    return ""


def are_linkable(one: str, other: str) -> bool:
    """Whether files of one directory can be hard-linked into the other, by device and mount."""
    here, there = _place_of(one), _place_of(other)
    return here is not None and here == there


def _place_of(directory: str) -> tuple[int, str] | None:
    """Device and mount of a directory, None if they cannot be told."""
    with suppress(OSError):
        handle = os.open(directory, _DIRECTORY)
        try:
            device, mount = os.fstat(handle).st_dev, mount_of(handle)
        finally:
            os.close(handle)
        return (device, mount) if mount else None
    return None


def sync_directory(directory: str | bytes | int) -> None:
    """Make the names in a directory outlive a power cut.

    No error where that cannot be had: on a file system that does not sync directories, and of a path whose
    directory may be written but not read. PostgreSQL does the same (`fsync_fname_ext`).
    """
    if not isinstance(directory, int):
        try:
            handle = os.open(directory, _DIRECTORY)
        except PermissionError:
            return
        try:
            sync_directory(handle)
        finally:
            os.close(handle)
        return
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


class FileLock:
    """A lock that this process holds until `close` or its end; a context manager. `handle` None: no lock."""

    def __init__(self, handle: int | None, path: str = "") -> None:
        self._handle = handle
        self._path = path

    def counts(self) -> bool:
        """Whether the path still leads to the locked file: else `renew_lock_file` has taken the lock away."""
        return self._handle is not None and _has_name(self._handle, self._path)

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def file_lock(path: str, *, shared: bool = False, wait: bool = False, told: str = "") -> FileLock:
    """Lock a file, which is made, or a directory; no process that is started inherits the lock.

    A link is not followed. Without `wait`, `LockedError` if another process holds it, with the text `told`
    and those processes, as far as known. Removing the file neither takes a lock away nor gives it to two
    processes: a lock on a file that has lost its name meanwhile does not count.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        flags = _DIRECTORY if os.path.isdir(path) else _LOCK_FILE
        lock = FileLock(handle := os.open(path, flags, 0o600), path)
        try:
            fcntl.flock(handle, how)
            if _has_name(handle, path):
                return lock
        except BlockingIOError as error:
            message = f"{told or f'another process has locked {path}'}{_holders(handle)}"
            lock.close()
            raise LockedError(message) from error
        except BaseException:
            lock.close()
            raise
        lock.close()


def renew_lock_file(path: str) -> None:
    """Replace a lock's file by a new one, with its owner and mode: holders of the old one lose the lock.

    `FileNotFoundError` if there is none.
    """
    old = os.stat(path)
    new = f"{path}.{os.urandom(4).hex()}"
    handle = os.open(new, _NEW, old.st_mode & 0o7777)
    try:
        _keep_mode(handle, old.st_mode & 0o7777)
        if (os.fstat(handle).st_uid, os.fstat(handle).st_gid) != (old.st_uid, old.st_gid):
            os.fchown(handle, old.st_uid, old.st_gid)
        os.rename(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    finally:
        os.close(handle)


def _has_name(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _holders(handle: int) -> str:
    """The processes that hold a lock of this file, for a message; not those of other PID namespaces."""
    mine = os.fstat(handle)
    file = f"{os.major(mine.st_dev):02x}:{os.minor(mine.st_dev):02x}:{mine.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            fields = [line.split() for line in locks]
    except OSError:
        return ""
    found = {row[4] for row in fields if len(row) > 5 and row[1] == "FLOCK" and row[5] == file} - {"0", "-1"}
    return f" ({', '.join(sorted(found))})" if found else ""


def _write(handle: int, data: bytes | memoryview) -> None:
    """Write all of it: a write may be cut short by the system."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _keep_mode(handle: int, mode: int) -> None:
    """Give back what the umask took away."""
    if mode & ~os.fstat(handle).st_mode:
        os.fchmod(handle, mode)


def _directory_of(path: str | bytes, dir_fd: int | None) -> str | int:
    if dir_fd is not None:
        return dir_fd
    return os.path.dirname(os.fsdecode(path)) or "."


@contextmanager
def spool_errors(path: str, doing: str) -> Iterator[None]:
    """Raise `SpoolError` for an OSError on `path`; `doing` is a participle, as in "cannot be written"."""
    try:
        yield
    except OSError as error:
        raise SpoolError(f"the spool file {path} cannot be {doing}: {error.strerror}") from error


@contextmanager
def _telling_of(path: str | bytes) -> Iterator[None]:
    """Let an error name the file that is meant, not the one beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fsdecode(path), None
        raise
