"""Leaves out entries whose names are the same to the target, which can hold only one of them.

A file system that ignores case treats such names as the same. The entry that stays, or is made first, wins;
each other is reported, so that a restore never silently replaces its own files. Directories with such names
become one, with the content of both.
"""

from __future__ import annotations

from collections.abc import Iterator

from backup.model import Problem, ProblemKind
from backup.restorer.selection.alike import folded
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.selection.select import Selection
from backup.restorer.writer.metadata import Report
from backup.restorer.writer.write import Writer
from backup.wording import shown_path


class LeftOut:
    """The entries left out of a selection, once its directories exist; tests the target only if necessary."""

    def __init__(self, selection: Selection, writer: Writer, report: Report) -> None:
        self._selection = selection
        self._writer = writer
        self._report = report
        self._alike = selection.alike
        self._first: dict[bytes, list[bytes]] = {}  # paths by what they may be to the target
        if not any(map(self._ignores_case, self._alike.directories)):
            self._alike.directories.clear()
        for path in self._alike.stays:
            self._first.setdefault(folded(path), []).append(path)
        for entry in selection.directories if self._alike.directories else ():
            other = self._other(entry)
            if other is not None:
                detail = f"the target takes it and {shown_path(other)} for one: that holds what both have"
                report(Problem(entry.path, ProblemKind.NOT_SET, detail))

    def files(self) -> Iterator[int]:
        """Yield the keys of files that are left out; others may lose some of their hard links."""
        entries = self._selection.files.entries
        for key, entry in enumerate(entries) if self._alike.directories else ():
            left = self._left(entry)
            if left is None:
                yield key
            elif left is not entry:
                entries.change(key, left)

    def specials(self) -> Iterator[RestoreEntry]:
        """Yield the special files to make."""
        for entry in self._selection.specials:
            left = self._left(entry) if self._alike.directories else entry
            if left is not None:
                yield left

    def _left(self, entry: RestoreEntry) -> RestoreEntry | None:
        """An entry without the names that are those of others; None if it has no other name."""
        names = []
        for name in entry.names:
            other = self._other(name)
            if other is None:
                names.append(name)
                continue
            detail = f"the target takes it and {shown_path(other)} for one file, and has that; not restored"
            self._report(Problem(name.path, ProblemKind.NOT_SET, detail))
        if len(names) == 1 + len(entry.links):
            return entry
        return names[0]._replace(links=tuple(names[1:])) if names else None

    def _other(self, entry: RestoreEntry) -> bytes | None:
        """The path that is there already and the same to the target; else the entry's is noted as there."""
        if not self._alike.may_meet(entry.directory):
            return None
        met = self._first.setdefault(folded(entry.path), [])
        for path in met:
            if self._is_same(path, entry):
                return path
        met.append(entry.path)
        return None

    def _is_same(self, path: bytes, entry: RestoreEntry) -> bool:
        directory, _, name = path.rpartition(b"/")
        if directory != entry.directory:
            here = self._writer.place(directory)
            if here is None or here != self._writer.place(entry.directory):
                return False
            if name == entry.name:
                return True
        return name != entry.name and self._writer.takes_as_same(directory, name, entry.name)

    def _ignores_case(self, directory: bytes) -> bool:
        return self._writer.takes_as_same(directory, b"a", b"A")
