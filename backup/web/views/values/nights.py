"""Values of a job's snapshots, and of the changes between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from backup.model import JobName
from backup.web.views.values.names import Kind, Name
from backup.web.views.values.snapshot_line import SnapshotLine


class Change(StrEnum):
    """The kind of a change of an entry between two snapshots."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class SnapshotPage(Struct, frozen=True):
    """A page of a job's snapshots, newest first; `next_before` is the next page's cursor, None at the end.

    `has_forgotten`: there are forgotten snapshots in this range; `shows_forgotten`: the page includes them.
    """

    job: JobName
    jobs: Sequence[JobName]
    snapshots: Sequence[SnapshotLine]
    is_first: bool
    next_before: int | None
    has_forgotten: bool = False
    shows_forgotten: bool = True


class ChangeLine(Struct, frozen=True):
    """An entry that differs between two snapshots.

    `what` lists the differences of a changed entry: kind, content, mode, owner, times, attributes. A size is
    None in a snapshot without the entry, and 0 for a directory.
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
    """A page of changes from `older` to `newer` at and below `path`, sorted by path.

    `unusual` are sentences about the night of `newer`. `next_after` is the next page's cursor, None at the
    end. `earlier` and `later` are the ids of the snapshots before and after `newer`.
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
