"""Walks a job's sources in a stable order, a directory at a time, by handles and never through a symlink.

    for directory in scan(sources, filters=Filters(), report=problems.append):
        for entry in directory.entries: ...      # read through directory.handle while it is open

A directory is yielded before those in it, and one of very many names in pieces. What could not be listed is
reported and not yielded; names whose status could not be read are in `unread`: neither means that anything
was removed. Directories on the way to a source are yielded too, with only the entries that lead there.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, NamedTuple

from msgspec import Struct

from backup.model import Problem, ProblemKind
from backup.source.filters import Filters, LeftOut, Reason
from backup.source.roots import VOLUME_GONE, VOLUMES, SourceNode, planted, roots_of
from backup.source.scanned import (
    LARGEST_FILE,
    TOO_LARGE,
    ScannedDirectory,
    ScannedEntry,
    are_plain,
    statuses_of,
)

MOST_OPEN = 64  # handles on the way down; those further up are opened again on the way back
NAMES_A_PIECE: Final = 4096  # names that are looked at before they are yielded
_entry = partial(tuple.__new__, ScannedEntry)  # without a call of Python's for each
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Report = Callable[[Problem], None]
LeaveOut = Callable[[LeftOut], None]


_NOTHING = SourceNode()


def scan(
    sources: Sequence[bytes],
    *,
    filters: Filters,
    report: Report,
    overrides: Mapping[bytes, Filters] | None = None,
    places: Mapping[bytes, bytes] | None = None,
    left_out: LeaveOut | None = None,
    most_open: int = MOST_OPEN,
) -> Generator[ScannedDirectory, None, None]:
    """Yield the directories of all sources and those on the way to them, once each, in the order of paths.

    `overrides` are the filters of single sources; of sources that lie in each other, the nearest decides.
    `places`: where sources are whose paths are names only, below a directory that the disk does not have.
    `left_out` is called for each excluded entry. At most `most_open` handles are open on the way down.
    """
    roots = roots_of(sources, filters, overrides or {})
    yield from walk(roots, places or {}, report=report, left_out=left_out, most_open=most_open)


def walk(
    roots: Mapping[bytes, Filters],
    places: Mapping[bytes, bytes],
    *,
    report: Report,
    left_out: LeaveOut | None = None,
    most_open: int = MOST_OPEN,
) -> Generator[ScannedDirectory, None, None]:
    """Same as `scan`, for sources whose paths are real: what became a symlink meanwhile is not followed."""
    top = planted(roots, places)
    handle = os.open(b"/", _DIRECTORY)
    yield from _Walk(report, left_out, most_open).directory(b"/", handle, top)


class _PendingDirectory(NamedTuple):
    """A directory to walk: its name, its identity when its parent was listed, and its node."""

    name: bytes
    device: int
    inode: int
    node: SourceNode


class _Below:
    """The subdirectories that are still to be walked; there may be a million."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._identities = array("Q"), array("Q")
        self._nodes: list[SourceNode] = []

    def append(self, name: bytes, found: os.stat_result, node: SourceNode) -> None:
        """Add a directory, after those that are here."""
        self._names.append(name)
        for values, value in zip(self._identities, _identity(found), strict=True):
            values.append(value)
        self._nodes.append(node)

    def __iter__(self) -> Iterator[_PendingDirectory]:
        return map(_PendingDirectory, self._names, *self._identities, self._nodes)


class _OpenDirectory(Struct):
    """A directory on the way down; `handle` is None while it is closed to save handles."""

    path: bytes
    handle: int | None
    identity: tuple[int, int]
    below: Iterator[_PendingDirectory]
    up: bytes  # by this name one below it leads back to it

    @property
    def prefix(self) -> bytes:
        """The path prefix of its entries."""
        return self.path.rstrip(b"/") + b"/"


class _Walk:
    """The state of one walk: a stack of directories, one a level, the deepest of them open."""

    def __init__(self, report: Report, left_out: LeaveOut | None, most_open: int) -> None:
        self._report = report
        self._most_open = most_open
        self._left_out = left_out
        self._stack: list[_OpenDirectory] = []

    def directory(self, path: bytes, handle: int, node: SourceNode) -> Iterator[ScannedDirectory]:
        """Yield an open directory and all below it; closes every handle, also when the reader stops early."""
        found: tuple[bytes, int, SourceNode] | None = (path, handle, node)
        try:
            while found is not None:
                path, handle, node = found
                yield from self._list(self._push(path, handle, node), handle, node)
                found = self._next()
        finally:
            for level in self._stack:
                if level.handle is not None:
                    os.close(level.handle)

    def _push(self, path: bytes, handle: int, node: SourceNode) -> _OpenDirectory:
        up = node.place if node.place and not node.is_source else b".."
        level = _OpenDirectory(path, handle, _identity(os.fstat(handle)), iter(()), up)
        self._stack.append(level)
        if len(self._stack) > self._most_open:
            far = self._stack[-1 - self._most_open]
            if far.handle is not None:
                os.close(far.handle)
                far.handle = None
        return level

    def _next(self) -> tuple[bytes, int, SourceNode] | None:
        """Open the next directory in order, closing those that are done."""
        while self._stack:
            level = self._stack[-1]
            if level.handle is not None:
                for step in level.below:
                    path = level.prefix + step.name
                    handle = self._open(level.handle, path, step)
                    if handle is not None:
                        return path, handle, step.node
            self._pop()
        return None

    def _pop(self) -> None:
        """Leave the deepest directory; the one above is opened again through it if it was closed."""
        done = self._stack.pop()
        try:
            above = self._stack[-1] if self._stack else None
            if above is None or above.handle is not None:
                return
            if done.handle is not None:
                above.handle = self._reopen(above, done.handle)
            if above.handle is None:
                self._lose(above)
        finally:
            if done.handle is not None:
                os.close(done.handle)

    def _reopen(self, above: _OpenDirectory, below: int) -> int | None:
        try:
            handle = os.open(above.up, _DIRECTORY, dir_fd=below)
        except OSError:
            return None
        if _identity(os.fstat(handle)) == above.identity:
            return handle
        os.close(handle)
        return None

    def _lose(self, level: _OpenDirectory) -> None:
        for step in level.below:
            self._moved(level.prefix + step.name)

    def _open(self, parent: int, path: bytes, step: _PendingDirectory) -> int | None:
        place, identity = step.node.place, (step.device, step.inode)
        try:
            handle = _open_place(place) if place else os.open(step.name, _DIRECTORY, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            self._moved(path)
            return None
        except OSError as error:
            self._unreadable(path, error)
            return None
        if _identity(os.fstat(handle))[bool(place) :] == identity[bool(place) :]:
            return handle
        os.close(handle)
        self._moved(path)
        return None

    def _list(self, level: _OpenDirectory, handle: int, node: SourceNode) -> Iterator[ScannedDirectory]:
        """Yield a directory in pieces, and note its subdirectories."""
        path = level.path
        try:
            names, node = self._names(path, handle, node)
        except OSError as error:
            self._unreadable(path, error)
            return
        device = os.fstat(handle).st_dev
        missing = sorted(node.children.keys() - names) if node.children else []
        for name in missing:
            self._missing(level.prefix + name)
        below = _Below()
        after: bytes | None = None
        takes_files = node.filters is not None and not node.filters.looks and not node.children
        for piece, until in _in_pieces(names):
            unread = set(missing)
            places = node.places_of(piece)
            found = None if places else statuses_of(piece, handle)
            if takes_files and found is not None and are_plain(found):  # most
                entries = list(map(_entry, zip(piece, found, repeat(False))))
            else:
                entries = list(self._one_by_one(level.prefix, handle, piece, found, node, unread))
                for entry in entries:
                    if stat.S_ISDIR(entry.stat.st_mode):
                        wanted = self._node_below(level.prefix + entry.name, node, entry, device)
                        below.append(entry.name, entry.stat, wanted)
            yield ScannedDirectory(path, handle, device, entries, frozenset(unread), after, until, places)
            after = until
        level.below = iter(below)

    def _one_by_one(
        self,
        prefix: bytes,
        handle: int,
        names: Sequence[bytes],
        found: Sequence[os.stat_result] | None,
        node: SourceNode,
        unread: set[bytes],
    ) -> Iterator[ScannedEntry]:
        """The entries of these names; with `found` None their statuses are asked for here."""
        for name, known in zip(names, found or repeat(None, len(names)), strict=True):
            try:
                status = known or node.status(name, handle)
            except OSError as error:
                self._unseen(prefix, name, node, unread, error)
                continue
            if (entry := self._considered(prefix, name, node, status)) is None:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size > LARGEST_FILE:
                unread.add(name)
                self._report(Problem(prefix + name, ProblemKind.UNREADABLE, TOO_LARGE))
                continue
            yield entry

    def _names(self, path: bytes, handle: int, node: SourceNode) -> tuple[list[bytes], SourceNode]:
        """The names to scan in a directory, and its node; in a tagged one only the tag and other sources."""
        if node.filters is None:
            return sorted(node.children), node
        names = _listed(handle)
        if places := node.places_of(node.children):
            names = sorted({*names, *places})
        tag = node.filters.tag_in(handle, names)
        if tag is None:
            return names, node
        self._leave_out(LeftOut(path, Reason.TAG, f"it holds {os.fsdecode(tag.name)} ({tag.origin})"))
        wanted = SourceNode(None, {tag.name: SourceNode(node.filters), **node.children})
        return sorted(wanted.children), wanted

    def _unseen(
        self, prefix: bytes, name: bytes, node: SourceNode, unread: set[bytes], error: OSError
    ) -> None:
        """Record a name whose status could not be read; a vanished file is no error, a missing source is."""
        if not isinstance(error, FileNotFoundError):
            unread.add(name)
            self._unreadable(prefix + name, error)
        elif name in node.children:
            unread.add(name)
            self._missing(prefix + name)

    def _considered(
        self, prefix: bytes, name: bytes, node: SourceNode, found: os.stat_result
    ) -> ScannedEntry | None:
        """The entry, unless it is left out."""
        child = node.children.get(name)
        only_leads_on = child is not None and (node.filters is None or bool(child.place))
        if node.filters is not None and (child is None or child.filters is None):
            left_out = node.filters.leaving_out(prefix, name, found)
            if left_out is not None:
                self._leave_out(left_out)
                if child is None:
                    return None
                only_leads_on = True  # a source inside an excluded directory was named, so it is read
        if stat.S_ISSOCK(found.st_mode):
            self._leave_out(LeftOut(prefix + name, Reason.SOCKET, "sockets are not saved"))
            self._report(Problem(prefix + name, ProblemKind.SKIPPED, "sockets are not saved"))
            return None
        is_source = child is not None and child.filters is not None
        leads_on = only_leads_on and not is_source and stat.S_ISDIR(found.st_mode)
        return ScannedEntry(name, found, leads_on)

    def _node_below(self, path: bytes, node: SourceNode, entry: ScannedEntry, device: int) -> SourceNode:
        """The node of a subdirectory: empty on another file system, if the job keeps to one."""
        child = node.children.get(entry.name, _NOTHING)
        if node.filters is None or child.filters is not None or entry.leads_on:
            return child
        if entry.stat.st_dev != device and node.filters.one_file_system:
            detail = "another file system is mounted on it (one_file_system); saved as an empty directory"
            self._leave_out(LeftOut(path, Reason.FILE_SYSTEM, detail))
            return child
        return SourceNode(node.filters, child.children) if child.children else node.below()

    def _leave_out(self, what: LeftOut) -> None:
        if self._left_out is not None:
            self._left_out(what)

    def _missing(self, path: bytes) -> None:
        detail = VOLUME_GONE if path.startswith(VOLUMES) else "it is not there, and a source needs it"
        self._report(Problem(path, ProblemKind.UNREADABLE, detail))

    def _moved(self, path: bytes) -> None:
        detail = "during the backup it was removed, or something else took its place"
        self._report(Problem(path, ProblemKind.VANISHED, detail))

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self._report(Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error)))


def _open_place(place: bytes) -> int:
    from backup.safe_paths import open_plain  # few jobs read volumes

    return open_plain(os.fsdecode(place))


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _listed(handle: int) -> list[bytes]:
    """The sorted names in a directory; each is held once only."""
    names: list[Any] = os.listdir(handle)
    for start in range(0, len(names), NAMES_A_PIECE):
        piece = "/".join(names[start : start + NAMES_A_PIECE])  # one call for all, not one for each
        names[start : start + NAMES_A_PIECE] = os.fsencode(piece).split(b"/")
    names.sort()
    return names


def _in_pieces(names: list[bytes]) -> Iterator[tuple[list[bytes], bytes | None]]:
    """Pieces of sorted names, each with its last name, but None for the last piece. Empties a long list."""
    if len(names) <= NAMES_A_PIECE:
        yield names, None
        return
    # A fifth of the room. Piece by piece, since a join takes 80 bytes for each thing that it joins.
    starts = range(0, len(names), NAMES_A_PIECE)
    joined = b"/".join([b"/".join(names[at : at + NAMES_A_PIECE]) for at in starts])
    most = len(joined) * NAMES_A_PIECE // len(names)
    names.clear()
    start = 0
    while start < len(joined):
        end = joined.find(b"/", start + most)
        some = joined[start : end if end >= 0 else len(joined)].split(b"/")
        yield some, some[-1] if end >= 0 else None
        start = end + 1 if end >= 0 else len(joined)
