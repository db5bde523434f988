"""Make files: temporary name, content, metadata, their own names; the same way in one process or in two.

A file has its name only once all its bytes were written; until then it is `.nightvault-<restore>-…` beside
it. Hard links are made of the very file that was written, by its handle; where the file system knows none,
they become copies, and that is told.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from enum import IntEnum

from backup.errors import TargetError, TargetFullError
from backup.format.naming import chunk_id
from backup.model import Problem, ProblemKind
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.target.copying import copy_data
from backup.restorer.target.directories import Directories
from backup.restorer.target.metadata import Metadata, Report, reason
from backup.restorer.target.owners import Owners
from backup.restorer.target.partial_files import NEW, PartialFile, PartialFiles, inode

REFUSED = (OSError, OverflowError)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_WHOLE = -1  # the key of a file that is made in one go

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


class Made(IntEnum):
    """What came of a file."""

    NOT = 0  # it was reported why
    WHOLE = 1
    DAMAGED = 2  # its chunk is not what it was, so that it was not begun


class FileMaker:
    """Makes files of one restore (`mark` is its id), on one thread. `key` is the caller's for a file, from 0.

    A file that cannot be made or set is reported, no more. `TargetError` when the target as a whole
    fails: a full disk, say.
    """

    def __init__(self, target: Directories, report: Report, mark: str, owners: Owners) -> None:
        self._target = target
        self._report = report
        self._metadata = Metadata(report, owners)
        self._parts = PartialFiles(target, mark)
        self.files = 0
        self.bytes = 0

    def make(self, entry: RestoreEntry, data: memoryview) -> bool:
        """Make a file of these bytes; False if it cannot be (and was reported)."""
        before = self.files
        if self.begin(_WHOLE, entry) and self.write(_WHOLE, 0, data):
            self.end(_WHOLE)
        return self.files > before

    def make_verified(self, entry: RestoreEntry, data: memoryview, chunk: bytes, key: bytes) -> Made:
        """Make a file of one chunk, if that is its name under the chunk `key`; of none if it has no name."""
        if chunk and chunk_id(key, data) != chunk:
            return Made.DAMAGED
        return Made(self.make(entry, data))

    def begin(self, key: int, entry: RestoreEntry) -> bool:
        """Begin a file under a temporary name; False if it cannot be (and was reported)."""
        names = tuple(entry.names)
        for index, one in enumerate(names):  # a name that cannot be made does not take the others with it
            first = one._replace(links=names[index + 1 :]) if index else one
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
        except REFUSED as error:
            self._fail_all(self._parts.give_up(key), error)
            return False
        return True

    def write(self, key: int, offset: int, data: memoryview) -> bool:
        """Write verified bytes of a file that was begun; False if it was given up (and reported)."""
        try:
            file, start = self._parts.file(key), offset
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
            self._parts.wrote(key, start, offset)
        except OSError as error:
            self._fail_all(self._parts.give_up(key), error)
            return False
        return True

    def end(self, key: int) -> None:
        """All bytes are there: set metadata, give the file its names."""
        part = self._parts[key]
        try:
            mode = self._metadata.give(self._parts.file(key), part.entry, part.found, ours=self._ours(part))
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

    def _name(self, key: int, part: PartialFile, file: int, mode: int | None) -> None:
        """Give a finished file all its names."""
        entry = part.entry
        for other in entry.links:
            try:
                if not self._link(file, other):
                    self._copy(file, other, entry.size)
            except REFUSED as error:
                self._failed(other, error)
        try:
            handle = self._target.handle(entry.directory)
            self._target.put(handle, part.temporary, entry.name)
            self._settle(handle, entry, file, part.found, mode, ours=self._ours(part))
        except OSError as error:
            self._failed(self._parts.give_up(key), error)
            return
        self._parts.forget(key)

    def _settle(
        self,
        handle: int,
        entry: RestoreEntry,
        file: int,
        made: os.stat_result,
        mode: int | None,
        *,
        ours: bool = False,
    ) -> None:
        """A file has its name: see that the name means that file, as it is to be, and only then lock it."""
        there = os.stat(entry.name, dir_fd=handle, follow_symlinks=False)
        if inode(there) != inode(made):  # which is open still, so that no other can have its number
            raise FileNotFoundError(errno.ENOENT, "something else took its place")
        self._metadata.check(there, entry, mode)
        self._metadata.lock(file, entry, ours=ours)
        self.files += 1
        self.bytes += entry.size

    def _ours(self, part: PartialFile) -> bool:
        return part.is_new and self._target.is_ours(part.entry.directory)

    def _link(self, made: int, entry: RestoreEntry) -> bool:
        """Give what was made one more name; False (and reported) where the file system has no such thing."""
        handle = self._target.handle(entry.directory)
        temporary = self._parts.name_once()
        try:
            inode = b"/proc/self/fd/%d" % made
            os.link(inode, temporary, dst_dir_fd=handle, follow_symlinks=True)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            detail = f"hard link: {reason(error)}; restored as one of its own"
            self._report(Problem(entry.path, ProblemKind.NOT_SET, detail))
            return False
        self._target.make(handle, entry.name, temporary, lambda _: None)
        self.files += 1
        return True

    def _copy(self, file: int, entry: RestoreEntry, size: int) -> None:
        handle = self._target.handle(entry.directory)
        temporary = self._parts.name_once()
        copy = os.open(temporary, NEW, 0o600, dir_fd=handle)
        try:
            made = os.fstat(copy)
            copy_data(file, copy, size)
            mode = self._metadata.give(copy, entry, made)
            self._target.put(handle, temporary, entry.name)
            self._settle(handle, entry, copy, made, mode)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=handle)
            raise
        finally:
            os.close(copy)

    def _fail_all(self, entry: RestoreEntry, error: Exception) -> None:
        for one in entry.names:
            self._failed(one, error)

    def _failed(self, entry: RestoreEntry, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _STOPS:
            kind = TargetFullError if error.errno in _FULL else TargetError
            raise kind(
                f"{os.fsdecode(entry.path)} cannot be written below {self._target.path}: {error.strerror}",
                advice="mend that (make room, say), then run it again: nothing is asked for twice",
            ) from error
        self._report(Problem(entry.path, ProblemKind.NOT_SET, f"not restored: {reason(error)}"))
