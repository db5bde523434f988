"""Writes entries below the target: directories, files, special files; metadata of directories last.

Partial files outlive a session of the restore if `synced` was called after a sync: the next session finds
them by their temporary names and goes on. Files are not synced one by one, and what was not synced is written
again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import BinaryIO

from backup.model import Owner, Problem, ProblemKind
from backup.page_cache import forget
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.writer.directories import Target
from backup.restorer.writer.maker import Lent, MakerProcess
from backup.restorer.writer.making import REFUSED, FileMaker
from backup.restorer.writer.metadata import Report
from backup.restorer.writer.owners import Owners
from backup.restorer.writer.partial_files import NEW, inode
from backup.restorer.writer.special import make_special
from backup.restorer.writer.taken import LEFT, TakenDirectories

__all__ = ["Report", "RestoreEntry", "Writer"]

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Writer(FileMaker):
    """Writes the entries of one restore, on one thread; `resumes` a restore that was begun before.

    `has_entered`: an earlier session made directories, whatever it recorded of them. `left` are directories
    that it left to root.
    """

    _target: Target

    def __init__(
        self,
        target: Target,
        report: Report,
        restore_id: str,
        owners: Owners | None = None,
        *,
        resumes: bool = False,
        has_entered: bool = False,
        left: Collection[bytes] = (),
    ) -> None:
        self._restore_id = restore_id
        self._owners = owners or Owners()
        super().__init__(target, report, restore_id, self._owners)
        self._resumes = resumes
        self._has_entered = has_entered or resumes
        self._directories: list[RestoreEntry] = []
        self._taken = TakenDirectories(target, left)
        if not resumes:
            self._parts.clean(target.handle(b""))

    @property
    def directories(self) -> int:
        """Number of directories created or found."""
        return len(self._directories)

    def directory(self, entry: RestoreEntry) -> None:
        """Create a directory now; its metadata is set by `finish`."""
        try:
            handle, was_there = self._target.directory(entry.path, replaces=not entry.on_the_way)
            if was_there and not self._resumes:
                self._parts.clean(handle)
            if was_there and self._stays(entry, handle):
                return
            if was_there:
                made_before = self._has_entered and _is_unfinished(handle)
                owner = self._owners.ids(entry.owner)[0]
                if not self._taken.take(entry.path, owner, made_before=made_before):
                    self._report(Problem(entry.path, ProblemKind.NOT_SET, LEFT))
        except OSError as error:
            self._failed(entry, error)
            return
        self._directories.append(entry)

    def _stays(self, entry: RestoreEntry, handle: int) -> bool:
        """Whether an existing directory keeps its own mode, owner and times.

        One that an earlier session created and did not finish has the mode it was created with: ours alone.
        """
        if self._target.replaces and not entry.on_the_way:
            return False
        return not (self._has_entered and _is_unfinished(handle))

    def takes_as_same(self, directory: bytes, name: bytes, other: bytes) -> bool:
        """Whether the file system treats two names in a directory as one, as without case distinction.

        It is tested with an empty file under a temporary name, which is removed at once.
        """
        stem = self._parts.name_once() + b"-"
        try:
            handle = self._target.handle(directory)
            os.close(os.open(stem + name, NEW, 0o600, dir_fd=handle))
        except OSError as error:
            return error.errno == errno.ENAMETOOLONG  # then the letters in short names are proof enough
        try:
            os.stat(stem + other, dir_fd=handle, follow_symlinks=False)
        except OSError:
            return False
        finally:
            os.unlink(stem + name, dir_fd=handle)
        return True

    def place(self, directory: bytes) -> tuple[int, int] | None:
        """Return device and inode of a directory at the target; None if it cannot be opened."""
        try:
            return inode(os.fstat(self._target.handle(directory)))
        except OSError:
            return None

    def special(self, entry: RestoreEntry) -> None:
        """Create a symlink, FIFO or device, with its hard links."""
        made: int | None = None
        try:
            for name in entry.names:
                try:
                    if made is None:
                        made = self._made(name)
                    elif not self._link(made, name):
                        os.close(self._made(name))
                except REFUSED as error:
                    self._failed(name, error)
        finally:
            if made is not None:
                os.close(made)

    def begun_before(self, key: int, entry: RestoreEntry) -> bool:
        """Resume a file that an earlier session began; False if it is gone."""
        return self._parts.take_up(key, entry)

    def read(self, key: int, offset: int, length: int) -> bytes:
        """Read back the written bytes of a partial file; short or empty if they are missing."""
        try:
            return os.pread(self._parts.file(key), length, offset)
        except OSError:
            return b""

    def finished_before(self, entry: RestoreEntry) -> BinaryIO | None:
        """Open the file under its final name for reading; None if there is none."""
        try:
            handle = os.open(entry.name, _LOOK, dir_fd=self._target.handle(entry.directory))
        except OSError:
            return None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            os.close(handle)
            return None
        forget(handle)  # the cache may show data that never reached the disk
        return open(handle, "rb")

    def lend(self, path: bytes) -> Lent:
        """Open a directory for a worker; the caller closes its handle. OSError if it is gone."""
        return Lent(os.dup(self._target.handle(path)), path, self._target.is_ours(path))

    def second_maker(self, chunk_key: bytes, buffer: int) -> MakerProcess:
        """Start a worker that creates files in the same way. OSError if it cannot be started."""
        replaces = self._target.replaces
        return MakerProcess(
            self._target.path, self._restore_id, replaces=replaces, chunk_key=chunk_key, buffer=buffer
        )

    def ids(self, owner: Owner) -> tuple[int, int]:
        """Return user and group id on this machine."""
        return self._owners.ids(owner)

    def is_in_place(self, entry: RestoreEntry, data: memoryview) -> bool:
        """Whether a file that may not be replaced is already as wanted: a worker just created it."""
        if self._target.replaces:
            return False
        whole = self.finished_before(entry)
        if whole is None:
            return False
        with whole:
            found = os.fstat(whole.fileno())
            is_it = found.st_mtime_ns == entry.mtime_ns and whole.read() == data
        if is_it:
            self._parts.discard(entry)
        return is_it

    def discard(self, entry: RestoreEntry) -> None:
        """Delete leftovers of a dead worker for a file, under its temporary name."""
        self._parts.discard(entry)

    def count(self, names: int, size: int) -> None:
        """Count a file that a worker or an earlier session finished."""
        self.files += names
        self.bytes += size

    def finish(self) -> Callable[[], None]:
        """Set the directories' metadata, deepest first; returns a sync function as `syncing` does."""
        if self._resumes:
            self._parts.clean(self._target.handle(b""))
        systems = {os.fstat(self._target.handle(b"")).st_dev: b""}
        self._taken.report_others({entry.path for entry in self._directories}, self._report)
        for entry in sorted(self._directories, key=lambda entry: entry.path, reverse=True):
            try:
                handle = self._target.handle(entry.path)
                if self._resumes:
                    self._parts.clean(handle)
                systems.setdefault(os.fstat(handle).st_dev, entry.path)
                if entry.path in self._taken.left:
                    continue
                self._metadata.apply(handle, entry)
                self._metadata.lock(handle, entry)
            except OSError as error:
                detail = f"mode, owner and times: {error.strerror}"
                self._report(Problem(entry.path, ProblemKind.NOT_SET, detail))
        return self._target.syncing(systems.values())

    def syncing(self) -> Callable[[], None]:
        """Return a function that syncs everything written so far; call it once, from any thread."""
        systems = {os.fstat(self._target.handle(b"")).st_dev: b""}
        for entry in self._directories:
            with suppress(OSError):  # others replaced it: its contents are lost, and found missing
                systems.setdefault(os.fstat(self._target.handle(entry.path)).st_dev, entry.path)
        return self._target.syncing(systems.values())

    def synced(self) -> None:
        """Record a finished sync: partial files may be kept for a later session."""
        self._parts.keep()

    def abandon(self) -> None:
        """End this session: delete partial files that were not kept."""
        self._parts.abandon()

    def _made(self, entry: RestoreEntry) -> int:
        """Create one symlink, FIFO or device; returns an O_PATH handle."""
        handle = self._target.handle(entry.directory)
        opened: list[int] = []

        def make(name: bytes) -> None:
            opened.append(make_special(handle, name, entry))
            self._metadata.apply(opened[0], entry, opens_nothing=True)

        try:
            self._target.make(handle, entry.name, self._parts.name_once(), make)
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        self.files += 1
        return opened[0]


def _is_unfinished(handle: int) -> bool:
    """Whether a directory is as a restore makes one, and has it until its own owner and mode are set."""
    found = os.fstat(handle)
    return stat.S_IMODE(found.st_mode) == stat.S_IRWXU and found.st_uid == os.geteuid()
