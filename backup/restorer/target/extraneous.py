"""Extraneous entries: those below restored directories that the snapshot does not have (rsync's `--delete`).

They are listed before the restore, and only listed ones are removed. Listed are only entries of directories
that were chosen as a whole and lie at or below the snapshot's sources: nothing is judged that no job ever
read. Excluded by patterns, unreadable at backup time, on other file systems, nightvault's own state, or a
vault: these stay.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Final

from backup.files import mount_of
from backup.inventory.entries import ROOT, EntryRow
from backup.inventory.snapshots import Snapshot
from backup.model import Problem, ProblemKind
from backup.restorer.selection.alike import folded
from backup.restorer.selection.choice import Sieve, is_below
from backup.restorer.target.confirmed import Confirmed
from backup.restorer.target.existing import Existing
from backup.restorer.target.metadata import Report, reason
from backup.vault.marker import MARKER

_OURS: Final = b".nightvault-"
_MARKER: Final = MARKER.encode()
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_Mount = tuple[int, str]  # a device, and a mount of it


class ExtraneousFinder:
    """Finds the extraneous entries of the directories that were chosen whole, below a target.

    `chosen` directories and `spared` paths are absolute, as the snapshot would have them, and so are the
    mount points `entered`: those whose file systems the snapshot holds something of. Each topmost chosen
    directory is judged on its own file system alone, and only where the way to it leads over no other mount
    than these: a disk that was mounted since, or that the job did not enter, is none of the snapshot's.
    """

    def __init__(
        self,
        existing: Existing,
        base: bytes,
        chosen: Iterable[bytes],
        snapshot: Snapshot,
        sieve: Sieve,
        spared: Iterable[bytes],
        entered: Container[bytes],
    ) -> None:
        self.crossed: list[
            bytes
        ] = []  # mount points on the way to judged directories, relative to the target
        self.left: list[bytes] = []  # directories below the target that are other mounts, and left alone
        self._existing = existing
        self._stem = base.rstrip(b"/")
        self._chosen = {path for path in chosen if any(is_below(path, source) for source in snapshot.sources)}
        self._sieve = sieve
        self._kept = [*spared, *(problem.path for problem in snapshot.problems)]
        self._entered = entered
        self._mounts: dict[bytes, _Mount | None] = {}  # of each topmost chosen directory; None: left alone

    def find(self, rows: Iterable[tuple[bytes, EntryRow]]) -> Iterator[bytes]:
        """Extraneous paths relative to the target; the content of a directory before the directory.

        `rows` are the snapshot's below its base, by directory.
        """
        judged = set(self._chosen)
        for directory, some in groupby(rows, itemgetter(0)):
            if directory in judged:
                judged.discard(directory)
                yield from self._extraneous_in(directory, {row.name for _, row in some})
        for directory in sorted(judged):
            yield from self._extraneous_in(directory, set())

    def _extraneous_in(self, directory: bytes, names: set[bytes]) -> Iterator[bytes]:
        relative = directory[len(self._stem) :].removeprefix(b"/")
        top = self._mount_of_tree(directory)
        handle = None if top is None else self._existing.directory(relative)
        if handle is None:
            return
        if _mount(handle) != top:
            self._leave(relative)
            return
        there = sorted(map(os.fsencode, os.listdir(handle)))
        self._spare_vault(directory, there)
        others: dict[bytes, bytes] | None = None
        for name in there:
            if name in names or name.startswith(_OURS):
                continue
            if others is None:
                others = {folded(other): other for other in names.difference(there)}
            if _is_there(handle, others.get(folded(name))):
                continue  # by another name that is this one's: the file system ignores case
            found: list[bytes] = []
            self._list(handle, name, directory, found)
            yield from (_join(relative, path) for path in found)

    def _mount_of_tree(self, directory: bytes) -> _Mount | None:
        """Device and mount of the topmost chosen directory at or above one; None if it is left alone."""
        top = directory
        for path in _above(directory):
            if path in self._chosen:
                top = path
        if top not in self._mounts:
            self._mounts[top] = self._reached(top[len(self._stem) :].removeprefix(b"/"))
        return self._mounts[top]

    def _reached(self, relative: bytes) -> _Mount | None:
        """Device and mount of a directory, reached over no mount but entered ones; None if there is none."""
        crossed: list[bytes] = []
        here: _Mount | None = None
        for path, mount in _way(self._existing, relative):
            if mount is None:
                return None
            if here is not None and mount != here:
                if self._stem + b"/" + path not in self._entered:
                    self._leave(path)
                    return None
                crossed.append(path)
            here = mount
        self.crossed += (path for path in crossed if path not in self.crossed)
        return here

    def _leave(self, relative: bytes) -> None:
        if not any(is_below(relative, path) for path in self.left):
            self.left.append(relative)

    def _spare_vault(self, directory: bytes, there: Sequence[bytes]) -> bool:
        """Whether a directory with these entries is some nightvault's vault: nothing of it goes."""
        if _MARKER not in there:
            return False
        self._kept.append(directory)
        return True

    def _list(self, above: int, name: bytes, directory: bytes, found: list[bytes]) -> bool:
        """Add what can go of an entry to `found`, contents first; returns if the entry itself can go."""
        path = _join(directory.rstrip(b"/") + b"/", name)
        try:
            there = os.stat(name, dir_fd=above, follow_symlinks=False)
            is_directory = stat.S_ISDIR(there.st_mode)
            if there.st_dev != os.fstat(above).st_dev or any(is_below(path, kept) for kept in self._kept):
                return False
            if not self._sieve.takes_name(directory, name, is_directory=is_directory):
                return False
            if is_directory and not self._list_below(above, name, path, found):
                return False
        except OSError:
            return False
        found.append(name)
        return True

    def _list_below(self, above: int, name: bytes, path: bytes, found: list[bytes]) -> bool:
        handle = os.open(name, _STEP, dir_fd=above)
        try:
            if mount_of(handle) != mount_of(above):
                return False
            inner = sorted(map(os.fsencode, os.listdir(handle)))
            if self._spare_vault(path, inner):
                return False
            below: list[bytes] = []
            all_go = [self._list(handle, entry, path, below) for entry in inner]
            found.extend(_join(name, entry) for entry in below)
            return all(all_go)
        finally:
            os.close(handle)


def _is_there(handle: int, name: bytes | None) -> bool:
    try:
        return name is not None and bool(os.stat(name, dir_fd=handle, follow_symlinks=False))
    except OSError:
        return False


def remove_extraneous(existing: Existing, confirmed: Confirmed, report: Report) -> int:
    """Remove the paths that were listed and confirmed; returns how many. Failures are reported.

    Nothing is removed where another file system was mounted since.
    """
    removed = 0
    for directory, paths in groupby(confirmed.extraneous, lambda path: path.rpartition(b"/")[0]):
        if not _leads_where_it_led(existing, directory, confirmed.crossed):
            why = "not removed: another file system was mounted there since you were asked"
            for path in paths:
                report(Problem(path, ProblemKind.NOT_SET, why))
            continue
        handle = existing.directory(directory)
        for path in paths if handle is not None else ():
            name = path.rpartition(b"/")[2]
            try:
                there = os.stat(name, dir_fd=handle, follow_symlinks=False)
                (os.rmdir if stat.S_ISDIR(there.st_mode) else os.unlink)(name, dir_fd=handle)
                removed += 1
            except OSError as error:
                if error.errno != errno.ENOENT:
                    report(Problem(path, ProblemKind.NOT_SET, f"not removed: {reason(error)}"))
    return removed


def _leads_where_it_led(existing: Existing, directory: bytes, crossed: Container[bytes]) -> bool:
    """Whether the way to a directory leads over no other mounts than when its entries were listed."""
    here: _Mount | None = None
    for path, mount in _way(existing, directory):
        if mount is None:
            return True  # it is gone, and so is what was listed in it
        if here is not None and mount != here and path not in crossed:
            return False
        here = mount
    return True


def _way(existing: Existing, relative: bytes) -> Iterator[tuple[bytes, _Mount | None]]:
    """The target and each directory on the way to one, with its mount: None if it is not there."""
    steps = relative.split(b"/") if relative else []
    for depth in range(len(steps) + 1):
        path = b"/".join(steps[:depth])
        handle = existing.directory(path)
        yield path, None if handle is None else _mount(handle)


def _mount(handle: int) -> _Mount:
    """Device and mount of an open directory; the device alone where the mount cannot be told."""
    return os.fstat(handle).st_dev, mount_of(handle)


def spared_below(base: bytes, target: bytes, paths: Iterable[str]) -> Iterator[bytes]:
    """Paths of this machine that lie below the target, translated to paths of the snapshot."""
    top = os.path.realpath(target)
    for path in paths:
        with suppress(OSError):
            real = os.path.realpath(os.fsencode(path))
            if is_below(real, top):
                rest = real[len(top.rstrip(b"/")) :].removeprefix(b"/")
                yield _join(base.rstrip(b"/") + b"/", rest)


def _above(path: bytes) -> Iterator[bytes]:
    """The directories above a path, up to the root."""
    while path not in {ROOT, b""}:
        path = path.rpartition(b"/")[0] or ROOT
        yield path


def _join(stem: bytes, rest: bytes) -> bytes:
    return stem + rest if not stem or stem.endswith(b"/") else stem + b"/" + rest
