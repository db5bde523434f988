"""Stages the entries that were scanned and read, and reports problems with them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from backup.archiver.contents import Content
from backup.archiver.links import Links
from backup.archiver.read_ahead import SmallFiles
from backup.archiver.staged_changes import StagedChanges
from backup.inventory.content.entries import LiveEntry
from backup.model import Entry, EntryKind, Extra, Hint, Problem, ProblemKind
from backup.source.attributes import extra_of
from backup.source.freshness import is_fresh, surely_old
from backup.source.metadata import ctime_of, described, inode_of, read_entry
from backup.source.read import FileUnreadableError
from backup.source.scanned import ScannedDirectory, ScannedEntry


class EntryStager(Struct, frozen=True):
    """A run's `Taker`, for its own thread.

    `may_be_frozen`: the hook may have made file system snapshots of the sources since `began` (ns); what
    changed after that is read again next time.
    """

    staged: StagedChanges
    links: Links
    report: Callable[[Problem], None]
    stamps: Callable[[], int]
    began: int
    may_be_frozen: bool

    def small_read(self, files: SmallFiles) -> None:
        """Stage new plain files together; those with special attributes are staged by `file_read`."""
        since = min(files.looked_at, self.began) if self.may_be_frozen else files.looked_at
        plain = self._plain_of(files, since)
        self.staged.add_files(files, plain)
        if len(plain) < len(files.rows):
            for index in sorted(set(range(len(files.rows))).difference(plain)):
                row = files.rows[index]
                self.file_read(files.path(row), files.lives[row], files.content(index))

    def _plain_of(self, files: SmallFiles, since: int) -> Sequence[int]:
        """The indexes of rows that are new files without attributes, and surely older than that (ns)."""
        limit, found = surely_old(since), files.found
        every = range(len(files.rows))
        are_old = max(found.ctimes) < limit and max(found.mtimes) < limit
        if are_old and not files.attributes and not any(files.lives):
            return every
        return [
            index
            for index, row in zip(every, files.rows, strict=True)
            if files.lives[row] is None
            and row not in files.attributes
            and found.ctimes[row] < limit
            and found.mtimes[row] < limit
        ]

    def file_read(self, path: bytes, live: LiveEntry | None, content: Content) -> None:
        """Stage a file with its attributes."""
        directory, _, name = path.rpartition(b"/")
        extra = extra_of(content.attributes, link=self.links.number(content.found))
        if content.holes:
            extra = replace(extra or Extra(), holes=content.holes)
        entry = described(directory or b"/", name, content.found, size=content.size, extra=extra)
        self._lacks(path, content.attributes.trouble)
        hint = _hint_of(content.found, 0)
        if content.changed:
            detail = "it changed while it was read, twice; saved as read"
            self.report(Problem(path, ProblemKind.CHANGED, detail))
        proves_nothing = content.changed or content.is_fresh or content.attributes.trouble
        if proves_nothing or self._has_moved_on(content.found):
            hint = Hint()  # so that it is read again next time
        self._add(entry, hint, live, content)

    def file_lost(self, path: bytes, error: FileUnreadableError) -> None:
        """Report that a file could not be read, or vanished; its last version stays."""
        self._lost(path, str(error), has_vanished=error.has_vanished)

    def no_file(self, directory: ScannedDirectory, scanned: ScannedEntry, live: LiveEntry | None) -> None:
        """Stage an entry that is not a regular file."""
        path = directory.prefix + scanned.name
        link = self.links.number(scanned.stat)
        try:
            at, place = directory.path, directory.places.get(scanned.name, b"")
            entry, trouble = read_entry(at, directory.handle, scanned, link=link, place=place)
        except OSError as error:
            vanished = error.errno in {errno.ENOENT, errno.EINVAL}  # EINVAL: no symlink any more
            self._lost(path, error.strerror or str(error), has_vanished=vanished)
            return
        if live is not None and scanned.leads_on and live.kind == entry.kind:
            entry = entry._replace(mtime_ns=live.mtime_ns)
        self._lacks(path, trouble)
        hint = _hint_of(scanned.stat, directory.device)
        if trouble or is_fresh(scanned.stat, self.began, self.stamps()):
            hint = Hint(is_mount=hint.is_mount)
        self._add(entry, hint, live)

    def _has_moved_on(self, found: os.stat_result) -> bool:
        """Whether the hook may have frozen this file, which changed again within the same tick."""
        return self.may_be_frozen and is_fresh(found, self.began, self.stamps())

    def _add(self, entry: Entry, hint: Hint, live: LiveEntry | None, content: Content | None = None) -> None:
        if live is not None and live.kind == EntryKind.DIRECTORY and entry.kind is not EntryKind.DIRECTORY:
            self.staged.remove(entry.path, live, is_directory=True)
            live = None
        self.staged.add(
            entry,
            hint,
            replaces=live,
            content_id=content.content_id if content else None,
            chunks=content.chunks if content else None,
        )

    def _lacks(self, path: bytes, trouble: str) -> None:
        if trouble:
            self.report(
                Problem(path, ProblemKind.UNREADABLE, f"saved without what could not be read: {trouble}")
            )

    def _lost(self, path: bytes, reason: str, *, has_vanished: bool) -> None:
        kind = ProblemKind.VANISHED if has_vanished else ProblemKind.UNREADABLE
        self.report(Problem(path, kind, reason))


def _hint_of(found: os.stat_result, device_above: int) -> Hint:
    """The hint by which the next run recognises the entry as unchanged."""
    is_mount = stat.S_ISDIR(found.st_mode) and found.st_dev != device_above
    return Hint(inode_of(found), ctime_of(found), is_mount)
