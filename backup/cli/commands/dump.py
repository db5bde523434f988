"""`nightvault dump`: one file, or a tree as a tar, to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

import click

from backup.cli.commands.restore import capacity_option, key_options, numeric_option, wait_option
from backup.cli.commands.snapshots import deciding, job_option, split_words
from backup.cli.support.choosing import chosen_paths, made_choice, tell_unmet, with_paths
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_keys
from backup.cli.support.moments import at_option
from backup.errors import ExitCode, TargetError, UsageError
from backup.files import Draft, is_special
from backup.inventory.runs import Outcome
from backup.model import JobName, Tier

if TYPE_CHECKING:
    from datetime import datetime

    from backup.inventory.database import Transaction
    from backup.inventory.retrievals import Restore
    from backup.inventory.snapshots import Snapshot
    from backup.restorer.restore import RestoreContext, RestoreReport


@click.command()
@click.argument("words", metavar="SNAPSHOT:PATH")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--tar", "as_tar", is_flag=True, help="A tree, or some of it, as a PAX tar.")
@click.option("-o", "--output", metavar="FILE", help="Write there: whole, or not at all.")
@click.option("--force", is_flag=True, help="With -o: replace a file that is there.")
@job_option
@at_option
@click.option(
    "--include", metavar="PATTERN", multiple=True, help="Only what such a line of .gitignore names."
)
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Not what such a line names.")
@key_options
@capacity_option
@wait_option
@numeric_option
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
    at: datetime | None,
    wait: bool,
    **given: Any,
) -> None:
    """Write a file of a snapshot to standard output; with --tar a directory.

    Nothing is written before the vault has made all of it readable (17: come again), and no byte before it
    was verified. A stream that breaks off ends with an exit code other than 0; 3 says that a tar lacks
    damaged files.
    """
    from backup.app.runs import opened
    from backup.inventory.snapshots import find_snapshot
    from backup.restorer.dump.dump import dump as stream

    name, path = split_words(words)
    _check_stream(cli, output, as_tar=as_tar)
    _check_output(output, force=force)
    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            some = chosen_paths(path, paths)
            holds = deciding(path, [one.glob for one in some])
            snapshot = find_snapshot(tx, name, job=JobName(job) if job else None, at=at, paths=holds)
            _check_kind(tx, snapshot, path, as_tar=as_tar)
            choice = made_choice(
                include=given.pop("include"),
                exclude=given.pop("exclude"),
                overwrite="always",
                delete=False,
                verify=False,
                numeric_owner=given.pop("numeric_owner"),
                output="tar" if as_tar else "file",
            )
            choice = with_paths(tx, snapshot, choice, some)
        begun, context = _begun(cli, inventory, snapshot, path, choice, **given)
        _await(cli, begun, context, wait=wait)
        with _opened(output, force=force) as sink:
            report = stream(begun, context, sink.write)
    _tell(cli, report, output)


def _begun(
    cli: Cli,
    inventory: Any,
    snapshot: Snapshot,
    path: bytes,
    choice: Any,
    *,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    tier: str | None,
    max_cost: str | None,
    on_capacity: str | None,
) -> tuple[Restore, RestoreContext]:
    """The restore that asks for what the dump needs, begun now or by the same command before."""
    from backup.app.prices import gap_for, price_of
    from backup.app.runs import restore_world
    from backup.cli.support.quoting import hold_to_limit, limit_of, quotes_of
    from backup.inventory.runs import vault_of_job
    from backup.restorer.dump.dump import STDOUT
    from backup.restorer.restore import begin_restore, find_open, plan_restore

    config = cli.config()
    with inventory.reading() as tx:
        vault = vault_of_job(tx, snapshot.job_number)
    context = restore_world(
        config, inventory, vault, clock=cli.clock, progress=cli.progress(), reach=cli.reach()
    )
    context = replace(context, round_bytes=None)  # all of it must be readable at a time
    plan = plan_restore(snapshot, path, context, choice)
    tell_unmet(cli, plan)
    begun = find_open(context, plan, STDOUT)
    if begun is None:
        settings = config.vault(vault)
        speed = Tier(tier) if tier else settings.tier
        found = quotes_of(config, settings, context.vault, plan)
        hold_to_limit(config, settings, found, speed, limit_of(max_cost, config), say=cli.say)
        begun = begin_restore(
            plan.laid(gap_for(price_of(config, settings), speed)),
            STDOUT,
            context,
            tier=speed,
            keys=lambda: read_keys(key_files, passphrase_files),
            on_capacity=on_capacity or config.restore.on_capacity,
        )
    return begun, context


def _await(cli: Cli, begun: Restore, context: RestoreContext, *, wait: bool) -> None:
    """Ask, and see that all is ready; `RetrievalNotReadyError` if not, unless it waits."""
    from backup.cli.commands.restore import expected_of, wait_on
    from backup.cli.support.waiting import Wait, told
    from backup.errors import RetrievalNotReadyError
    from backup.restorer.restore import advance, is_ready

    pauses = Wait(cli, context.progress)
    known = advance(begun, context, anew=True)
    while not is_ready(known):
        context = replace(context, reach=cli.reach(has_answered=True))
        if not wait and context.vault.traits.waits:
            when = told(expected_of(cli, begun, known), cli.clock.now())
            raise RetrievalNotReadyError(
                f"nothing was written: restore {begun.id} waits for the vault ({begun.tier}){when}",
                advice="the same command again, later, writes it; with --wait it stays until then",
            )
        wait_on(cli, begun, known, pauses)
        known = advance(begun, context)
    pauses.over()


def _check_stream(cli: Cli, output: str | None, *, as_tar: bool) -> None:
    if output is not None:
        return
    if cli.json:
        raise UsageError("standard output is taken by --json", advice="say where to write with -o FILE")
    if as_tar and sys.stdout.isatty():
        raise UsageError("a tar on a terminal?", advice="say where to write with -o FILE, or pipe it")


def _check_output(output: str | None, *, force: bool) -> None:
    """`UsageError` for a file that is there already, before anything is asked for."""
    if output is None and force:
        raise UsageError("--force goes with -o FILE")
    if output == "":
        raise UsageError("-o is empty", advice="name a file, or leave -o away for standard output")
    if output is None or force or is_special(output) or not os.path.lexists(output):
        return
    if os.path.isdir(output):
        raise UsageError(f"{output} is a directory", advice="give -o the name of a file in it")
    raise UsageError(f"{output} is there already", advice="--force replaces it, once the new one is whole")


def _check_kind(tx: Transaction, snapshot: Snapshot, path: bytes, *, as_tar: bool) -> None:
    """`UsageError` unless the path is what can be dumped so."""
    from backup.inventory.entries import entry_at
    from backup.inventory.entry_versions import no_such_path, shown_words
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


@contextmanager
def _opened(output: str | None, *, force: bool) -> Iterator[IO[bytes]]:
    """Standard output, a device or a pipe, or a file that gets its name once it is whole and on the disk."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with Draft(output) as draft:
            yield draft.file
            draft.place(replace=force)  # else not in place of a file that came meanwhile
    except OSError as error:
        raise TargetError(f"{output} cannot be written: {error.strerror}") from error


def _tell(cli: Cli, report: RestoreReport, output: str | None) -> None:
    from backup.cli.commands.restore import restore_document
    from backup.cli.support.problems import told
    from backup.cli.support.render import counted, size

    for line in told(report.problems):
        cli.warn(line)
    if output is not None:
        shown = {"file": output}
        text = f"{counted(report.files, 'file')}, {size(report.bytes)}, written to {output}"
        cli.report(restore_document(report) | shown, text)
    if report.outcome is not Outcome.DONE:
        cli.warn("not everything could be dumped: see above")
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
