"""A snapshot's directory, the versions of a file, a search; and where bytes lie."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backup.model import JobName, SnapshotId, VaultName
from backup.web.views.values.names import Kind, Name, Step
from backup.web.views.values.snapshot_line import SnapshotLine


class EntryLine(Struct, frozen=True):
    """An entry of a directory. `mode` is as `ls` shows it, such as drwxr-xr-x.

    `owner` and `group` are names, or numbers as text where none is known. `target` is a symlink's.
    `has_content`: something of it lies in archives.
    """

    name: Name
    path: Name
    kind: Kind
    mode: str
    owner: str
    group: str
    size: int
    mtime: datetime
    target: Name | None
    has_content: bool
    link: int  # entries of one hard-link group have the same number, 0 for none


class Place(Struct, frozen=True):
    """So many bytes lie in a vault, in a storage class; `needs_thaw`: they must be made readable first.

    `thawed_until`: all of them are readable until then without being asked for, None if some are not.
    """

    vault: VaultName
    storage_class: str
    archives: int
    bytes: int
    needs_thaw: bool
    thawed_until: datetime | None


class DirectoryPage(Struct, frozen=True):
    """A part of a directory of a snapshot, by name. `next_after` asks for the next page, None at the end.

    `count` are its entries in all, None if there are more than were counted. `places` is where the contents
    of the entries on this page lie. `sources` are the job's, where the page is the first of a snapshot.
    """

    snapshot: SnapshotLine
    path: Name
    steps: Sequence[Step]
    itself: EntryLine | None
    entries: Sequence[EntryLine]
    count: int | None
    is_first: bool
    next_after: str | None
    places: Sequence[Place]
    older: SnapshotId | None
    newer: SnapshotId | None
    sources: Sequence[Name] = ()


class VersionLine(Struct, frozen=True):
    """A version of an entry, which is in `snapshots` kept snapshots from `first` to `last`."""

    entry: EntryLine
    first: SnapshotLine
    last: SnapshotLine
    snapshots: int
    is_newest: bool
    what: Sequence[str]  # how it differs from the version before it
    places: Sequence[Place]  # of no more than ten thousand chunks of all versions


class VersionPage(Struct, frozen=True):
    """The newest hundred versions of one path, newest first; those that no kept snapshot has are left out.

    `is_gone`: the job's newest snapshot does not have it any more.
    """

    job: JobName
    path: Name
    steps: Sequence[Step]
    versions: Sequence[VersionLine]
    is_gone: bool
    is_cut: bool


class Hit(Struct, frozen=True):
    """A path that a search found: its newest version that a kept snapshot has.

    `last` is the newest snapshot with it; `is_gone`: the job's newest snapshot does not have it any more.
    """

    job: JobName
    path: Name
    kind: Kind
    size: int
    mtime: datetime
    last: SnapshotId
    last_at: datetime
    is_gone: bool
    versions: int


class SearchPage(Struct, frozen=True):
    """What was found of `words` in names. `next_after` asks for more, None at the end.

    `is_cut`: the search looked at as much as it may, and there may be more below `next_after`.
    """

    words: str
    job: JobName | None
    jobs: Sequence[JobName]
    hits: Sequence[Hit]
    is_first: bool
    next_after: str | None
    is_cut: bool
