"""`nightvault dump`: one file, or a tree as a tar, to standard output."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.moments import at_option
from backup.cli.options.retrieval_options import (
    capacity_option,
    from_vault_option,
    key_options,
    numeric_owner_option,
    wait_option,
)
from backup.cli.options.snapshot_arguments import (
    Tags,
    chosen_job,
    chosen_vault,
    job_option,
    paths_that_choose_job,
    saved_path,
    split_snapshot_and_path,
    tag_option,
)
from backup.cli.restoring.dump_steps import (
    await_stream,
    begun_stream,
    check_output,
    opened_output,
    tell_dumped,
)
from backup.cli.restoring.restore_choice import chosen_paths, made_choice, with_paths
from backup.cli.restoring.restore_terms import RetrievalTerms
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.process_setup import were_closed
from backup.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction

EXAMPLES = {
    "dump": (
        "nightvault dump latest:/etc/fstab --key recovery.key",
        "nightvault dump latest:/etc --tar --key recovery.key -o etc.tar",
    )
}


@click.command()
@click.argument("words", metavar="SNAPSHOT:PATH")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--tar", "as_tar", is_flag=True, help="Write a tree, or parts of it, as a PAX tar.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, completely or not at all.")
@click.option("--force", is_flag=True, help="With -o: replace an existing file.")
@job_option
@tag_option
@at_option
@click.option(
    "--include", metavar="PATTERN", multiple=True, help="Only what matches PATTERN, as in .gitignore."
)
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out what matches PATTERN.")
@key_options
@from_vault_option
@capacity_option
@wait_option
@numeric_owner_option
@pass_cli
def dump(
    cli: Cli,
    /,
    words: str,
    paths: tuple[str, ...],
    as_tar: bool,
    output: str | None,
    force: bool,
    job: str | None,
    tags: Tags,
    at: datetime | None,
    wait: bool,
    from_vault: str | None,
    **given: Any,
) -> None:
    """Write a file of a snapshot to standard output; with --tar a directory.

    Nothing is written before the vault has made everything readable (17: run it again later), and no byte
    before it was verified. If the output is incomplete, the exit code is not 0; 3 says that a tar lacks
    damaged files.
    """
    from backup.app.base.opened import opened
    from backup.app.restores.contexts import refuse_own
    from backup.inventory.content.snapshots import find_snapshot
    from backup.restorer.dump.dump import dump as stream

    terms = RetrievalTerms.taken_from(given)
    name, path = split_snapshot_and_path(words)
    if len(paths) == 1 and not as_tar and ":" not in words:
        raise UsageError(
            f"of which path of snapshot {words}?",
            advice=f"it follows a colon: `nightvault dump {words}:{paths[0]}`; for a directory say --tar",
        )
    _check_stream(cli, output, as_tar=as_tar)
    check_output(output, force=force)
    config = cli.config()
    if output is not None:
        refuse_own(config, os.fsencode(os.path.abspath(output)))
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            some = chosen_paths(path, paths)
            holds = paths_that_choose_job(path, [chosen_path.glob for chosen_path in some])
            named = chosen_job(config, tx, job)
            vault = chosen_vault(config, from_vault)
            snapshot = find_snapshot(tx, name, job=named, at=at, paths=holds, tags=tags, copied_to=vault)
            path = saved_path(tx, snapshot, path)
            _check_kind(tx, snapshot, path, as_tar=as_tar)
            choice = made_choice(
                overwrite="always",
                delete=False,
                verify=False,
                output="tar" if as_tar else "file",
                **given,
            )
            choice = with_paths(tx, snapshot, choice, some)
        begun, context, known = begun_stream(cli, inventory, snapshot, path, choice, terms, vault)
        await_stream(cli, begun, context, known, wait=wait)
        with opened_output(output, force=force) as sink:
            report = stream(begun, context, sink)
    tell_dumped(cli, report, output)


def _check_stream(cli: Cli, output: str | None, *, as_tar: bool) -> None:
    if output is not None:
        return
    if 1 in were_closed:
        raise UsageError("standard output is closed", advice="say where to write with -o FILE, or pipe it")
    if cli.json:
        raise UsageError("standard output is taken by --json", advice="say where to write with -o FILE")
    if as_tar and sys.stdout.isatty():
        raise UsageError(
            "a tar is not written to a terminal", advice="say where to write with -o FILE, or pipe it"
        )


def _check_kind(tx: Transaction, snapshot: Snapshot, path: bytes, *, as_tar: bool) -> None:
    """Refuse a path that is missing, or that cannot be dumped in this form. `UsageError`."""
    from backup.inventory.content.entries import entry_at
    from backup.inventory.content.entry_versions import no_such_path, shown_words
    from backup.model import EntryKind

    path = path.rstrip(b"/") or b"/"
    row = None if path == b"/" else entry_at(tx, snapshot.job_number, path, snapshot.number)
    if row is None and path != b"/":
        raise no_such_path(tx, snapshot, path)
    if as_tar or (row is not None and row.kind == EntryKind.FILE):
        return
    shown = shown_words(os.fsdecode(path))
    if row is None or row.kind == EntryKind.DIRECTORY:
        raise UsageError(f"{shown} is a directory", advice="say --tar, or name a file in it")
    raise UsageError(f"{shown} is a {EntryKind(row.kind).name.lower()}, which has no content")
