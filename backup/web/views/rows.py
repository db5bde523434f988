"""Converts rows of the inventory to values of pages: snapshots, entries, steps of a path."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import UTC, datetime

from backup.format.catalog import decode_extra
from backup.inventory.content.entry_versions import Version
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import snapshots_of_prefix
from backup.inventory.records.runs import JobRow, find_job
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import moment
from backup.model import EntryKind, Extra, JobName, Owner
from backup.web.views.errors import BadParameterError, NotThereError
from backup.web.views.parameters import job_of, snapshot_of
from backup.web.views.values.browse import EntryLine
from backup.web.views.values.names import Kind, Name, Step
from backup.web.views.values.snapshot_line import SnapshotLine

_KINDS = {
    EntryKind.FILE: (Kind.FILE, stat.S_IFREG),
    EntryKind.DIRECTORY: (Kind.DIRECTORY, stat.S_IFDIR),
    EntryKind.SYMLINK: (Kind.SYMLINK, stat.S_IFLNK),
    EntryKind.FIFO: (Kind.FIFO, stat.S_IFIFO),
    EntryKind.CHARACTER_DEVICE: (Kind.CHARACTER_DEVICE, stat.S_IFCHR),
    EntryKind.BLOCK_DEVICE: (Kind.BLOCK_DEVICE, stat.S_IFBLK),
}


def the_job(tx: Transaction, name: str) -> JobRow:
    """Return the job of that name. `NotThereError`."""
    found = find_job(tx, JobName(job_of(name)))
    if found is None:
        raise NotThereError("there is no such job")
    return found


def the_snapshot(tx: Transaction, words: str) -> Snapshot:
    """Return the snapshot with an id or its first digits, also a forgotten one. `NotThereError`."""
    found = snapshots_of_prefix(tx, snapshot_of(words))
    if not found:
        raise NotThereError("there is no such snapshot any more")
    if len(found) > 1:
        raise BadParameterError("several snapshots begin with these digits: give more")
    return found[0]


def snapshot_line(snapshot: Snapshot) -> SnapshotLine:
    """Return a snapshot as a line of a list."""
    return SnapshotLine(
        id=snapshot.id,
        job=snapshot.job,
        number=snapshot.number,
        run=snapshot.run,
        host=snapshot.host,
        started_at=snapshot.started_at,
        finished_at=snapshot.finished_at,
        sources=[Name(path) for path in snapshot.sources],
        files=snapshot.files,
        bytes=snapshot.bytes,
        problems=len(snapshot.problems),
        is_whole=snapshot.is_whole,
        forgotten_at=snapshot.forgotten_at,
        tags=snapshot.tags,
        pin_note=None if snapshot.pin is None else snapshot.pin.note,
        pin_until=None if snapshot.pin is None else snapshot.pin.until,
    )


def kind_of(number: int) -> Kind:
    """Return the kind of an entry from its number."""
    return _KINDS[EntryKind(number)][0]


def mtime_of(nanoseconds: int) -> datetime:
    """Return a file's modification time, in UTC."""
    return moment(nanoseconds // 1000).astimezone(UTC)


def entry_line(version: Version, owners: Mapping[int, Owner]) -> EntryLine:
    """Return an entry as a line of a list."""
    kind, kind_bits = _KINDS[EntryKind(version.kind)]
    owner = owners.get(version.owner, Owner(0, 0, "?", "?"))
    extra = decode_extra(version.extra) or Extra()
    return EntryLine(
        name=Name(version.name),
        path=Name(version.path),
        kind=kind,
        mode=stat.filemode(version.mode | kind_bits),
        owner=owner.user or str(owner.uid),
        group=owner.group or str(owner.gid),
        size=version.size,
        mtime=mtime_of(version.mtime_ns),
        target=Name(extra.target) if kind is Kind.SYMLINK else None,
        has_content=version.content_id is not None,
        link=extra.link,
    )


def steps_of(path: bytes) -> list[Step]:
    """Return the steps of a path, from the root to the path itself."""
    found = [Step(Name(b"/"), Name(b"/"))]
    here = b""
    for name in filter(None, path.split(b"/")):
        here += b"/" + name
        found.append(Step(Name(name), Name(here)))
    return found
