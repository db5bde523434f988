"""Creates files: temporary name, content, metadata, rename; the same way in one process or in two.

A file gets its name only when all its bytes were written; until then it is `.nightvault-<restore>-…` beside
it. Hard links are made from the very file that was written, by its handle; on file systems without them they
become copies, and that is reported.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from enum import IntEnum

from backup.errors import TargetError, TargetFullError
from backup.format.naming import chunk_id
from backup.model import MIB, Problem, ProblemKind
from backup.restorer.selection.entry import NewFiles, RestoreEntry
from backup.restorer.writer.directories import Directories
from backup.restorer.writer.metadata import Metadata, Report, reason
from backup.restorer.writer.owners import Owners
from backup.restorer.writer.partial_files import NEW, PartialFile, PartialFiles, inode
from backup.restorer.writer.tmpfile import UnnamedFiles

_NO_HOLES = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY}


def copy_data(source: int, copy: int, size: int) -> None:
    """Copy `size` bytes of an open file into an empty one. OSError if either fails or is too short."""
    offset = 0
    while offset < size:
        start, end = _data(source, offset, size)
        while start < end:
            block = os.pread(source, min(MIB, end - start), start)
            if not block:
                raise OSError(errno.EIO, "it became shorter while it was copied")
            start += os.pwrite(copy, block, start)
        offset = end
    os.ftruncate(copy, size)


def _data(source: int, offset: int, size: int) -> tuple[int, int]:
    """Start and end of the next stretch of data (not hole) from `offset` on."""
    try:
        start = os.lseek(source, offset, os.SEEK_DATA)
        return start, min(size, os.lseek(source, start, os.SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size, size
        if error.errno in _NO_HOLES:
            return offset, size
        raise


REFUSED = (OSError, OverflowError)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_WHOLE = -1  # the key of a file that is written in one step

# Errors that the next file would hit as well: the restore stops, and can be resumed at no cost.
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
    """The result for one file."""

    NOT = 0  # failed, and reported
    WHOLE = 1
    DAMAGED = 2  # its chunk did not match its id: not begun


class FileMaker:
    """Creates the files of one restore, on one thread; `key` is the caller's number.

    A file that cannot be created or set is reported, no more. `TargetError` when the target as a whole
    fails, with a full disk for example.
    """

    def __init__(self, target: Directories, report: Report, restore_id: str, owners: Owners) -> None:
        self._target = target
        self._report = report
        self._metadata = Metadata(report, owners)
        self._parts = PartialFiles(target, restore_id)
        self._unnamed = UnnamedFiles()
        self.files = 0
        self.bytes = 0

    def make(self, entry: RestoreEntry, data: memoryview) -> bool:
        """Create a file with these bytes; False if that failed (and was reported)."""
        before = self.files
        if self.begin(_WHOLE, entry) and self.write(_WHOLE, 0, data):
            self.end(_WHOLE)
        return self.files > before

    def make_small(self, files: NewFiles, data: memoryview, key: bytes, made: bytearray) -> None:
        """Create small files of `data` after checking their chunks' ids under `key`.

        Adds a `Made` to `made` as each file is done.
        """
        unnamed, known, handle = self._unnamed.make, -1, None
        for at, (directory, name, mode, owner, mtime_ns, start, end, chunk) in enumerate(
            zip(*files[1:], strict=True)
        ):
            content = data[start:end]
            if chunk and chunk_id(key, content) != chunk:
                made.append(Made.DAMAGED)
                continue
            path = files.paths[directory]
            if directory != known:
                known, handle = directory, self._lends_nothing(path)
            if handle is not None and unnamed(handle, path, name, content, (*owner, mode, mtime_ns)):
                self.files += 1
                self.bytes += end - start
                made.append(Made.WHOLE)
            else:
                made.append(Made(self.make(files.entry(at), content)))
                known = -1  # that may have closed the handle, or shown what files inherit here

    def _lends_nothing(self, path: bytes) -> int | None:
        """A handle of a directory of ours in which files inherit nothing, or None if that is not known."""
        if not (self._metadata.is_bare(path) and self._target.is_ours(path)):
            return None
        try:
            return self._target.handle(path)
        except OSError:
            return None

    def begin(self, key: int, entry: RestoreEntry) -> bool:
        """Create a file under a temporary name; False if that failed (and was reported)."""
        names = tuple(entry.names)
        for index, name in enumerate(names):  # if one name fails, the others are still tried
            first = name._replace(links=names[index + 1 :]) if index else name
            try:
                file = self._parts.make(key, first)
            except OSError as error:
                self._failed(name, error)
                continue
            self._metadata.prepare(file, name)
            return not name.holes or self._stretch(key, file, name.size)
        return False

    def _stretch(self, key: int, file: int, size: int) -> bool:
        """Extend a sparse file to its full size as one hole; unwritten parts stay holes."""
        try:
            os.ftruncate(file, size)
        except REFUSED as error:
            self._fail_all(self._parts.give_up(key), error)
            return False
        return True

    def write(self, key: int, offset: int, data: memoryview) -> bool:
        """Write verified bytes to a file that was begun; False if it was given up (and reported)."""
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
        """Finish a file whose bytes are all written: set metadata, rename it, add its hard links."""
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
        """Discard a file that was begun."""
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
        """After the rename, check that the name is this inode with this metadata; only then lock it."""
        there = os.stat(entry.name, dir_fd=handle, follow_symlinks=False)
        if inode(there) != inode(made):  # still open, so its inode number cannot be reused
            raise FileNotFoundError(errno.ENOENT, "something else took its place")
        self._metadata.check(there, entry, mode)
        self._metadata.lock(file, entry, ours=ours)
        self.files += 1
        self.bytes += entry.size

    def _ours(self, part: PartialFile) -> bool:
        return part.is_new and self._target.is_ours(part.entry.directory)

    def _link(self, made: int, entry: RestoreEntry) -> bool:
        """Add one more hard link; False (and reported) where the file system has none."""
        handle = self._target.handle(entry.directory)
        temporary = self._parts.name_once()
        try:
            inode = b"/proc/self/fd/%d" % made
            os.link(inode, temporary, dst_dir_fd=handle, follow_symlinks=True)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            detail = f"hard link: {reason(error)}; restored as a copy"
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
        for name in entry.names:
            self._failed(name, error)

    def _failed(self, entry: RestoreEntry, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _STOPS:
            kind = TargetFullError if error.errno in _FULL else TargetError
            raise kind(
                f"{os.fsdecode(entry.path)} cannot be written below {self._target.path}: {error.strerror}",
                advice="solve that (make room, for example), then run it again: nothing is retrieved twice",
            ) from error
        self._report(Problem(entry.path, ProblemKind.NOT_SET, f"not restored: {reason(error)}"))
