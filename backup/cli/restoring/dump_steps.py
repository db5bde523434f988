"""The steps that `dump` and `restore --database` share: ask the vault, wait, write to a file, report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from backup.cli.restoring.restore_choice import tell_unmet
from backup.cli.restoring.restore_output import restore_document
from backup.cli.restoring.restore_terms import RetrievalTerms, begin_and_ask
from backup.cli.restoring.restore_waiting import expected_of, wait_until_readable
from backup.cli.support.context import Cli
from backup.cli.support.operating import context_of
from backup.errors import ExitCode, UsageError, writing_to
from backup.files import Draft

if TYPE_CHECKING:
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.inventory.store.database import Inventory
    from backup.model import VaultName
    from backup.restorer.dump.dump import Sink
    from backup.restorer.restore import RestoreContext, RestoreReport
    from backup.restorer.selection.choice import Choice


def begun_stream(
    cli: Cli,
    inventory: Inventory,
    snapshot: Snapshot,
    path: bytes,
    choice: Choice,
    terms: RetrievalTerms,
    from_vault: VaultName | None,
) -> tuple[Restore, RestoreContext, Sequence[Retrieval] | None]:
    """Return the restore that asks for what a dump needs, begun now or by the same command before.

    Last the retrievals, if they were asked for now.
    """
    from backup.app.restores.contexts import context_of_snapshot
    from backup.restorer.dump.dump import STDOUT
    from backup.restorer.restore import find_open, plan_restore

    context = context_of_snapshot(context_of(cli, cli.config(), inventory), snapshot, from_vault)
    plan = plan_restore(snapshot, path, context, choice)
    tell_unmet(cli, plan)
    begun = find_open(context, plan, STDOUT)
    if begun is not None:
        return begun, context, None
    asked = begin_and_ask(cli, plan, STDOUT, context, terms)
    return asked.restore, context, asked.known


def await_stream(
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


def check_output(output: str | None, *, force: bool) -> None:
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


@contextmanager
def opened_output(output: str | None, *, force: bool) -> Iterator[Sink]:
    """Return what writes to standard output, a device, a pipe, or a file that gets its name once it is whole.

    What is written is given to the system at once: a full disk ends the run itself.
    """
    if output is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    from backup.safe_paths import open_special

    with writing_to(output), Draft(output, special=open_special(output)) as draft:
        yield writing_to(output)(draft.write)
        draft.place(replace=force)  # else not in place of a file that came meanwhile


def tell_dumped(cli: Cli, report: RestoreReport, output: str | None) -> None:
    """Say what came of a dump; exit code 3 if it is not whole."""
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
