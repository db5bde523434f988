"""A writer on a target of its own, and entries to write with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pytest

from backup.model import EntryKind, Extra, Owner, Problem
from backup.restorer.selection.entry import NewFiles
from backup.restorer.writer.directories import Target
from backup.restorer.writer.write import RestoreEntry, Writer

MINE = Owner(os.geteuid(), os.getegid())


MTIME = 1_000_000_000_123_456_789


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def wanted(
    path: bytes,
    kind: EntryKind = EntryKind.FILE,
    *,
    mode: int = 0o640,
    owner: Owner = MINE,
    mtime_ns: int = MTIME,
    size: int = 0,
    extra: Extra | None = None,
) -> RestoreEntry:
    directory, _, name = path.rpartition(b"/")
    return RestoreEntry(directory, name, kind, mode, owner, mtime_ns, size, extra)


class Bench:
    """A writer on a target, and what it reported."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.problems: list[Problem] = []
        self.target = Target(str(place))
        self.writer = Writer(self.target, self.problems.append, "0123456789abcdef")

    def file(self, path: bytes, content: bytes, **more: object) -> None:
        """Write a file as a restore does."""
        assert self.writer.begin(0, wanted(path, size=len(content), **more))  # type: ignore[arg-type]
        assert self.writer.write(0, 0, memoryview(content))
        self.writer.end(0)

    def names(self) -> list[str]:
        """Everything below the target."""
        return sorted(str(path.relative_to(self.place)) for path in self.place.rglob("*"))


def columns_of(entries: Sequence[RestoreEntry], chunks: Sequence[bytes]) -> NewFiles:
    """Small files one after the other in a buffer, as they are handed out."""
    paths = sorted({entry.directory for entry in entries})
    ends = [*accumulate(entry.size for entry in entries)]
    return NewFiles(
        paths,
        [paths.index(entry.directory) for entry in entries],
        [entry.name for entry in entries],
        [entry.mode for entry in entries],
        [(entry.owner.uid, entry.owner.gid) for entry in entries],
        [entry.mtime_ns for entry in entries],
        [0, *ends[:-1]],
        ends,
        chunks,
    )
