"""`nightvault snapshots` and `nightvault ls`: look, from the inventory alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.moments import at_option
from backup.errors import UsageError
from backup.model import JobName

if TYPE_CHECKING:
    from datetime import datetime

    from backup.inventory.database import Transaction
    from backup.inventory.entries import EntryRow
    from backup.inventory.snapshots import Snapshot
    from backup.model import Owner


def _job(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A job's name, which is text: bytes that are no UTF-8 are none, and no database takes them."""
    if value is not None and any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        raise UsageError(f"no job can be called {value!r}", advice="`nightvault snapshots` lists the jobs")
    return value


job_option = click.option("--job", metavar="NAME", callback=_job, help="Of this job.")


@click.command()
@job_option
@pass_cli
def snapshots(cli: Cli, job: str | None) -> None:
    """List snapshots, oldest first."""
    from backup.app.runs import opened
    from backup.cli.support.render import local_time, shown_id, size, table
    from backup.cli.support.tables import Column
    from backup.inventory.snapshots import list_snapshots

    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        found = list_snapshots(tx, job=JobName(job) if job else None)
    job_column, host = Column("job", least=12), Column("host", rank=1, least=8)
    right = [Column(title, right=True) for title in ("files", "size", "problems")]
    rows = [
        (
            shown_id(one.id),
            one.job,
            local_time(one.started_at),
            one.files,
            size(one.bytes),
            len(one.problems) or None,
            one.host,
        )
        for one in found
    ]
    text = table(["snapshot", job_column, "time", *right, host], rows) if found else "no snapshots yet"
    cli.show([snapshot_document(one) for one in found], text)


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON."""
    from backup.cli.support.render import path_document

    problems = [
        {**path_document(one.path), "kind": str(one.kind), "detail": one.detail} for one in snapshot.problems
    ]
    return {
        "id": snapshot.id,
        "job": snapshot.job,
        "started_at": snapshot.started_at,
        "finished_at": snapshot.finished_at,
        "host": snapshot.host,
        "sources": [path_document(source) for source in snapshot.sources],
        "files": snapshot.files,
        "bytes": snapshot.bytes,
        "problems": problems,
    }


def split_words(words: str) -> tuple[str, bytes]:
    """`SNAPSHOT[:PATH]` as snapshot and absolute path (`/` if none is given)."""
    snapshot, _, path = words.partition(":")
    if not snapshot:
        raise UsageError(f"{words!r} names no snapshot", advice=f"write latest:{path or '/'}")
    if snapshot.startswith("/"):
        raise UsageError(f"{words!r} names no snapshot", advice=f"write latest:{words}")
    if path and not path.startswith("/"):
        raise UsageError(f"the path in {words!r} must be absolute", advice=f"write {snapshot}:/{path}")
    return snapshot, os.fsencode(path) or b"/"


def deciding(path: bytes, globs: Sequence[str] = ()) -> list[bytes]:
    """The absolute paths by which `latest` finds its job: PATH, else the directories of absolute globs."""
    from backup.source.globs import plain_stem

    if path != b"/":
        return [path]
    return [os.fsencode(plain_stem(one)) for one in globs]


@click.command()
@click.argument("words", metavar="SNAPSHOT[:PATH]")
@job_option
@at_option
@click.option("-l", "--long", is_flag=True, help="With mode, owner, size and time.")
@click.option("-r", "--recursive", is_flag=True, help="And all below.")
@pass_cli
def ls(cli: Cli, words: str, job: str | None, at: datetime | None, long: bool, recursive: bool) -> None:
    """List what a snapshot holds at PATH; a snapshot is an id, its first digits, `latest` or `latest~N`."""
    from backup.app.runs import opened
    from backup.cli.support.streamed import show_each
    from backup.inventory.entries import owners_by_number
    from backup.inventory.snapshots import find_snapshot

    name, path = split_words(words)
    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        snapshot = find_snapshot(tx, name, job=JobName(job) if job else None, at=at, paths=deciding(path))
        owners = owners_by_number(tx)
        found = _entries(tx, snapshot, path, recursive=recursive)
        show_each(cli, (_row(cli, where, row, owners, long=long) for where, row in found))


def _row(
    cli: Cli, where: bytes, row: EntryRow, owners: dict[int, Owner], *, long: bool
) -> tuple[object, str]:
    from backup.cli.support.render import shown_path

    full = where.rstrip(b"/") + b"/" + row.name
    owner = owners[row.owner]
    if cli.json:
        return _document(full, row, owner), ""
    return None, _long(full, row, owner) if long else shown_path(full)


def _entries(
    tx: Transaction, snapshot: Snapshot, path: bytes, *, recursive: bool
) -> Iterator[tuple[bytes, EntryRow]]:
    from backup.inventory import entries
    from backup.inventory.entry_versions import no_such_path
    from backup.model import EntryKind

    path = path.rstrip(b"/") or b"/"
    if path != b"/":
        top = entries.entry_at(tx, snapshot.job_number, path, snapshot.number)
        if top is None:
            raise no_such_path(tx, snapshot, path)
        if top.kind != EntryKind.DIRECTORY:
            yield path.rpartition(b"/")[0], top
            return
    if recursive:
        yield from entries.entries_below(tx, snapshot.job_number, path, snapshot.number)
    else:
        for row in entries.entries_in(tx, snapshot.job_number, path, snapshot.number):
            yield path, row


def _document(path: bytes, row: EntryRow, owner: Any) -> dict[str, Any]:
    from backup.cli.support.render import path_document
    from backup.format.catalog import decode_extra
    from backup.model import EntryKind

    extra = decode_extra(row.extra)
    document = {
        **path_document(path),
        "kind": EntryKind(row.kind).name.lower().replace("_", "-"),
        "mode": f"{row.mode:04o}",
        "uid": owner.uid,
        "gid": owner.gid,
        "user": owner.user,
        "group": owner.group,
        "mtime_ns": row.mtime_ns,
        "size": row.size,
    }
    return document | ({"target": path_document(extra.target)} if extra and extra.target else {})


def _long(path: bytes, row: EntryRow, owner: Any) -> str:
    from backup.cli.support.render import shown_path, size, time_of
    from backup.format.catalog import decode_extra

    kinds = {
        1: stat.S_IFREG,
        2: stat.S_IFDIR,
        3: stat.S_IFLNK,
        4: stat.S_IFIFO,
        5: stat.S_IFCHR,
        6: stat.S_IFBLK,
    }
    mode = stat.filemode(kinds[row.kind] | row.mode)
    extra = decode_extra(row.extra)
    target = f" -> {shown_path(extra.target)}" if extra and extra.target else ""
    user, group = owner.user or str(owner.uid), owner.group or str(owner.gid)
    return (
        f"{mode} {user:<8} {group:<8} {size(row.size):>10} {time_of(row.mtime_ns)} {shown_path(path)}{target}"
    )
