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
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from backup.errors import TargetError, TargetFullError
from backup.model import Problem, ProblemKind
from backup.restorer.copying import copy_data
from backup.restorer.metadata import Metadata, Report, reason
from backup.restorer.owners import Owners
from backup.restorer.parts import NEW, Part, Parts, inode
from backup.restorer.special import make_special
from backup.restorer.target import Target
from backup.restorer.wanted import Wanted

__all__ = ["Report", "Wanted", "Writer"]

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
        self._report = report
        self._metadata = Metadata(report, owners or Owners())
        self._parts = Parts(target, mark)
        self._directories: list[Wanted] = []
        self.files = 0
        self.bytes = 0
        if not resumes:
            self._parts.clean(target.handle(b""))

    @property
    def directories(self) -> int:
        """How many directories were made or found."""
        return len(self._directories)

    def directory(self, wanted: Wanted) -> None:
        """Make a directory now; its metadata waits for `finish`."""
        try:
            handle, was_there = self._target.directory(wanted.path, replaces=not wanted.on_the_way)
            if was_there and not self._resumes:
                self._parts.clean(handle)
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
            first = replace(one, links=names[place + 1 :]) if place else one
            try:
                file = self._parts.make(key, first)
            except OSError as error:
                self._failed(one, error)
                continue
            self._metadata.prepare(file, one)
            return not one.holes or self._stretch(key, file, one.size)
        return False

    def _stretch(self, key: int, file: int, size: int) -> bool:
        """Make one hole of a sparse file, up to its end: what is not written later stays one."""
        try:
            os.ftruncate(file, size)
        except _REFUSED as error:
            self._fail_all(self._parts.give_up(key), error)
            return False
        return True

    def begun_before(self, key: int, wanted: Wanted) -> bool:
        """Go on with a file that an earlier sitting began; False if it is not there any more."""
        return self._parts.take_up(key, wanted)

    def read(self, key: int, offset: int, length: int) -> bytes:
        """Read back what was written of a file that was begun; short or empty where it is not there."""
        try:
            return os.pread(self._parts.file(key), length, offset)
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
            file = self._parts.file(key)
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            self._fail_all(self._parts.give_up(key), error)
            return False
        return True

    def end(self, key: int) -> None:
        """All bytes are there: set metadata, give the file its names."""
        part = self._parts[key]
        try:
            mode = self._metadata.give(self._parts.file(key), part.wanted, part.found, ours=self._ours(part))
            kept = self._parts.release(key)  # before the rename: some file systems tell of failures only here
        except OSError as error:
            self._fail_all(self._parts.give_up(key), error)
            return
        try:
            self._name(key, part, kept, mode)
        finally:
            os.close(kept)

    def give_up(self, key: int) -> None:
        """Throw a begun file away."""
        self._parts.give_up(key)

    def finish(self) -> None:
        """Set the directories' metadata, deepest first, and see that all of it is on disk."""
        if self._resumes:
            self._parts.clean(self._target.handle(b""))
        systems = {os.fstat(self._target.handle(b"")).st_dev: b""}
        for wanted in sorted(self._directories, key=lambda one: one.path, reverse=True):
            try:
                handle = self._target.handle(wanted.path)
                if self._resumes:
                    self._parts.clean(handle)
                systems.setdefault(os.fstat(handle).st_dev, wanted.path)
                self._metadata.apply(handle, wanted)
                self._metadata.lock(handle, wanted)
            except OSError as error:
                detail = f"mode, owner and times: {error.strerror}"
                self._report(Problem(wanted.path, ProblemKind.NOT_SET, detail))
        self._target.sync(systems.values())

    def keep(self) -> None:
        """See that all that was written is on disk; files that were begun stay for another sitting."""
        systems = {os.fstat(self._target.handle(b"")).st_dev: b""}
        for wanted in self._directories:
            with suppress(OSError):  # it was replaced by others: what lies in it is lost, and found missing
                systems.setdefault(os.fstat(self._target.handle(wanted.path)).st_dev, wanted.path)
        self._target.sync(systems.values())
        self._parts.keep()

    def abandon(self) -> None:
        """This sitting ends: throw away what was begun and not kept."""
        self._parts.abandon()

    def _made(self, wanted: Wanted) -> int:
        """Make one symlink, FIFO or device; a handle of it that opens nothing."""
        handle = self._target.handle(wanted.directory)
        opened: list[int] = []

        def make(name: bytes) -> None:
            opened.append(make_special(handle, name, wanted))
            self._metadata.apply(opened[0], wanted, opens_nothing=True)

        try:
            self._target.make(handle, wanted.name, self._parts.name_once(), make)
        except BaseException:
            for one in opened:
                os.close(one)
            raise
        self.files += 1
        return opened[0]

    def _name(self, key: int, part: Part, file: int, mode: int | None) -> None:
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
            self._settle(handle, wanted, file, part.found, mode, ours=self._ours(part))
        except OSError as error:
            self._failed(self._parts.give_up(key), error)
            return
        self._parts.forget(key)

    def _settle(
        self,
        handle: int,
        wanted: Wanted,
        file: int,
        made: os.stat_result,
        mode: int | None,
        *,
        ours: bool = False,
    ) -> None:
        """A file has its name: see that the name means that file, as it is to be, and only then lock it."""
        there = os.stat(wanted.name, dir_fd=handle, follow_symlinks=False)
        if inode(there) != inode(made):  # which is open still, so that no other can have its number
            raise FileNotFoundError(errno.ENOENT, "something else took its place")
        self._metadata.check(there, wanted, mode)
        self._metadata.lock(file, wanted, ours=ours)
        self.files += 1
        self.bytes += wanted.size

    def _ours(self, part: Part) -> bool:
        return part.is_new and self._target.is_ours(part.wanted.directory)

    def _link(self, made: int, wanted: Wanted) -> bool:
        """Give what was made one more name; False (and reported) where the file system has no such thing."""
        handle = self._target.handle(wanted.directory)
        temporary = self._parts.name_once()
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
        temporary = self._parts.name_once()
        copy = os.open(temporary, NEW, 0o600, dir_fd=handle)
        try:
            made = os.fstat(copy)
            copy_data(file, copy, size)
            mode = self._metadata.give(copy, wanted, made)
            self._target.put(handle, temporary, wanted.name)
            self._settle(handle, wanted, copy, made, mode)
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
