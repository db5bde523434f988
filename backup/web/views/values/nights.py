"""Snapshots of a job, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from backup.model import JobName
from backup.web.views.values.names import Kind, Name
from backup.web.views.values.snapshot_line import SnapshotLine


class Change(StrEnum):
    """What became of an entry between two snapshots."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class SnapshotPage(Struct, frozen=True):
    """Some snapshots of a job, newest first. `next_before` asks for the next page, None at the end.

    `has_forgotten`: some of these, or of those between them, are forgotten; `shows_forgotten`: they are here.
    """

    job: JobName
    jobs: Sequence[JobName]
    snapshots: Sequence[SnapshotLine]
    is_first: bool
    next_before: int | None
    has_forgotten: bool = False
    shows_forgotten: bool = True


class ChangeLine(Struct, frozen=True):
    """An entry that differs.

    `what` says how one that changed differs: kind, content, mode, owner, times, attributes. Sizes are None
    where it is not there; of a directory 0.
    """

    path: Name
    change: Change
    kind: Kind
    what: Sequence[str]
    size_before: int | None
    size_after: int | None
    mtime: datetime


class ChangeCounts(Struct, frozen=True):
    """How much differs in all, but directories whose times alone differ. `is_whole` is False if counting was
    ended early: then there is at least as much."""

    added: int
    removed: int
    changed: int
    bytes_added: int
    bytes_removed: int
    is_whole: bool


class ChangePage(Struct, frozen=True):
    """What changed from `older` to `newer` at and below `path`, in the order of paths.

    `unusual` are sentences about the night of `newer`. `next_after` asks for the next page, None at the end.
    `earlier` and `later` are ids of the snapshots beside `newer`, to go on from night to night.
    """

    older: SnapshotLine | None
    newer: SnapshotLine
    path: Name
    counts: ChangeCounts
    changes: Sequence[ChangeLine]
    unusual: Sequence[str]
    is_first: bool
    next_after: str | None
    earlier: str | None
    later: str | None
