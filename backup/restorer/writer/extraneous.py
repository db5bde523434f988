"""Extraneous entries: those below restored directories that the snapshot does not have (rsync's `--delete`).

They are listed before the restore, and only listed ones are removed. Listed are only entries of directories
that were chosen as a whole and lie at or below the snapshot's sources, by their real paths at that time:
nothing is removed where no job ever read. Excluded by patterns, unreadable at backup time, on other file
systems, nightvault's own state, or a vault: these stay.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from msgspec import Struct

from backup.inventory.content.entries import ROOT, EntryRow
from backup.inventory.content.snapshots import Snapshot
from backup.model import EntryKind, Problem, ProblemKind
from backup.restorer.selection.alike import folded
from backup.restorer.selection.choice import Sieve, is_below
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.writer.confirmed import Confirmed, Identity
from backup.restorer.writer.existing import Existing
from backup.restorer.writer.metadata import Report, reason
from backup.restorer.writer.trail import Mount, Trail, mount_at
from backup.vault.marker import MARKER

_OURS: Final = b".nightvault-"
_MARKER: Final = MARKER.encode()
_LONGEST: Final = 4096  # bytes of a path below the target, as the kernel's
_SHOWN_STEPS: Final = 8


Place = tuple[int, int]
"""Device and inode of a directory, by whichever path it is reached."""


class Listed(NamedTuple):
    """An extraneous entry: its path relative to the target, and its identity."""

    path: bytes
    identity: Identity


class _ComparedDirectory(Struct):
    """A directory being searched, by its path in the snapshot: remaining names, and whether it can go."""

    path: bytes
    names: Iterator[bytes]
    goes: bool = True


class ExtraneousFinder:
    """Finds the extraneous entries of the directories that were chosen whole, below a target.

    `chosen` directories and `spared` paths are absolute, as the snapshot would have them, and so are the
    mount points `entered`: those whose file systems the snapshot holds something of. Each topmost chosen
    directory is searched only on its own file system, and only if the way to it crosses no other mount than
    these: a disk that was mounted since, or that the job did not enter, is not part of the snapshot.
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
        own: Container[Place] = frozenset(),
    ) -> None:
        self.crossed: list[
            bytes
        ] = []  # mount points on the way to judged directories, relative to the target
        self.too_deep: list[bytes] = []  # the first steps of paths that are longer than may be
        self.homeless: bytes | None = None  # a directory of which the inventory has entries, and no own one
        self.left: list[bytes] = []  # directories below the target that are other mounts, and left alone
        self._existing = existing
        self._stem = base.rstrip(b"/")
        self._chosen = {path for path in chosen if any(is_below(path, top) for top in snapshot.tops)}
        self._sieve = sieve
        self._kept = [*spared, *(problem.path for problem in snapshot.problems)]
        self._entered = entered
        self._own = own
        self._mounts: dict[bytes, Mount | None] = {}  # of each topmost chosen directory; None: left alone

    def find(self, rows: Iterable[tuple[bytes, EntryRow]]) -> Iterator[Listed]:
        """Yield extraneous entries below the target; the content of a directory before the directory.

        `rows` are the snapshot's below its base, by directory.
        """
        judged, known = set(self._chosen), {self._stem or ROOT}
        for directory, pairs in groupby(rows, itemgetter(0)):
            here = [row for _, row in pairs]
            stem = directory.rstrip(b"/") + b"/"
            known.update(stem + row.name for row in here if row.kind == EntryKind.DIRECTORY)
            if directory not in known and not self._chosen.isdisjoint(_above(directory)):
                self.homeless = self.homeless or directory
            if directory in judged:
                judged.discard(directory)
                yield from self._extraneous_in(directory, {row.name for row in here})
        for directory in sorted(judged):
            yield from self._extraneous_in(directory, set())

    def _extraneous_in(self, directory: bytes, names: set[bytes]) -> Iterator[Listed]:
        relative = directory[len(self._stem) :].removeprefix(b"/")
        top = self._mount_of_tree(directory)
        handle = None if top is None else self._existing.directory(relative)
        if handle is None:
            return
        if mount_at(handle) != top:
            self._leave(relative)
            return
        there = sorted(map(os.fsencode, os.listdir(handle)))
        if _MARKER in there:
            self._kept.append(directory)
        others: dict[bytes, bytes] | None = None
        extraneous: list[bytes] = []
        for name in there:
            if name in names or name.startswith(_OURS):
                continue
            if others is None:
                others = {folded(other): other for other in names.difference(there)}
            if not _is_there(handle, others.get(folded(name))):
                extraneous.append(name)  # else it is that one: the file system ignores case
        if extraneous:
            with Trail(handle) as trail:
                yield from self._list(trail, _ComparedDirectory(directory, iter(extraneous)))

    def _mount_of_tree(self, directory: bytes) -> Mount | None:
        """Device and mount of the topmost chosen directory at or above one; None if it is left alone."""
        top = directory
        for path in _above(directory):
            if path in self._chosen:
                top = path
        if top not in self._mounts:
            self._mounts[top] = self._reached(top[len(self._stem) :].removeprefix(b"/"))
        return self._mounts[top]

    def _reached(self, relative: bytes) -> Mount | None:
        """Device and mount of a directory, reached over no mount but entered ones; None if there is none."""
        crossed: list[bytes] = []
        here: Mount | None = None
        for path, mount in _way(self._existing, relative):
            if mount is None:
                return None
            handle = self._existing.directory(path)
            if handle is not None and _is_there(handle, _MARKER):
                self._kept.append(_join(self._stem + b"/", path).rstrip(b"/") or ROOT)
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

    def _list(self, trail: Trail, level: _ComparedDirectory) -> Iterator[Listed]:
        """Those of some entries that can go, of the directory that the trail begins in, contents first."""
        levels = [level]
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is not None:
                below = self._judged(trail, level, name)
                if isinstance(below, Listed):
                    yield below
                elif below is not None:
                    levels.append(below)
                continue
            levels.pop()
            if not levels:
                return
            done = trail.identity
            if not trail.up():  # it was moved meanwhile
                del levels[1:]
            elif level.goes:
                yield self._listed(trail, level.path, done[1])
                continue
            levels[-1].goes = False

    def _judged(
        self, trail: Trail, level: _ComparedDirectory, name: bytes
    ) -> Listed | _ComparedDirectory | None:
        """Return an entry that can go, or the directory to search, which was entered; None if it stays."""
        path = _join(level.path.rstrip(b"/") + b"/", name)
        try:
            there = os.stat(name, dir_fd=trail.handle, follow_symlinks=False)
            is_directory = stat.S_ISDIR(there.st_mode)
            if there.st_dev == trail.identity[0] and self._may_go(level.path, name, path, is_directory):
                if not is_directory:
                    return self._listed(trail, path, there.st_ino)
                is_own = _place_of(there) in self._own
                if not is_own and (inner := self._names_below(trail, name, path)) is not None:
                    return _ComparedDirectory(path, iter(inner))
        except OSError:
            pass
        level.goes = False
        return None

    def _may_go(self, directory: bytes, name: bytes, path: bytes, is_directory: bool) -> bool:
        if any(is_below(path, kept) for kept in self._kept):
            return False
        if not self._sieve.takes_name(directory, name, is_directory=is_directory):
            return False
        if len(path) - len(self._stem) <= _LONGEST:
            return True
        top = b"/".join(self._relative(path).split(b"/")[:_SHOWN_STEPS])
        if top not in self.too_deep:
            self.too_deep.append(top)
        return False

    def _names_below(self, trail: Trail, name: bytes, path: bytes) -> Sequence[bytes] | None:
        """The names in a directory, which the trail goes into; None where it is to be left alone."""
        above = trail.mount
        trail.down(name)
        try:
            if trail.mount == above and not trail.is_vault:
                return sorted(map(os.fsencode, os.listdir(trail.handle)))
            if trail.is_vault:
                self._kept.append(path)
        except OSError:
            pass
        trail.up()
        return None

    def _listed(self, trail: Trail, path: bytes, inode: int) -> Listed:
        device, directory = trail.identity
        return Listed(self._relative(path), Identity(device, directory, inode))

    def _relative(self, path: bytes) -> bytes:
        return path[len(self._stem) :].removeprefix(b"/")


def _is_there(handle: int, name: bytes | None) -> bool:
    try:
        return name is not None and bool(os.stat(name, dir_fd=handle, follow_symlinks=False))
    except OSError:
        return False


def remove_extraneous(top: int, confirmed: Confirmed, report: Report, *, renumbered: bool = False) -> int:
    """Remove the confirmed entries below an open target; returns how many. Failures are reported.

    Nothing is removed below a mount that is new, or in a vault. An entry must have the same inode, in the
    same directory, as when it was listed. `renumbered`: the target's device number has changed since, so only
    inodes are compared.
    """
    removed = 0
    listed = zip(confirmed.extraneous, confirmed.identities(), strict=True)
    with Trail(top) as trail:
        for directory, entries in groupby(listed, lambda pair: pair[0].rpartition(b"/")[0]):
            gone: OSError | None = None
            why = ""
            try:
                trail.go(directory)
                why = _why_it_stays(trail, confirmed.crossed)
            except OSError as error:
                gone = error
            for path, known in entries:
                try:
                    if gone is not None:
                        raise gone
                    _remove(trail, path.rpartition(b"/")[2], known, why, renumbered=renumbered)
                    removed += 1
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        report(Problem(path, ProblemKind.NOT_SET, f"not removed: {reason(error)}"))
    return removed


def _why_it_stays(trail: Trail, crossed: Container[bytes]) -> str:
    """Why nothing of the trail's directory may be removed; empty if it may."""
    if any(path not in crossed for path in trail.mount_points()):
        return "another file system was mounted there since you were asked"
    return "a vault lies there now" if trail.has_vault() else ""


def _remove(trail: Trail, name: bytes, known: Identity | None, why: str, *, renumbered: bool) -> None:
    """Remove an entry of the trail's directory. `OSError` if that fails, or if it must stay.

    If another user puts something in its place after the check, only one name or an empty directory is lost,
    which that user could remove, too.
    """
    there = os.stat(name, dir_fd=trail.handle, follow_symlinks=False)
    if not why and known is not None:
        device, directory = trail.identity
        now = Identity(known.device if renumbered else there.st_dev, directory, there.st_ino)
        if now != known or there.st_dev != device:
            why = "it is another one than when you were asked"
    if why:
        raise OSError(errno.EBUSY, why)
    (os.rmdir if stat.S_ISDIR(there.st_mode) else os.unlink)(name, dir_fd=trail.handle)


def _way(existing: Existing, relative: bytes) -> Iterator[tuple[bytes, Mount | None]]:
    """The target and each directory on the way to one, with its mount: None if it is not there."""
    steps = relative.split(b"/") if relative else []
    for depth in range(len(steps) + 1):
        path = b"/".join(steps[:depth])
        handle = existing.directory(path)
        yield path, None if handle is None else mount_at(handle)


def places_of(paths: Iterable[str]) -> frozenset[Place]:
    """Return device and inode of these directories, if they exist."""
    found: set[Place] = set()
    for path in paths:
        with suppress(OSError):
            found.add(_place_of(os.stat(path)))
    return frozenset(found)


def paths_at(
    existing: Existing, base: bytes, directories: Iterable[RestoreEntry], own: Container[Place]
) -> Iterator[bytes]:
    """Return paths of snapshot directories that are one of these places, for instance by a bind mount.

    Paths below one of them are left out.
    """
    top = existing.directory(b"")
    if top is not None and _place_of(os.fstat(top)) in own:
        yield base
        return
    last = None
    for entry in directories:
        if last is not None and is_below(entry.path, last):
            continue
        there = existing.stat(entry.directory, entry.name)
        if there is not None and _place_of(there) in own:
            last = entry.path
            yield _join(base.rstrip(b"/") + b"/", last)


def _place_of(found: os.stat_result) -> Place:
    return found.st_dev, found.st_ino


def spared_below(base: bytes, target: bytes, paths: Iterable[str]) -> Iterator[bytes]:
    """Return the paths of this machine below the target, translated to paths of the snapshot."""
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
