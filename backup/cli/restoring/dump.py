"""`nightvault dump`: one file, or a tree as a tar, to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from backup.cli.options.moments import at_option
from backup.cli.options.retrieval_options import (
    capacity_option,
    key_options,
    numeric_owner_option,
    wait_option,
)
from backup.cli.options.snapshot_arguments import (
    Tags,
    chosen_job,
    job_option,
    paths_that_choose_job,
    saved_path,
    split_snapshot_and_path,
    tag_option,
)
from backup.cli.restoring.restore_choice import chosen_paths, made_choice, tell_unmet, with_paths
from backup.cli.restoring.restore_output import restore_document
from backup.cli.restoring.restore_terms import RetrievalTerms, begin_and_ask
from backup.cli.restoring.restore_waiting import expected_of, wait_until_readable
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import context_of
from backup.cli.support.process_setup import were_closed
from backup.errors import ExitCode, TargetError, UsageError
from backup.files import Draft

if TYPE_CHECKING:
    from datetime import datetime

    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.inventory.store.connections import Transaction
    from backup.inventory.store.database import Inventory
    from backup.restorer.restore import RestoreContext, RestoreReport
    from backup.restorer.selection.choice import Choice

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
    _check_output(output, force=force)
    config = cli.config()
    if output is not None:
        refuse_own(config, os.fsencode(os.path.abspath(output)))
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            some = chosen_paths(path, paths)
            holds = paths_that_choose_job(path, [chosen_path.glob for chosen_path in some])
            named = chosen_job(config, tx, job)
            snapshot = find_snapshot(tx, name, job=named, at=at, paths=holds, tags=tags)
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
        begun, context, known = _begun(cli, inventory, snapshot, path, choice, terms)
        _await(cli, begun, context, known, wait=wait)
        with _opened(output, force=force) as sink:
            report = stream(begun, context, sink.write)
    _tell_report(cli, report, output)


def _begun(
    cli: Cli, inventory: Inventory, snapshot: Snapshot, path: bytes, choice: Choice, terms: RetrievalTerms
) -> tuple[Restore, RestoreContext, Sequence[Retrieval] | None]:
    """The restore that asks for what the dump needs, begun now or by the same command before.

    Last the retrievals, if they were asked for now.
    """
    from backup.app.restores.contexts import restore_context
    from backup.inventory.records.runs import vault_of_job
    from backup.restorer.dump.dump import STDOUT
    from backup.restorer.restore import find_open, plan_restore

    with inventory.reading() as tx:
        vault = vault_of_job(tx, snapshot.job_number)
    context = restore_context(context_of(cli, cli.config(), inventory), vault)
    plan = plan_restore(snapshot, path, context, choice)
    tell_unmet(cli, plan)
    begun = find_open(context, plan, STDOUT)
    if begun is not None:
        return begun, context, None
    asked = begin_and_ask(cli, plan, STDOUT, context, terms)
    return asked.restore, context, asked.known


def _await(
    cli: Cli, begun: Restore, context: RestoreContext, known: Sequence[Retrieval] | None, *, wait: bool
) -> None:
    """Ask for what is needed, and return once all of it is readable. `RetrievalNotReadyError`."""
    from backup.cli.support.waiting import expected_text
    from backup.errors import RetrievalNotReadyError
    from backup.restorer.restore import advance, is_ready

    if known is None:
        known = advance(begun, context, anew=True)
    known = wait_until_readable(is_ready, known, cli, begun, context, wait=wait)
    if not is_ready(known):
        when = expected_text(expected_of(cli, begun, known), cli.clock.now())
        raise RetrievalNotReadyError(
            f"nothing was written: restore {begun.id} waits for the vault ({begun.tier}){when}",
            advice="the same command again, later, writes it; with --wait it stays until then",
        )


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


def _check_output(output: str | None, *, force: bool) -> None:
    """Refuse a file that exists, or others' pipe, before anything is asked for. `UsageError`."""
    if output is None and force:
        raise UsageError("--force goes with -o FILE")
    if output == "":
        raise UsageError("-o is empty", advice="name a file, or leave -o out for standard output")
    if output is None or _is_special(output) or force or not os.path.lexists(output):
        return
    if os.path.isdir(output):
        raise UsageError(f"{output} is a directory", advice="give -o the name of a file in it")
    raise UsageError(f"{output} is there already", advice="--force replaces it, once the new one is whole")


def _is_special(output: str) -> bool:
    """Whether a device or pipe is there that may be written to. `UsageError` if it is another user's."""
    from backup.safe_paths import special_at

    try:
        handle = special_at(output)
    except OSError as error:
        raise UsageError(
            f"{output} is not written to: {error.strerror}", advice="name a place where nobody else writes"
        ) from error
    if handle is not None:
        os.close(handle)
    return handle is not None


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


@contextmanager
def _opened(output: str | None, *, force: bool) -> Iterator[IO[bytes]]:
    """Standard output, a device or a pipe, or a file that gets its name once it is complete and on disk."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from backup.safe_paths import open_special

    try:
        with Draft(output, special=open_special(output)) as draft:
            yield draft.file
            draft.place(replace=force)  # else not in place of a file that came meanwhile
    except OSError as error:
        raise TargetError(f"{output} cannot be written: {error.strerror}") from error


def _tell_report(cli: Cli, report: RestoreReport, output: str | None) -> None:
    from backup.cli.render.problems import problem_lines
    from backup.cli.render.render import counted, size
    from backup.kinds import Outcome

    for line in problem_lines(report.problems):
        cli.warn(line)
    for warning in report.warnings:
        cli.warn(f"warning: {warning}")
    if output is not None:
        shown = {"file": output}
        text = f"{counted(report.files, 'file')}, {size(report.bytes)}, written to {output}"
        cli.report(restore_document(report) | shown, text)
    if report.outcome is not Outcome.DONE:
        cli.warn("not everything could be dumped: see above")
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
