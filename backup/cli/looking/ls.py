"""`nightvault ls`: the entries of a snapshot, from the inventory alone."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.moments import at_option
from backup.cli.options.snapshot_arguments import (
    Tags,
    chosen_job,
    job_option,
    paths_that_choose_job,
    saved_path,
    split_snapshot_and_path,
    tag_option,
)
from backup.cli.support.context import Cli, pass_cli
from backup.model import EntryKind

if TYPE_CHECKING:
    from datetime import datetime

    from backup.inventory.content.entry_versions import Version
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.model import Owner

EXAMPLES = {"ls": ("nightvault ls latest:/etc", "nightvault ls -l latest~1:/srv/www")}

_FILE_TYPES = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
}


class _Ls(click.Command):
    """A command whose `-h` asks for help only where it stands alone; `ls -lh` is as elsewhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `-h` alone as `--help`."""
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


@click.command(cls=_Ls, context_settings={"help_option_names": ["--help"]})
@click.argument("words", metavar="SNAPSHOT[:PATH]")
@job_option
@tag_option
@at_option
@click.option("-l", "--long", is_flag=True, help="With mode, owner, size and time.")
@click.option(
    "-h", "is_for_people", is_flag=True, hidden=True, expose_value=False, help="Sizes are so anyway."
)
@click.option("-r", "--recursive", is_flag=True, help="And all below.")
@pass_cli
def ls(
    cli: Cli, words: str, job: str | None, tags: Tags, at: datetime | None, long: bool, recursive: bool
) -> None:
    """List what a snapshot holds at PATH; a snapshot is an id, its first digits, `latest` or `latest~N`."""
    from backup.app.base.opened import opened
    from backup.cli.looking.streamed import show_each
    from backup.inventory.content.entries import owners_by_number
    from backup.inventory.content.snapshots import find_snapshot

    name, path = split_snapshot_and_path(words)
    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        snapshot = find_snapshot(
            tx,
            name,
            job=chosen_job(config, tx, job),
            at=at,
            paths=paths_that_choose_job(path),
            tags=tags,
        )
        path = saved_path(tx, snapshot, path)
        owners = owners_by_number(tx)
        found = _entries(tx, snapshot, path, recursive=recursive)
        show_each(cli, (_row(cli, row, owners, long=long) for row in found))


def _row(cli: Cli, row: Version, owners: dict[int, Owner], *, long: bool) -> tuple[object, str]:
    from backup.cli.render.render import shown_path

    owner = owners[row.owner]
    if cli.json:
        return _document(row, owner), ""
    return None, _long(row, owner) if long else shown_path(row.path)


def _entries(tx: Transaction, snapshot: Snapshot, path: bytes, *, recursive: bool) -> Iterator[Version]:
    from backup.inventory.content.entry_versions import (
        no_such_path,
        version_at,
        versions_below,
        versions_in,
    )

    path, job = path.rstrip(b"/") or b"/", snapshot.job_number
    if path != b"/":
        top = version_at(tx, job, path, snapshot.number)
        if top is None:
            raise no_such_path(tx, snapshot, path)
        if top.kind != EntryKind.DIRECTORY:
            yield top
            return
    if recursive:
        yield from versions_below(tx, job, path, at=snapshot.number)
    else:
        yield from versions_in(tx, job, path, snapshot.number)


def _document(row: Version, owner: Any) -> dict[str, Any]:
    from backup.cli.render.render import path_document
    from backup.format.catalog import decode_extra

    extra = decode_extra(row.extra)
    document = {
        **path_document(row.path),
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


def _long(row: Version, owner: Any) -> str:
    from backup.cli.render.render import shown_path, size, time_of
    from backup.format.catalog import decode_extra

    mode = stat.filemode(_FILE_TYPES[EntryKind(row.kind)] | row.mode)
    extra = decode_extra(row.extra)
    target = f" -> {shown_path(extra.target)}" if extra and extra.target else ""
    user, group = owner.user or str(owner.uid), owner.group or str(owner.gid)
    path = f"{shown_path(row.path)}{target}"
    return f"{mode} {user:<8} {group:<8} {size(row.size):>10} {time_of(row.mtime_ns)} {path}"
