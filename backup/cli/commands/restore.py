"""`nightvault restore`: know the price, ask, wait or come back later, and have the files again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from backup.cli.commands.snapshots import deciding, job_option, split_words
from backup.cli.support.choosing import (
    choice_options,
    chosen_paths,
    made_choice,
    settle,
    tell_unmet,
    with_paths,
)
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithWords
from backup.cli.support.keyfiles import read_keys
from backup.cli.support.moments import at_option
from backup.cli.support.waiting import Wait, hours_told, told
from backup.errors import ExitCode, LockedError, RetrievalExpiredError, UsageError
from backup.inventory.runs import Outcome
from backup.model import JobName, Tier

if TYPE_CHECKING:
    from datetime import datetime

    from backup.app.expecting import Expected
    from backup.app.held import HeldNotes
    from backup.inventory.retrievals import Restore, Retrieval
    from backup.restorer.restore import RestoreContext, RestorePlan, RestoreReport


numeric_option = click.option(
    "--numeric-owner",
    is_flag=True,
    help="Owners, groups and ACLs by their numbers, even where this machine knows their names.",
)
wait_option = click.option(
    "--wait", is_flag=True, help="Stay until the vault is ready, however long it takes."
)
capacity_option = click.option(
    "--on-capacity",
    type=click.Choice(["wait", "standard", "bulk", "fail"]),
    help="What to do when the vault cannot serve the tier now: wait, take another tier, or fail.",
)


_KEY_OPTIONS = [
    click.option(
        "--key",
        "key_files",
        metavar="FILE|-",
        multiple=True,
        help="The recovery key; asked for if it is not given. Several where recipients have changed.",
    ),
    click.option(
        "--passphrase-file",
        "passphrase_files",
        metavar="FILE",
        multiple=True,
        help="Where the key file's passphrase is; for several keys one each, in order, or one for all.",
    ),
    click.option("--tier", type=click.Choice([str(tier) for tier in Tier]), help="How fast, and how dear."),
    click.option("--max-cost", metavar="MONEY", help="Refuse (16) what costs more, by the price table."),
]


def key_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options on keys, tier and money."""
    for option in reversed(_KEY_OPTIONS):
        function = option(function)
    return function


@click.command(cls=CommandWithWords)
@click.argument("words", metavar="SNAPSHOT[:PATH]")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--target", metavar="DIR", help="Where to write; made if it is not there.")
@click.option("--in-place", is_flag=True, help="Write where it came from; asks, or needs --yes.")
@job_option
@at_option
@choice_options
@key_options
@capacity_option
@wait_option
@numeric_option
@click.option("--dry-run", is_flag=True, help="Say what each tier would retrieve and cost; ask for nothing.")
@pass_cli
def restore(
    cli: Cli,
    /,
    words: str,
    paths: tuple[str, ...],
    target: str | None,
    in_place: bool,
    job: str | None,
    at: datetime | None,
    yes: bool,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    tier: str | None,
    on_capacity: str | None,
    max_cost: str | None,
    wait: bool,
    numeric_owner: bool,
    dry_run: bool,
    **chosen: Any,
) -> None:
    """Restore a snapshot, or PATH in it, below --target; further PATHs choose what of that.

    A PATH may be a glob: `*`, `?`, `[…]`, `**` for any directories; quote it from your shell.

    From a vault that must make archives readable first, the same command given again later goes on where it
    is; so does `restore resume ID`. Exit code 17 says that it waits: come again; 3 that some files could not
    be restored: they are named.
    """
    from backup.app.prices import gap_for, price_of
    from backup.app.runs import opened, restore_world
    from backup.cli.support.quoting import hold_to_limit, limit_of, quotes_of, show_plan
    from backup.inventory.runs import vault_of_job
    from backup.inventory.snapshots import find_snapshot
    from backup.restorer.restore import begin_restore, find_open, plan_restore
    from backup.restorer.target.mark import leave_mark

    name, path = split_words(words)
    some = chosen_paths(path, paths)
    if in_place:
        path, some = b"/", some or (chosen_paths(b"/", [os.fsdecode(path)]) if path != b"/" else [])
    where = _where(target, in_place=in_place)
    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            holds = deciding(path, [one.glob for one in some])
            snapshot = find_snapshot(tx, name, job=JobName(job) if job else None, at=at, paths=holds)
            vault = vault_of_job(tx, snapshot.job_number)
            choice = with_paths(tx, snapshot, made_choice(numeric_owner=numeric_owner, **chosen), some)
        context = restore_world(
            config, inventory, vault, clock=cli.clock, progress=cli.progress(), reach=cli.reach()
        )
        plan = plan_restore(snapshot, path, context, choice, target=where)
        tell_unmet(cli, plan)
        settings = config.vault(vault)
        found = quotes_of(config, settings, context.vault, plan)
        if dry_run:
            show_plan(cli, config, settings, plan, found)
            return
        speed = Tier(tier) if tier else settings.tier
        begun = find_open(context, plan, where)
        if begun is None:
            settle(cli, plan, in_place=where == b"/", yes=yes, overwrite=chosen["overwrite"])
            hold_to_limit(config, settings, found, speed, limit_of(max_cost, config), say=cli.say)
            begun = begin_restore(
                plan.laid(gap_for(price_of(config, settings), speed)),
                where,
                context,
                tier=speed,
                keys=lambda: read_keys(key_files, passphrase_files),
                on_capacity=on_capacity or config.restore.on_capacity,
            )
        leave_mark(begun, context)
        fresh = None if context.vault.traits.waits else plan
        del plan, found  # in hours of waiting it would grow old, and take memory
        carry_on(cli, begun, context, wait=wait, fresh=fresh)


def _where(target: str | None, *, in_place: bool) -> bytes:
    if in_place == (target is not None):
        raise UsageError("restore where?", advice="give either --target DIR or --in-place")
    if target == "":
        raise UsageError("--target is empty", advice="name a directory: `.` is the one where you are")
    return b"/" if target is None else os.fsencode(os.path.abspath(target))


@restore.word("resume")
@click.argument("restore_id", metavar="ID")
@capacity_option
@wait_option
@numeric_option
@click.option(
    "--unattended",
    is_flag=True,
    help="As the daemon does: only into a target that a restore command marked, and leave it to others "
    "that are at it.",
)
@pass_cli
def resume(
    cli: Cli, restore_id: str, on_capacity: str | None, wait: bool, numeric_owner: bool, unattended: bool
) -> None:
    """Go on with an open restore: see what is ready, bring it down, ask for what is missing.

    Exit code 17 says that it still waits: come again.
    """
    from backup.app.held import HeldNotes
    from backup.app.runs import opened, restore_world
    from backup.app.state import State
    from backup.restorer.restore import choose_on_capacity, find_restore
    from backup.restorer.selection.choice import Choice
    from backup.restorer.target.mark import leave_mark

    config = cli.config()
    with closing(opened(config)) as inventory:
        begun = find_restore(inventory, restore_id)
        if begun.state != "open":
            advice = "what it could not bring: the restore command again, with --overwrite if-changed"
            raise UsageError(f"restore {begun.id} is {begun.state} already", advice=advice)
        if Choice.decode(begun.choice).output:
            raise UsageError(f"restore {begun.id} is a dump", advice="give the same dump command again")
        if on_capacity is not None:
            begun = choose_on_capacity(begun, inventory, on_capacity)
        context = restore_world(
            config, inventory, begun.vault, clock=cli.clock, progress=cli.progress(), reach=cli.reach()
        )
        context = replace(context, numeric_owner=numeric_owner, unattended=unattended)
        notes = HeldNotes(State(config.state_dir).restores)
        if unattended:
            _carry_on_alone(cli, begun, context, notes, wait=wait)
            return
        leave_mark(begun, context)
        notes.clear(begun.id)
        carry_on(cli, begun, context, wait=wait)


def _carry_on_alone(
    cli: Cli, begun: Restore, context: RestoreContext, notes: HeldNotes, *, wait: bool
) -> None:
    """As `carry_on`; what ends it is noted, as nobody may be there to read it."""
    from backup.restorer.target.mark import require_mark

    try:
        with notes.noting(begun.id):
            require_mark(begun, context)
            notes.clear(begun.id)
            carry_on(cli, begun, context, wait=wait)
    except LockedError as error:
        cli.say(str(error))


@restore.word("cancel")
@click.argument("restore_id", metavar="ID")
@pass_cli
def cancel(cli: Cli, restore_id: str) -> None:
    """Give an open restore up; what was asked for is not fetched."""
    from backup.app.runs import opened
    from backup.app.state import State
    from backup.restorer.restore import cancel as give_up
    from backup.restorer.restore import find_restore

    config = cli.config()
    with closing(opened(config)) as inventory:
        begun = find_restore(inventory, restore_id)
        give_up(begun, inventory, State(config.state_dir).restores, cli.clock)
    cli.report({"restore": begun.id, "state": "cancelled"}, f"restore {begun.id} is cancelled")


def carry_on(
    cli: Cli, begun: Restore, context: RestoreContext, *, wait: bool, fresh: RestorePlan | None = None
) -> None:
    """Ask, and bring down what is ready; with `wait` until all came. `fresh`: a plan made a moment ago."""
    from backup.restorer.restore import advance, is_partly_ready, is_ready, waiting_report

    pauses = Wait(cli, context.progress)
    may_lapse = not context.vault.traits.waits
    known = advance(begun, context, anew=not context.unattended)
    while True:
        context = replace(context, reach=cli.reach(has_answered=True))
        if is_ready(known) or is_partly_ready(known):
            pauses.over()
            report = _bring(begun, known, context, fresh, may_lapse=may_lapse)
            if report is not None and report.outcome is not Outcome.RUNNING:
                _tell(cli, report)
                return
            may_lapse = may_lapse and report is not None
            fresh = None
        elif not wait and context.vault.traits.waits:
            _tell_waiting(cli, begun, waiting_report(begun, known), expected_of(cli, begun, known))
            return
        else:
            wait_on(cli, begun, known, pauses)
        known = advance(begun, context)


def _bring(
    begun: Restore,
    known: Sequence[Retrieval],
    context: RestoreContext,
    fresh: RestorePlan | None,
    *,
    may_lapse: bool,
) -> RestoreReport | None:
    """Bring down what is ready; None if all of it went in between, where asking again costs nothing."""
    from backup.restorer.restore import deliver

    try:
        return deliver(begun, known, context, fresh=fresh)
    except RetrievalExpiredError:
        if may_lapse:
            return None
        raise


def expected_of(cli: Cli, begun: Restore, known: Sequence[Retrieval]) -> Expected | None:
    """When what a restore waits for is expected."""
    from backup.app.expecting import expected

    return expected(cli.config().vault(begun.vault), known)


def wait_on(cli: Cli, begun: Restore, known: Sequence[Retrieval], pauses: Wait) -> None:
    """Wait until the next look; the first time, say until when, and what may be done meanwhile."""
    from backup.cli.support.render import counted

    if not pauses.has_begun:
        cli.say(f"Ctrl-C is safe: `nightvault restore resume {begun.id}` goes on, and so does the daemon")
    count = counted(sum(one.state in {"planned", "waiting"} for one in known), "retrieval")
    when = told(expected_of(cli, begun, known), cli.clock.now())
    pauses.until_next_look(f"Restore {begun.id[:8]} waits for {count} ({begun.tier}){when}")


def _tell_waiting(cli: Cli, begun: Restore, report: RestoreReport, when: Expected | None) -> None:
    from backup.app.expecting import hours_of
    from backup.cli.support.render import counted

    asked = counted(report.retrievals, "retrieval")
    usual = hours_told(*hours_of(cli.config().vault(begun.vault), begun.tier))
    by = f"({usual} with {begun.tier}){told(when, cli.clock.now())}"
    lines = [
        f"restore {begun.id} waits for {report.waiting} of {asked} {by}",
        f"next: the same command again, then, or `nightvault restore resume {begun.id} --wait` now",
    ]
    document = restore_document(report) | {"expected_at": None if when is None else when.latest}
    cli.report(document, "\n".join(lines))
    raise click.exceptions.Exit(int(ExitCode.WAITING))


def restore_document(report: RestoreReport) -> dict[str, Any]:
    """A report as JSON."""
    from backup.cli.support.render import path_document

    problems = [
        {**path_document(one.path), "kind": str(one.kind), "detail": one.detail} for one in report.problems
    ]
    return report.document() | {
        "target": path_document(report.target),
        "problems": problems,
        "expected_at": None,
    }


def _tell(cli: Cli, report: RestoreReport) -> None:
    from backup.cli.support.problems import told
    from backup.cli.support.render import counted, duration, shown_id, shown_path, size
    from backup.model import SnapshotId

    for line in told(report.problems):
        cli.warn(line)
    for warning in report.warnings:
        cli.warn(f"warning: {warning}")
    wrote = f"{counted(report.files, 'file')} and {counted(report.directories, 'directory')}"
    text = [
        f"snapshot {shown_id(SnapshotId(report.snapshot))} restored below {shown_path(report.target)}",
        f"  wrote      {wrote}, {size(report.bytes)}",
        f"  retrieved  {size(report.retrieved)} in {counted(report.retrievals, 'retrieval')}",
        f"  took       {duration(report.seconds)}",
    ]
    counts = {"kept": report.kept, "removed": report.removed, "read back": report.verified}
    text[2:2] = [f"  {word:<10} {counted(count, 'entry')}" for word, count in counts.items() if count]
    cli.report(restore_document(report), "\n".join(text))
    if report.outcome is not Outcome.DONE:
        cli.warn("not everything could be restored or set: see above")
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
