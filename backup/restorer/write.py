"""Write entries below the target: temporary name, content, metadata, rename; directories' own metadata last.

A file has its name only once all its bytes were written and verified; until then it is `.nightvault-…`
beside it.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from backup.errors import TargetError
from backup.model import EntryKind, Extra, Owner, Problem, ProblemKind
from backup.restorer.target import Target, replacing, step, temporary_name

_MOST_OPEN = 64
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Report = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry to restore: where below the target, and what it is to be."""

    directory: bytes  # relative to the target
    name: bytes
    kind: EntryKind
    mode: int
    owner: Owner
    mtime_ns: int
    size: int
    extra: Extra | None

    @property
    def path(self) -> bytes:
        """The path below the target."""
        return self.directory + b"/" + self.name if self.directory else self.name


class Writer:
    """Writes entries of one restore, on one thread; what cannot be written or set is reported, no more."""

    def __init__(self, target: Target, report: Report) -> None:
        self._target = target
        self._report = report
        self._parts: dict[int, tuple[Wanted, bytes]] = {}  # files begun: entry and temporary name
        self._open: OrderedDict[int, int] = OrderedDict()
        self._directories: list[Wanted] = []
        self.files = 0
        self.bytes = 0

    def directory(self, wanted: Wanted) -> None:
        """Make a directory now; its metadata waits for `finish`."""
        try:
            self._target.handle(wanted.path)
        except OSError as error:
            self._failed(wanted, error)
            return
        self._directories.append(wanted)

    def special(self, wanted: Wanted) -> None:
        """Make a symlink, FIFO or device."""
        try:
            handle = self._target.handle(wanted.directory)
            replacing(handle, step(wanted.name), lambda name: _make(handle, name, wanted))
            self._set_by_name(handle, wanted)
        except OSError as error:
            self._failed(wanted, error)
            return
        self.files += 1

    def begin(self, key: int, wanted: Wanted) -> bool:
        """Begin a file under a temporary name; False if it cannot be (and was reported)."""
        try:
            handle = self._target.handle(wanted.directory)
            step(wanted.name)
            temporary = temporary_name()
            self._keep_open(key, os.open(temporary, _NEW, 0o600, dir_fd=handle))
        except OSError as error:
            self._failed(wanted, error)
            return False
        self._parts[key] = (wanted, temporary)
        return True

    def write(self, key: int, offset: int, data: memoryview) -> None:
        """Write verified bytes of a file that was begun. `TargetError` when the disk is full."""
        wanted, _ = self._parts[key]
        try:
            file = self._file(key)
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise TargetError(
                f"{os.fsdecode(wanted.path)} cannot be written below {self._target.path}: {error.strerror}",
                advice="make room there, then run the same command again",
            ) from error

    def end(self, key: int) -> None:
        """All bytes are there: set metadata, give the file its name."""
        file = self._file(key)
        wanted, temporary = self._parts.pop(key)
        try:
            os.ftruncate(file, wanted.size)
            self._set_by_handle(file, wanted)
            handle = self._target.handle(wanted.directory)
            os.rename(temporary, wanted.name, src_dir_fd=handle, dst_dir_fd=handle)
        except OSError as error:
            self._failed(wanted, error)
            self._unlink(wanted, temporary)
            return
        finally:
            os.close(self._open.pop(key))
        self.files += 1
        self.bytes += wanted.size

    def give_up(self, key: int) -> Wanted:
        """Throw a begun file away."""
        if key in self._open:
            os.close(self._open.pop(key))
        wanted, temporary = self._parts.pop(key)
        self._unlink(wanted, temporary)
        return wanted

    def finish(self) -> None:
        """Set the directories' metadata, deepest first, and see that all of it is on disk."""
        for wanted in sorted(self._directories, key=lambda one: one.path, reverse=True):
            try:
                self._set_by_handle(self._target.handle(wanted.path), wanted)
            except OSError as error:
                self._failed(wanted, error)
        self._directories.clear()
        os.sync()

    def abandon(self) -> None:
        """Throw every begun file away: the restore ends early."""
        for key in list(self._parts):
            self.give_up(key)

    def _file(self, key: int) -> int:
        opened = self._open.get(key)
        if opened is not None:
            self._open.move_to_end(key)
            return opened
        wanted, temporary = self._parts[key]
        handle = self._target.handle(wanted.directory)
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return self._keep_open(key, os.open(temporary, flags, dir_fd=handle))

    def _keep_open(self, key: int, file: int) -> int:
        self._open[key] = file
        while len(self._open) > _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        return file

    def _unlink(self, wanted: Wanted, temporary: bytes) -> None:
        try:
            os.unlink(temporary, dir_fd=self._target.handle(wanted.directory))
        except OSError:
            return  # it is only a temporary file, and the report names its entry

    def _set_by_handle(self, handle: int, wanted: Wanted) -> None:
        found = os.fstat(handle)
        if (found.st_uid, found.st_gid) != wanted.owner[:2]:
            self._setting(wanted, "owner", lambda: os.fchown(handle, wanted.owner.uid, wanted.owner.gid))
        self._setting(wanted, "mode", lambda: os.fchmod(handle, wanted.mode))
        times = (wanted.mtime_ns, wanted.mtime_ns)
        self._setting(wanted, "times", lambda: os.utime(handle, ns=times))

    def _set_by_name(self, handle: int, wanted: Wanted) -> None:
        name, owner = wanted.name, wanted.owner
        found = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if (found.st_uid, found.st_gid) != owner[:2]:
            self._setting(
                wanted,
                "owner",
                lambda: os.chown(name, owner.uid, owner.gid, dir_fd=handle, follow_symlinks=False),
            )
        if wanted.kind is not EntryKind.SYMLINK:
            self._setting(wanted, "mode", lambda: os.chmod(name, wanted.mode, dir_fd=handle))
        times = (wanted.mtime_ns, wanted.mtime_ns)
        self._setting(wanted, "times", lambda: os.utime(name, ns=times, dir_fd=handle, follow_symlinks=False))

    def _setting(self, wanted: Wanted, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._report(Problem(wanted.path, ProblemKind.NOT_SET, f"{what}: {error.strerror}"))

    def _failed(self, wanted: Wanted, error: OSError) -> None:
        self._report(Problem(wanted.path, ProblemKind.NOT_SET, f"not restored: {error.strerror or error}"))


def _make(handle: int, name: bytes, wanted: Wanted) -> None:
    extra = wanted.extra or Extra()
    if wanted.kind is EntryKind.SYMLINK:
        os.symlink(extra.target, name, dir_fd=handle)
    elif wanted.kind is EntryKind.FIFO:
        os.mkfifo(name, 0o600, dir_fd=handle)
    else:
        block = wanted.kind is EntryKind.BLOCK_DEVICE
        os.mknod(name, (stat.S_IFBLK if block else stat.S_IFCHR) | 0o600, extra.device, dir_fd=handle)
