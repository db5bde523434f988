"""Write entries below the target: temporary name, content, metadata, rename; directories' own metadata last.

A file has its name only once all its bytes were written and verified; until then it is
`.nightvault-<restore>-…` beside it. A killed process leaves such files behind; the next run of the same
restore removes them. Nothing is synced file by file: the restore counts as done only after one sync at its
end, and until then running it again writes everything anew.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from backup.errors import TargetError
from backup.model import EntryKind, Extra, Owner, Problem, ProblemKind
from backup.restorer.target import Target, replacing, set_mode, step

_MOST_OPEN = 64
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_SET_ID = stat.S_ISUID | stat.S_ISGID
_REFUSED = (OSError, OverflowError)

# What would meet the next file as well: then the restore stops, and can go on later at no cost.
_STOPS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.ESTALE,
    errno.ENODEV,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}

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
    def holes(self) -> bytes:
        """A sparse file's holes, packed."""
        return self.extra.holes if self.extra else b""

    @property
    def path(self) -> bytes:
        """The path below the target."""
        return self.directory + b"/" + self.name if self.directory else self.name


@dataclass(frozen=True, slots=True)
class _Part:
    """A file that was begun: `inode` tells whether its temporary name still means the same file."""

    wanted: Wanted
    temporary: bytes
    inode: tuple[int, int]


class Writer:
    """Writes entries of one restore (`mark` is its id), on one thread.

    An entry that cannot be written or set is reported, no more. `TargetError` when the target as a whole
    fails: a full disk, say.
    """

    def __init__(self, target: Target, report: Report, mark: str) -> None:
        self._target = target
        self._report = report
        self._prefix = b".nightvault-" + mark.encode() + b"-"
        self._parts: dict[int, _Part] = {}
        self._open: OrderedDict[int, int] = OrderedDict()
        self._directories: list[Wanted] = []
        self.files = 0
        self.bytes = 0
        self._clean(target.handle(b""))

    @property
    def directories(self) -> int:
        """How many directories were made or found."""
        return len(self._directories)

    def directory(self, wanted: Wanted) -> None:
        """Make a directory now; its metadata waits for `finish`."""
        try:
            handle, was_there = self._target.directory(wanted.path)
            if was_there:
                self._clean(handle)
        except OSError as error:
            self._failed(wanted, error)
            return
        self._directories.append(wanted)

    def special(self, wanted: Wanted) -> None:
        """Make a symlink, FIFO or device."""
        try:
            handle = self._target.handle(wanted.directory)
            replacing(
                handle, wanted.name, self._temporary_name(), lambda name: self._make(handle, name, wanted)
            )
        except _REFUSED as error:
            self._failed(wanted, error)
            return
        self.files += 1

    def begin(self, key: int, wanted: Wanted) -> bool:
        """Begin a file under a temporary name; False if it cannot be (and was reported)."""
        try:
            handle = self._target.handle(wanted.directory)
            step(wanted.name)
            temporary = self._temporary_name()
            file = os.open(temporary, _NEW, 0o600, dir_fd=handle)
        except OSError as error:
            self._failed(wanted, error)
            return False
        self._keep_open(key, file)
        self._parts[key] = _Part(wanted, temporary, _inode(file))
        return not wanted.holes or self._stretch(key, file, wanted.size)

    def _stretch(self, key: int, file: int, size: int) -> bool:
        """Make one hole of a sparse file, up to its end: what is not written later stays one."""
        try:
            os.ftruncate(file, size)
        except _REFUSED as error:
            self._failed(self.give_up(key), error)
            return False
        return True

    def write(self, key: int, offset: int, data: memoryview) -> bool:
        """Write verified bytes of a file that was begun; False if it was given up (and reported)."""
        try:
            file = self._file(key)
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            self._failed(self.give_up(key), error)
            return False
        return True

    def end(self, key: int) -> None:
        """All bytes are there: set metadata, give the file its name."""
        part = self._parts[key]
        wanted = part.wanted
        try:
            self._set_by_handle(self._file(key), wanted)
            os.close(self._open.pop(key))  # before the rename: some file systems tell of failures only here
            handle = self._target.handle(wanted.directory)
            os.rename(part.temporary, wanted.name, src_dir_fd=handle, dst_dir_fd=handle)
        except OSError as error:
            self._failed(self.give_up(key), error)
            return
        del self._parts[key]
        self.files += 1
        self.bytes += wanted.size

    def give_up(self, key: int) -> Wanted:
        """Throw a begun file away."""
        part = self._parts.pop(key)
        with suppress(OSError):  # it is only a temporary file, and the report names its entry
            if key in self._open:
                os.close(self._open.pop(key))
            os.unlink(part.temporary, dir_fd=self._target.handle(part.wanted.directory))
        return part.wanted

    def finish(self) -> None:
        """Set the directories' metadata, deepest first, and see that all of it is on disk."""
        systems = {_inode(self._target.handle(b""))[0]: b""}
        for wanted in sorted(self._directories, key=lambda one: one.path, reverse=True):
            try:
                handle = self._target.handle(wanted.path)
                systems.setdefault(_inode(handle)[0], wanted.path)
                self._set_by_handle(handle, wanted)
            except OSError as error:
                detail = f"mode, owner and times: {error.strerror}"
                self._report(Problem(wanted.path, ProblemKind.NOT_SET, detail))
        self._target.sync(systems.values())

    def abandon(self) -> None:
        """Throw every begun file away: the restore ends early."""
        for key in list(self._parts):
            self.give_up(key)

    def _clean(self, handle: int) -> None:
        """Remove what a killed run of this restore left in a directory."""
        with suppress(OSError):  # what fails here fails again, and is reported, where something is written
            for name in map(os.fsencode, os.listdir(handle)):
                if name.startswith(self._prefix):
                    os.unlink(name, dir_fd=handle)

    def _temporary_name(self) -> bytes:
        return self._prefix + os.urandom(6).hex().encode()

    def _file(self, key: int) -> int:
        opened = self._open.get(key)
        if opened is not None:
            self._open.move_to_end(key)
            return opened
        part = self._parts[key]
        handle = self._target.handle(part.wanted.directory)
        file = os.open(part.temporary, _AGAIN, dir_fd=handle)
        self._keep_open(key, file)
        if _inode(file) != part.inode:
            raise FileNotFoundError(errno.ENOENT, "its temporary file was replaced by another")
        return file

    def _keep_open(self, key: int, file: int) -> None:
        self._open[key] = file
        while len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])

    def _make(self, handle: int, name: bytes, wanted: Wanted) -> None:
        _make_special(handle, name, wanted)
        found = os.stat(name, dir_fd=handle, follow_symlinks=False)
        uid, gid, *_ = wanted.owner
        owned = (found.st_uid, found.st_gid) == (uid, gid) or self._setting(
            wanted, "owner", lambda: os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
        )
        if wanted.kind is not EntryKind.SYMLINK:
            mode = self._mode(wanted, owned=owned)
            self._setting(wanted, "mode", lambda: set_mode(handle, name, mode))
        times = (wanted.mtime_ns, wanted.mtime_ns)
        self._setting(wanted, "times", lambda: os.utime(name, ns=times, dir_fd=handle, follow_symlinks=False))

    def _set_by_handle(self, handle: int, wanted: Wanted) -> None:
        found = os.fstat(handle)
        uid, gid, *_ = wanted.owner
        owned = (found.st_uid, found.st_gid) == (uid, gid) or self._setting(
            wanted, "owner", lambda: os.fchown(handle, uid, gid)
        )
        mode = self._mode(wanted, owned=owned)
        self._setting(wanted, "mode", lambda: os.fchmod(handle, mode))
        times = (wanted.mtime_ns, wanted.mtime_ns)
        self._setting(wanted, "times", lambda: os.utime(handle, ns=times))

    def _mode(self, wanted: Wanted, *, owned: bool) -> int:
        """The mode, without setuid and setgid where they would lend the rights of somebody else than then."""
        if owned or not wanted.mode & _SET_ID:
            return wanted.mode
        detail = "mode: setuid and setgid are left off, as the owner could not be set"
        self._report(Problem(wanted.path, ProblemKind.NOT_SET, detail))
        return wanted.mode & ~_SET_ID

    def _setting(self, wanted: Wanted, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except _REFUSED as error:
            self._report(Problem(wanted.path, ProblemKind.NOT_SET, f"{what}: {_reason(error)}"))
            return False
        return True

    def _failed(self, wanted: Wanted, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _STOPS:
            raise TargetError(
                f"{os.fsdecode(wanted.path)} cannot be written below {self._target.path}: {error.strerror}",
                advice="mend that (make room, say), then run it again: nothing is asked for twice",
            ) from error
        self._report(Problem(wanted.path, ProblemKind.NOT_SET, f"not restored: {_reason(error)}"))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _inode(handle: int) -> tuple[int, int]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino


def _make_special(handle: int, name: bytes, wanted: Wanted) -> None:
    extra = wanted.extra or Extra()
    if wanted.kind is EntryKind.SYMLINK:
        os.symlink(extra.target, name, dir_fd=handle)
    elif wanted.kind is EntryKind.FIFO:
        os.mkfifo(name, 0o600, dir_fd=handle)
    else:
        block = wanted.kind is EntryKind.BLOCK_DEVICE
        os.mknod(name, (stat.S_IFBLK if block else stat.S_IFCHR) | 0o600, extra.device, dir_fd=handle)
