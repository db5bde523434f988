"""Partial files: begun and incomplete, under temporary names beside their final ones; few are open at once.

The temporary name, `.nightvault-<restore>-…`, is the same in each session of a restore for the same entry.

Writes of a large file are flushed to disk at once and dropped from the page cache: no sync has to wait for
gigabytes, and other programs' cached data stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from backup.model import MIB
from backup.page_cache import forget
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.writer.directories import Directories, step

MOST_OPEN = 64
_STEP: Final = 8 * MIB  # bytes of a large file: written, then flushed, then dropped from the cache
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class PartialFile(NamedTuple):
    """A file that was begun; `found` is its status then, by whose inode it is recognised later.

    `is_new`: begun in this session, so the directory's inherited attributes are those of now.
    """

    entry: RestoreEntry
    temporary: bytes
    found: os.stat_result
    is_new: bool = True


@dataclass(slots=True)
class _Written:
    """The write-back state of a large file: the stretch being flushed (start, length), and the bounds and
    size of what was written since.
    """

    leaving: tuple[int, int] | None
    start: int
    end: int
    size: int = 0


class PartialFiles:
    """The partial files by the caller's key; for use from one thread."""

    def __init__(self, target: Directories, restore_id: str) -> None:
        self._target = target
        self._prefix = b".nightvault-" + restore_id.encode() + b"-"
        self._parts: dict[int, PartialFile] = {}
        self._open: OrderedDict[int, int] = OrderedDict()
        self._kept: set[int] = set()
        self._written: dict[int, _Written] = {}

    def __getitem__(self, key: int) -> PartialFile:
        return self._parts[key]

    def make(self, key: int, entry: RestoreEntry) -> int:
        """Create an empty file readable only by us; returns its handle. OSError if that fails."""
        handle = self._target.handle(entry.directory)
        step(entry.name)
        temporary = self.name_for(entry)
        try:
            file = os.open(temporary, NEW, 0o600, dir_fd=handle)
        except FileExistsError:  # a useless rest of an earlier session
            os.unlink(temporary, dir_fd=handle)
            file = os.open(temporary, NEW, 0o600, dir_fd=handle)
        self._hold(key, PartialFile(entry, temporary, os.fstat(file)), file)
        return file

    def take_up(self, key: int, entry: RestoreEntry) -> bool:
        """Resume a file that an earlier session began; False if it is gone."""
        temporary = self.name_for(entry)
        try:
            file = os.open(temporary, _AGAIN, dir_fd=self._target.handle(entry.directory))
        except OSError:
            return False
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            os.close(file)
            return False
        forget(file)  # the cache may show data that never reached the disk
        self._hold(key, PartialFile(entry, temporary, found, is_new=False), file)
        self._kept.add(key)
        return True

    def file(self, key: int) -> int:
        """The file's handle, valid until the next call. OSError if the file is gone."""
        opened = self._open.get(key)
        if opened is not None:
            self._open.move_to_end(key)
            return opened
        part = self._parts[key]
        file = os.open(part.temporary, _AGAIN, dir_fd=self._target.handle(part.entry.directory))
        if inode(os.fstat(file)) != inode(part.found):
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, "its temporary file was replaced by another")
        self._keep_open(key, file)
        return file

    def wrote(self, key: int, start: int, end: int) -> None:
        """Note that bytes `start` to `end` of a file were written."""
        if self._parts[key].entry.size < _STEP:
            return
        written = self._written.setdefault(key, _Written(None, start, end))
        written.start, written.end = min(written.start, start), max(written.end, end)
        written.size += end - start
        if written.size >= _STEP:
            start, length = written.start, written.end - written.start
            if written.leaving is not None:
                forget(self.file(key), *written.leaving)
            forget(self.file(key), start, length)
            self._written[key] = _Written((start, length), end, end)

    def release(self, key: int) -> int:
        """Close the handle used for writing; returns a new one, which the caller closes.

        OSError if the data cannot be stored: some file systems report that only on close.
        """
        kept = os.dup(self.file(key))
        if self._written.pop(key, None):
            forget(kept)
        try:
            os.close(self._open.pop(key))
        except OSError:
            os.close(kept)
            raise
        return kept

    def forget(self, key: int) -> None:
        """Drop the record of a file that has its final name."""
        del self._parts[key]
        self._kept.discard(key)

    def give_up(self, key: int) -> RestoreEntry:
        """Delete a partial file; returns its entry."""
        part = self._parts.pop(key)
        self._kept.discard(key)
        self._written.pop(key, None)
        with suppress(OSError):  # only a temporary file; its entry is reported
            if key in self._open:
                os.close(self._open.pop(key))
            os.unlink(part.temporary, dir_fd=self._target.handle(part.entry.directory))
        return part.entry

    def discard(self, entry: RestoreEntry) -> None:
        """Delete leftovers of another process for a file."""
        with suppress(OSError):
            os.unlink(self.name_for(entry), dir_fd=self._target.handle(entry.directory))

    def keep(self) -> None:
        """Keep the partial files for a later session."""
        self._kept.update(self._parts)

    def abandon(self) -> None:
        """End this session: delete partial files that were not kept."""
        for key in list(self._parts):
            if key not in self._kept:
                self.give_up(key)
        for file in self._open.values():
            os.close(file)
        self._open.clear()
        self._parts.clear()

    def clean(self, handle: int) -> None:
        """Delete leftovers of earlier sessions of this restore in a directory."""
        with suppress(OSError):  # a real failure occurs again on writing, and is reported there
            for name in map(os.fsencode, os.listdir(handle)):
                if name.startswith(self._prefix):
                    os.unlink(name, dir_fd=handle)

    def name_for(self, entry: RestoreEntry) -> bytes:
        """The temporary name of a file."""
        return self._prefix + blake2b(entry.name, digest_size=10).hexdigest().encode()

    def name_once(self) -> bytes:
        """A temporary name for a file that is written in one step."""
        return self._prefix + os.urandom(6).hex().encode()

    def _hold(self, key: int, part: PartialFile, file: int) -> None:
        self._parts[key] = part
        self._keep_open(key, file)

    def _keep_open(self, key: int, file: int) -> None:
        self._open[key] = file
        while len(self._open) > MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])


def inode(found: os.stat_result) -> tuple[int, int]:
    """Device and inode number: identifies a file among all that exist at the same time."""
    return found.st_dev, found.st_ino
