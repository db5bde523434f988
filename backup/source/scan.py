"""Walk a job's sources in a stable order, a directory at a time, by handles and never through a symlink.

    for directory in scan(sources, filters=Filters(), report=problems.append):
        for entry in directory.entries: ...      # read through directory.handle while it is open

A directory is yielded before those in it. What could not be listed is reported and not yielded; names that
could not be looked at are in `unread`: neither means that anything is gone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from backup.model import Problem, ProblemKind
from backup.source.filters import CACHE_TAG, Filters

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Report = Callable[[Problem], None]


class ScannedEntry(NamedTuple):
    """An entry as the system showed it, not followed if it is a symlink."""

    name: bytes
    stat: os.stat_result


@dataclass(frozen=True, slots=True)
class ScannedDirectory:
    """A directory that was listed; `handle` is open only until the next one is asked for."""

    path: bytes
    handle: int
    entries: Sequence[ScannedEntry]
    unread: frozenset[bytes]


@dataclass(slots=True)
class _Node:
    """A step on the way to sources: either a source, or a directory of which only `children` count."""

    is_source: bool = False
    children: dict[bytes, _Node] = field(default_factory=dict)


def scan(sources: Sequence[bytes], *, filters: Filters, report: Report) -> Iterator[ScannedDirectory]:
    """Yield the directories of all sources and those on the way to them, once each, in the order of paths."""
    root = _Node()
    for source in sources:
        _plant(root, _resolved(source))
    handle = os.open(b"/", _DIRECTORY)
    yield from _Walk(filters, report).directory(b"/", handle, root)


def _resolved(source: bytes) -> bytes:
    """The source with its parent's symlinks resolved: entries then lie where they really are."""
    path = os.path.normpath(source)
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)


def _plant(root: _Node, path: bytes) -> None:
    node = root
    for part in path.split(b"/"):
        if part:
            node = node.children.setdefault(part, _Node())
    node.is_source = True


class _Walk:
    """The state of one walk: a stack of open directories, one a level."""

    def __init__(self, filters: Filters, report: Report) -> None:
        self._filters = filters
        self._report = report

    def directory(self, path: bytes, handle: int, node: _Node) -> Iterator[ScannedDirectory]:
        """Yield an open directory and all below it; closes every handle, also when the reader stops early."""
        stack: list[tuple[int, Iterator[tuple[bytes, ScannedEntry, _Node]]]] = []
        try:
            while True:
                listed = self._list(path, handle, node)
                stack.append((handle, iter(())))
                if listed is not None:
                    scanned, below = listed
                    stack[-1] = (handle, iter(below))
                    yield scanned
                found = self._next(stack)
                if found is None:
                    return
                path, handle, node = found
        finally:
            for open_handle, _ in stack:
                os.close(open_handle)

    def _next(
        self, stack: list[tuple[int, Iterator[tuple[bytes, ScannedEntry, _Node]]]]
    ) -> tuple[bytes, int, _Node] | None:
        """Open the next directory in order, closing those that are done."""
        while stack:
            parent, below = stack[-1]
            for path, entry, node in below:
                handle = self._open(parent, path, entry)
                if handle is not None:
                    return path, handle, node
            os.close(stack.pop()[0])
        return None

    def _open(self, parent: int, path: bytes, entry: ScannedEntry) -> int | None:
        try:
            handle = os.open(entry.name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            self._unreadable(path, error)
            return None
        found = os.fstat(handle)
        if (found.st_dev, found.st_ino) == (entry.stat.st_dev, entry.stat.st_ino):
            return handle
        os.close(handle)
        self._report(
            Problem(path, ProblemKind.VANISHED, "another directory took its place during the backup")
        )
        return None

    def _list(
        self, path: bytes, handle: int, node: _Node
    ) -> tuple[ScannedDirectory, list[tuple[bytes, ScannedEntry, _Node]]] | None:
        try:
            names = self._names(handle, node)
        except OSError as error:
            self._unreadable(path, error)
            return None
        entries: list[ScannedEntry] = []
        below: list[tuple[bytes, ScannedEntry, _Node]] = []
        unread: set[bytes] = set()
        device = os.fstat(handle).st_dev
        prefix = path.rstrip(b"/") + b"/"
        for name in names:
            entry = self._look(handle, prefix, name, node, unread)
            if entry is None:
                continue
            entries.append(entry)
            if stat.S_ISDIR(entry.stat.st_mode) and self._enters(entry, device, node):
                below.append((prefix + name, entry, self._node_below(node, name)))
        return ScannedDirectory(path, handle, entries, frozenset(unread)), below

    def _names(self, handle: int, node: _Node) -> list[bytes]:
        if not node.is_source:
            return sorted(node.children)
        if self._filters.is_cache(handle):
            return [os.fsencode(CACHE_TAG)]
        return sorted(os.fsencode(name) for name in os.listdir(handle))

    def _look(
        self, handle: int, prefix: bytes, name: bytes, node: _Node, unread: set[bytes]
    ) -> ScannedEntry | None:
        try:
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError as error:
            if not node.is_source:  # a source that is missing is an error; a file that has gone is none
                unread.add(name)
                self._unreadable(prefix + name, error)
            return None
        except OSError as error:
            unread.add(name)
            self._unreadable(prefix + name, error)
            return None
        is_directory = stat.S_ISDIR(found.st_mode)
        if node.is_source and self._filters.excludes(prefix, name, is_directory=is_directory):
            return None
        if stat.S_ISSOCK(found.st_mode):
            self._report(Problem(prefix + name, ProblemKind.SKIPPED, "sockets are not saved"))
            return None
        return ScannedEntry(name, found)

    def _enters(self, entry: ScannedEntry, device: int, node: _Node) -> bool:
        crosses = node.is_source and entry.stat.st_dev != device
        return not (crosses and self._filters.one_file_system)

    def _node_below(self, node: _Node, name: bytes) -> _Node:
        return node if node.is_source else node.children[name]

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self._report(Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error)))
