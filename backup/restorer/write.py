"""Write entries below the target: temporary name, content, metadata, rename; directories' own metadata last.

A file has its name only once all its bytes were written and verified; until then it is
`.nightvault-<restore>-…` beside it. Such files outlive a sitting of the restore if `keep` was called after a
sync: the next one finds them by their names and goes on. Nothing is synced file by file, and what was not
synced is written anew. Hard links are made of the very file that was
written, by its handle; where the file system knows none, they become copies, and that is told.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import BinaryIO

from backup.errors import TargetError, TargetFullError
from backup.model import Problem, ProblemKind
from backup.restorer.copying import copy_data
from backup.restorer.metadata import Metadata, Report, reason
from backup.restorer.owners import Owners
from backup.restorer.special import make_special
from backup.restorer.target import Target, step
from backup.restorer.wanted import Wanted

__all__ = ["Report", "Wanted", "Writer"]

_MOST_OPEN = 64
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = (OSError, OverflowError)
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}

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


@dataclass(frozen=True, slots=True)
class _Part:
    """A file that was begun: `inode` tells whether its temporary name still means the same file."""

    wanted: Wanted
    temporary: bytes
    inode: tuple[int, int]


class Writer:
    """Writes entries of one restore (`mark` is its id), on one thread; `resumes` one that was begun before.

    An entry that cannot be written or set is reported, no more. `TargetError` when the target as a whole
    fails: a full disk, say.
    """

    def __init__(
        self,
        target: Target,
        report: Report,
        mark: str,
        owners: Owners | None = None,
        *,
        resumes: bool = False,
    ) -> None:
        self._target = target
        self._resumes = resumes
        self._kept: set[int] = set()
        self._report = report
        self._metadata = Metadata(report, owners or Owners())
        self._prefix = b".nightvault-" + mark.encode() + b"-"
        self._parts: dict[int, _Part] = {}
        self._open: OrderedDict[int, int] = OrderedDict()
        self._directories: list[Wanted] = []
        self.files = 0
        self.bytes = 0
        if not resumes:
            self.clean(target.handle(b""))

    @property
    def directories(self) -> int:
        """How many directories were made or found."""
        return len(self._directories)

    def directory(self, wanted: Wanted) -> None:
        """Make a directory now; its metadata waits for `finish`."""
        try:
            handle, was_there = self._target.directory(wanted.path, replaces=not wanted.on_the_way)
            if was_there and not self._resumes:
                self.clean(handle)
            if was_there and self._stays(wanted, handle):
                return
        except OSError as error:
            self._failed(wanted, error)
            return
        self._directories.append(wanted)

    def _stays(self, wanted: Wanted, handle: int) -> bool:
        """Whether a directory that was there keeps its own mode, owner and times.

        One that an earlier sitting made, and did not come to finish, is as that made it: ours alone.
        """
        if self._target.replaces and not wanted.on_the_way:
            return False
        found = os.fstat(handle)
        is_unfinished = stat.S_IMODE(found.st_mode) == stat.S_IRWXU and found.st_uid == os.geteuid()
        return not (self._resumes and is_unfinished)

    def special(self, wanted: Wanted) -> None:
        """Make a symlink, FIFO or device, with its hard links."""
        made: int | None = None
        try:
            for one in wanted.names:
                try:
                    if made is None:
                        made = self._made(one)
                    elif not self._link(made, one):
                        os.close(self._made(one))
                except _REFUSED as error:
                    self._failed(one, error)
        finally:
            if made is not None:
                os.close(made)

    def begin(self, key: int, wanted: Wanted) -> bool:
        """Begin a file under a temporary name; False if it cannot be (and was reported)."""
        names = tuple(wanted.names)
        for place, one in enumerate(names):  # a name that cannot be made does not take the others with it
            try:
                handle = self._target.handle(one.directory)
                step(one.name)
                temporary = self._file_name(one)
                with suppress(FileNotFoundError):  # of an earlier sitting, and of no use
                    os.unlink(temporary, dir_fd=handle)
                file = os.open(temporary, _NEW, 0o600, dir_fd=handle)
            except OSError as error:
                self._failed(one, error)
                continue
            self._keep_open(key, file)
            self._metadata.prepare(file, one)
            first = replace(one, links=names[place + 1 :]) if place else one
            self._parts[key] = _Part(first, temporary, _inode(file))
            return not one.holes or self._stretch(key, file, one.size)
        return False

    def _stretch(self, key: int, file: int, size: int) -> bool:
        """Make one hole of a sparse file, up to its end: what is not written later stays one."""
        try:
            os.ftruncate(file, size)
        except _REFUSED as error:
            self._fail_all(self.give_up(key), error)
            return False
        return True

    def begun_before(self, key: int, wanted: Wanted) -> bool:
        """Go on with a file that an earlier sitting began; False if it is not there any more."""
        temporary = self._file_name(wanted)
        try:
            file = os.open(temporary, _AGAIN, dir_fd=self._target.handle(wanted.directory))
        except OSError:
            return False
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            os.close(file)
            return False
        self._keep_open(key, file)
        self._parts[key] = _Part(wanted, temporary, _inode(file))
        self._kept.add(key)
        return True

    def read(self, key: int, offset: int, length: int) -> bytes:
        """Read back what was written of a file that was begun; short or empty where it is not there."""
        try:
            return os.pread(self._file(key), length, offset)
        except OSError:
            return b""

    def finished_before(self, wanted: Wanted) -> BinaryIO | None:
        """The file under its own name, to read what is in it; None if there is no such file."""
        try:
            handle = os.open(wanted.name, _LOOK, dir_fd=self._target.handle(wanted.directory))
        except OSError:
            return None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size != wanted.size:
            os.close(handle)
            return None
        return open(handle, "rb")

    def count(self, wanted: Wanted) -> None:
        """A file that an earlier sitting finished without recording it."""
        self.files += len(tuple(wanted.names))
        self.bytes += wanted.size

    def write(self, key: int, offset: int, data: memoryview) -> bool:
        """Write verified bytes of a file that was begun; False if it was given up (and reported)."""
        try:
            file = self._file(key)
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            self._fail_all(self.give_up(key), error)
            return False
        return True

    def end(self, key: int) -> None:
        """All bytes are there: set metadata, give the file its names."""
        part = self._parts[key]
        kept = -1
        try:
            file = self._file(key)
            self._metadata.apply(file, part.wanted)
            kept = os.dup(file)
            os.close(self._open.pop(key))  # before the rename: some file systems tell of failures only here
        except OSError as error:
            self._fail_all(self.give_up(key), error)
        else:
            self._name(key, part, kept)
        finally:
            if kept >= 0:
                os.close(kept)

    def give_up(self, key: int) -> Wanted:
        """Throw a begun file away."""
        part = self._parts.pop(key)
        self._kept.discard(key)
        with suppress(OSError):  # it is only a temporary file, and the report names its entry
            if key in self._open:
                os.close(self._open.pop(key))
            os.unlink(part.temporary, dir_fd=self._target.handle(part.wanted.directory))
        return part.wanted

    def finish(self) -> None:
        """Set the directories' metadata, deepest first, and see that all of it is on disk."""
        if self._resumes:
            self.clean(self._target.handle(b""))
        systems = {_inode(self._target.handle(b""))[0]: b""}
        for wanted in sorted(self._directories, key=lambda one: one.path, reverse=True):
            try:
                handle = self._target.handle(wanted.path)
                if self._resumes:
                    self.clean(handle)
                systems.setdefault(_inode(handle)[0], wanted.path)
                self._metadata.apply(handle, wanted)
                self._metadata.lock(handle, wanted)
            except OSError as error:
                detail = f"mode, owner and times: {error.strerror}"
                self._report(Problem(wanted.path, ProblemKind.NOT_SET, detail))
        self._target.sync(systems.values())

    def keep(self) -> None:
        """See that all that was written is on disk; files that were begun stay for another sitting."""
        systems = {_inode(self._target.handle(b""))[0]: b""}
        for wanted in self._directories:
            with suppress(OSError):  # it was replaced by others: what lies in it is lost, and found missing
                systems.setdefault(_inode(self._target.handle(wanted.path))[0], wanted.path)
        self._target.sync(systems.values())
        self._kept.update(self._parts)

    def abandon(self) -> None:
        """This sitting ends early: throw away what was begun and not kept."""
        for key in list(self._parts):
            if key not in self._kept:
                self.give_up(key)
        for file in self._open.values():
            os.close(file)
        self._open.clear()
        self._parts.clear()

    def clean(self, handle: int) -> None:
        """Remove what earlier sittings of this restore left in a directory."""
        with suppress(OSError):  # what fails here fails again, and is reported, where something is written
            for name in map(os.fsencode, os.listdir(handle)):
                if name.startswith(self._prefix):
                    os.unlink(name, dir_fd=handle)

    def _file_name(self, wanted: Wanted) -> bytes:
        """The temporary name of a file: the same in each sitting."""
        return self._prefix + blake2b(wanted.name, digest_size=10).hexdigest().encode()

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

    def _made(self, wanted: Wanted) -> int:
        """Make one symlink, FIFO or device; a handle of it that opens nothing."""
        handle = self._target.handle(wanted.directory)
        opened: list[int] = []

        def make(name: bytes) -> None:
            opened.append(make_special(handle, name, wanted))
            self._metadata.apply(opened[0], wanted, opens_nothing=True)

        try:
            self._target.make(handle, wanted.name, self._temporary_name(), make)
        except BaseException:
            for one in opened:
                os.close(one)
            raise
        self.files += 1
        return opened[0]

    def _name(self, key: int, part: _Part, file: int) -> None:
        """Give a finished file all its names."""
        wanted = part.wanted
        for other in wanted.links:
            try:
                if not self._link(file, other):
                    self._copy(file, other, wanted.size)
            except _REFUSED as error:
                self._failed(other, error)
        try:
            handle = self._target.handle(wanted.directory)
            self._target.put(handle, part.temporary, wanted.name)
            self._settle(handle, wanted, file)
        except OSError as error:
            self._failed(self.give_up(key), error)
            return
        del self._parts[key]
        self._kept.discard(key)

    def _settle(self, handle: int, wanted: Wanted, file: int) -> None:
        """A file has its name: see that the name means that file, and only then lock it."""
        there = os.stat(wanted.name, dir_fd=handle, follow_symlinks=False)
        if (there.st_dev, there.st_ino) != _inode(file):
            raise FileNotFoundError(errno.ENOENT, "something else took its place")
        self._metadata.lock(file, wanted)
        self.files += 1
        self.bytes += wanted.size

    def _link(self, made: int, wanted: Wanted) -> bool:
        """Give what was made one more name; False (and reported) where the file system has no such thing."""
        handle = self._target.handle(wanted.directory)
        temporary = self._temporary_name()
        try:
            inode = b"/proc/self/fd/%d" % made
            os.link(inode, temporary, dst_dir_fd=handle, follow_symlinks=True)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            detail = f"hard link: {reason(error)}; restored as one of its own"
            self._report(Problem(wanted.path, ProblemKind.NOT_SET, detail))
            return False
        self._target.make(handle, wanted.name, temporary, lambda _: None)
        self.files += 1
        return True

    def _copy(self, file: int, wanted: Wanted, size: int) -> None:
        handle = self._target.handle(wanted.directory)
        temporary = self._temporary_name()
        copy = os.open(temporary, _NEW, 0o600, dir_fd=handle)
        try:
            copy_data(file, copy, size)
            self._metadata.apply(copy, wanted)
            self._target.put(handle, temporary, wanted.name)
            self._settle(handle, wanted, copy)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=handle)
            raise
        finally:
            os.close(copy)

    def _fail_all(self, wanted: Wanted, error: Exception) -> None:
        for one in wanted.names:
            self._failed(one, error)

    def _failed(self, wanted: Wanted, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _STOPS:
            kind = TargetFullError if error.errno in _FULL else TargetError
            raise kind(
                f"{os.fsdecode(wanted.path)} cannot be written below {self._target.path}: {error.strerror}",
                advice="mend that (make room, say), then run it again: nothing is asked for twice",
            ) from error
        self._report(Problem(wanted.path, ProblemKind.NOT_SET, f"not restored: {reason(error)}"))


def _inode(handle: int) -> tuple[int, int]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino
