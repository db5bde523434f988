"""Values of the pages that browse: a directory, versions of a file, a search, and places of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backup.model import JobName, SnapshotId, VaultName
from backup.web.views.values.names import Kind, Name, Step
from backup.web.views.values.snapshot_line import SnapshotLine


class EntryLine(Struct, frozen=True):
    """An entry of a directory. `mode` is as `ls` shows it, such as drwxr-xr-x.

    `owner` and `group` are names, or numbers as text if the name is unknown. `target` is a symlink's.
    `has_content`: it has bytes in archives.
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
    """Bytes in a vault and storage class; `needs_thaw`: they must be retrieved before they can be read.

    `thawed_until`: all of them are readable until then, without a new retrieval; None if some are not.
    """

    vault: VaultName
    storage_class: str
    archives: int
    bytes: int
    needs_thaw: bool
    thawed_until: datetime | None


class DirectoryPage(Struct, frozen=True):
    """A page of a directory of a snapshot, by name; `next_after` is the next page's cursor, None at the end.

    `count` is the number of all entries, None if there are too many to count. `places` are those of the
    contents of this page's entries. `sources` are the job's, on the first page of a snapshot.
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
    """The newest 100 versions of a path, newest first; without those that no kept snapshot has.

    `is_gone`: the job's newest snapshot no longer has it.
    """

    job: JobName
    path: Name
    steps: Sequence[Step]
    versions: Sequence[VersionLine]
    is_gone: bool
    is_cut: bool


class Hit(Struct, frozen=True):
    """A result of a search: a path with its newest version in a kept snapshot.

    `last` is the newest snapshot with it; `is_gone`: the job's newest snapshot no longer has it.
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
    """The results of a search for `words` in names; `next_after` is the next page's cursor, None at the end.

    `is_cut`: the search stopped at its limit, and there may be more results after `next_after`.
    """

    words: str
    job: JobName | None
    jobs: Sequence[JobName]
    hits: Sequence[Hit]
    is_first: bool
    next_after: str | None
    is_cut: bool
