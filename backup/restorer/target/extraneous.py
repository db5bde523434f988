"""Extraneous entries: those below restored directories that the snapshot does not have (rsync's `--delete`).

They are listed before the restore, and only listed ones are removed. Listed are only entries of directories
that were chosen as a whole and lie at or below the snapshot's sources: nothing is judged that no job ever
read. Excluded by patterns, unreadable at backup time, on other file systems, or nightvault's own state:
these stay.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter

from backup.files import mount_of
from backup.inventory.entries import ROOT, EntryRow
from backup.inventory.snapshots import Snapshot
from backup.model import Problem, ProblemKind
from backup.restorer.selection.choice import Sieve
from backup.restorer.target.existing import Existing
from backup.restorer.target.metadata import Report, reason

_OURS = b".nightvault-"
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def find_extraneous(
    existing: Existing,
    rows: Iterable[tuple[bytes, EntryRow]],
    chosen: Iterable[bytes],
    base: bytes,
    snapshot: Snapshot,
    sieve: Sieve,
    spared: Iterable[bytes],
) -> Iterator[bytes]:
    """Extraneous paths relative to the target; the content of a directory before the directory.

    `rows` are the snapshot's below `base`, by directory; `chosen` directories and `spared` paths absolute,
    as the snapshot would have them.
    """
    judged = {one for one in chosen if any(_is_below(one, source) for source in snapshot.sources)}
    kept = [*spared, *(problem.path for problem in snapshot.problems)]

    def extraneous_of(directory: bytes, names: set[bytes]) -> Iterator[bytes]:
        judged.discard(directory)
        relative = directory[len(base.rstrip(b"/")) :].removeprefix(b"/")
        yield from _extraneous_in(existing, relative, directory, names, sieve, kept)

    for directory, some in groupby(rows, itemgetter(0)):
        if directory in judged:
            yield from extraneous_of(directory, {row.name for _, row in some})
    for directory in sorted(judged):
        yield from extraneous_of(directory, set())


def _extraneous_in(
    existing: Existing,
    relative: bytes,
    directory: bytes,
    names: set[bytes],
    sieve: Sieve,
    kept: Sequence[bytes],
) -> Iterator[bytes]:
    handle = existing.directory(relative)
    if handle is None:
        return
    device = os.fstat(handle).st_dev
    for name in sorted(map(os.fsencode, os.listdir(handle))):
        if name in names or name.startswith(_OURS):
            continue
        found: list[bytes] = []
        if _list(handle, name, directory, device, sieve, kept, found):
            yield from (_join(relative, path) for path in found)
        else:
            yield from (_join(relative, path) for path in found if path != name)


def _list(
    above: int,
    name: bytes,
    directory: bytes,
    device: int,
    sieve: Sieve,
    kept: Sequence[bytes],
    found: list[bytes],
) -> bool:
    """Add the removable part of an entry to `found`, contents first; returns if the entry itself can go."""
    path = _join(directory.rstrip(b"/") + b"/", name)
    try:
        there = os.stat(name, dir_fd=above, follow_symlinks=False)
        is_directory = stat.S_ISDIR(there.st_mode)
        if there.st_dev != device or any(_is_below(path, one) for one in kept):
            return False
        if not sieve.takes_name(directory, name, is_directory=is_directory):
            return False
        if is_directory and not _list_below(above, name, path, device, sieve, kept, found):
            return False
    except OSError:
        return False
    found.append(name)
    return True


def _list_below(
    above: int, name: bytes, path: bytes, device: int, sieve: Sieve, kept: Sequence[bytes], found: list[bytes]
) -> bool:
    handle = os.open(name, _STEP, dir_fd=above)
    try:
        if mount_of(handle) != mount_of(above):
            return False
        below: list[bytes] = []
        inner = sorted(map(os.fsencode, os.listdir(handle)))
        all_go = [_list(handle, one, path, device, sieve, kept, below) for one in inner]
        found.extend(_join(name, one) for one in below)
        return all(all_go)
    finally:
        os.close(handle)


def remove_extraneous(existing: Existing, extraneous: Sequence[bytes], report: Report) -> int:
    """Remove the paths that were listed and confirmed; returns how many. Failures are reported."""
    removed = 0
    for path in extraneous:
        directory, _, name = path.rpartition(b"/")
        handle = existing.directory(directory)
        if handle is None:
            continue
        try:
            there = os.stat(name, dir_fd=handle, follow_symlinks=False)
            (os.rmdir if stat.S_ISDIR(there.st_mode) else os.unlink)(name, dir_fd=handle)
            removed += 1
        except OSError as error:
            if error.errno != errno.ENOENT:
                report(Problem(path, ProblemKind.NOT_SET, f"not removed: {reason(error)}"))
    return removed


def spared_below(base: bytes, target: bytes, paths: Iterable[str]) -> Iterator[bytes]:
    """Paths of this machine that lie below the target, translated to paths of the snapshot."""
    top = os.path.realpath(target)
    for path in paths:
        with suppress(OSError):
            real = os.path.realpath(os.fsencode(path))
            if _is_below(real, top):
                rest = real[len(top.rstrip(b"/")) :].removeprefix(b"/")
                yield _join(base.rstrip(b"/") + b"/", rest)


def _is_below(path: bytes, top: bytes) -> bool:
    return top == ROOT or path == top or path.startswith(top.rstrip(b"/") + b"/")


def _join(stem: bytes, rest: bytes) -> bytes:
    return stem + rest if not stem or stem.endswith(b"/") else stem + b"/" + rest
