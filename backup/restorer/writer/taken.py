"""Existing directories at the target that get the snapshot's owner: closed to their old owner until then.

A user who may write in the target can make a directory before the restore does, and read the files in it
until its mode is set. So it is made the caller's alone before the first file goes in, as a new one is. Such a
user can also move a directory of root's there, which would become theirs: that keeps its owner and its mode.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from backup.model import Problem, ProblemKind
from backup.owners import hazard_of
from backup.restorer.writer.directories import Target
from backup.restorer.writer.metadata import Report
from backup.wording import shown_path

LEFT: Final = (
    "owner, mode and times: it is root's, stood there before, and others can put directories in its place: "
    "left as they are"
)
_PRIVATE: Final = 0o700
_MOST_KNOWN: Final = 1000  # entries of others in a directory
_SHOWN: Final = 3


class TakenDirectories:
    """The existing directories of one restore; `left` are those that earlier sessions left to root."""

    def __init__(self, target: Target, left: Collection[bytes] = ()) -> None:
        self.left = {*left}
        self._target = target
        self._others: dict[bytes, dict[bytes, int]] = {}  # by directory: names of others' entries, inodes
        self._reach = dict.fromkeys(self.left, True)  # by directory: whether others can put something into it

    def take(self, path: bytes, owner: int, *, made_before: bool) -> bool:
        """Make an existing directory, which will be `owner`'s, ours alone for now; False if it stays as is.

        `made_before`: it is as an earlier session of this restore would have made it.
        """
        if path in self.left:
            return False
        found, we = os.fstat(self._target.handle(path)), os.geteuid()
        if found.st_uid == we:
            if we == 0 and owner != we and not made_before and self._is_in_reach(path.rpartition(b"/")[0]):
                self.left.add(path)
                return False
        elif found.st_uid != owner:
            self._claim(path, {owner, we})
        return True

    def report_others(self, restored: Collection[bytes], report: Report) -> None:
        """Report entries of other users in such directories that were not replaced."""
        for path, known in self._others.items():
            with suppress(OSError):
                handle = self._target.handle(path)
                names = [name for name in known if path + b"/" + name not in restored]
                left = [name for name in names if _inode(handle, name) == known[name]]
                if left:
                    some = ", ".join(map(shown_path, left[:_SHOWN])) + ", …" * (len(left) > _SHOWN)
                    detail = f"it was another user's before, whose entries are still in it: {some}"
                    report(Problem(path, ProblemKind.NOT_SET, detail))

    def _claim(self, path: bytes, owners: Collection[int]) -> None:
        handle, we = self._target.handle(path), os.geteuid()
        with suppress(OSError):  # only root can; of the others, the owner is reported at the end
            os.fchown(handle, we, -1)
            os.fchmod(handle, _PRIVATE)
            self._reach[path] = True
            self._others[path] = dict(_others_in(handle, owners))

    def _is_in_reach(self, path: bytes) -> bool:
        """Whether others than root can put something into a directory, or into one above it."""
        steps = [path]
        while path and path not in self._reach:
            path = path.rpartition(b"/")[0]
            steps.append(path)
        is_reached = False
        for step in reversed(steps):
            if step not in self._reach:
                handle = self._target.handle(step)
                is_own = hazard_of(f"/proc/self/fd/{handle}/.", os.fstat(handle), is_last=False) is None
                self._reach[step] = is_reached or not is_own
            is_reached = self._reach[step]
        return is_reached


def _others_in(handle: int, owners: Collection[int]) -> Iterator[tuple[bytes, int]]:
    """The names and inodes of some entries in an open directory that belong to others."""
    count = 0
    with os.scandir(handle) as entries:
        for entry in entries:
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                if found.st_uid not in owners:
                    yield os.fsencode(entry.name), found.st_ino
                    count += 1
            if count == _MOST_KNOWN:
                return


def _inode(handle: int, name: bytes) -> int | None:
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False).st_ino
    except OSError:
        return None
