"""`nightvault restore`: quotes, asks the vault, waits or is run again later, and writes the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

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
from backup.cli.restoring.restore_choice import (
    VOLUME,
    NamedPath,
    choice_options,
    chosen_paths,
    confirm_changes,
    confirm_way,
    made_choice,
    refuse_volumes_in_place,
    tell_unmet,
    volume_as_target,
    with_paths,
)
from backup.cli.restoring.restore_database import DatabaseWish, database_options, restore_database
from backup.cli.restoring.restore_output import show_restored, show_waiting
from backup.cli.restoring.restore_terms import RetrievalTerms, begin_and_ask
from backup.cli.restoring.restore_waiting import telling_what_stays, wait_until_readable
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithSubcommands
from backup.cli.support.operating import context_of
from backup.errors import LockedError, UsageError
from backup.inventory.store.states import RestoreStage
from backup.log_context import about
from backup.model import OnCapacity

if TYPE_CHECKING:
    from datetime import datetime

    from backup.app.restores.held import HeldNotes
    from backup.app.restores.quotes import QuoteElsewhere
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.restorer.restore import RestoreContext, RestorePlan
    from backup.safe_paths import Way

EXAMPLES = {
    "restore": (
        "nightvault restore latest:/etc --target /mnt/back --key recovery.key --wait",
        "nightvault restore --database shop --as shop_before --key recovery.key",
    ),
    "restore resume": ("nightvault restore resume 4f6c2a10", "nightvault restore resume 4f6c2a10 --wait"),
    "restore cancel": ("nightvault restore cancel 4f6c2a10", "nightvault restore cancel 4f6c2a10 --json"),
}


@click.command(cls=CommandWithSubcommands)
@click.argument("words", metavar="SNAPSHOT[:PATH]", required=False)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--target", metavar="DIR", help="The target directory, created if missing; or volume:NAME.")
@click.option("--in-place", is_flag=True, help="Restore to the original place; asks, or needs --yes.")
@database_options
@job_option
@tag_option
@at_option
@choice_options
@key_options
@from_vault_option
@capacity_option
@wait_option
@numeric_owner_option
@click.option(
    "--dry-run", is_flag=True, help="Show what each tier would retrieve and cost; retrieve nothing."
)
@pass_cli
def restore(
    cli: Cli,
    /,
    words: str | None,
    paths: tuple[str, ...],
    target: str | None,
    in_place: bool,
    job: str | None,
    tags: Tags,
    at: datetime | None,
    **given: Any,
) -> None:
    """Restore a snapshot, or PATH in it, below --target; further PATHs choose what of that.

    A PATH may be a glob: `*`, `?`, `[…]`, `**` for any directories; quote it from your shell. With --database
    NAME a dump goes back into its server; what is there stays, but with --overwrite always. The target
    volume:NAME is a volume of the containers of a job; without a PATH what it held comes back.

    If the vault must make archives readable first, run the same command again later, and it continues; so
    does `restore resume ID`. Exit code 17 says that it waits: run it again later; 3 that some files could not
    be restored: they are named.
    """
    wish = DatabaseWish.taken_from(given)
    if wish.database is not None:
        if target is not None or in_place or paths:
            raise UsageError("--database goes without a PATH, --target and --in-place")
        restore_database(cli, wish, words or "latest", job, at, given)
        return
    if words is None:
        raise click.MissingParameter(param_hint="SNAPSHOT[:PATH]", param_type="argument")
    _restore_files(cli, words, paths, target, in_place, job, tags, at, **given)


def _restore_files(
    cli: Cli,
    words: str,
    paths: tuple[str, ...],
    target: str | None,
    in_place: bool,
    job: str | None,
    tags: Tags,
    at: datetime | None,
    *,
    yes: bool,
    wait: bool,
    dry_run: bool,
    from_vault: str | None,
    **given: Any,
) -> None:
    """Restore files of a snapshot."""
    from backup.app.base.opened import opened
    from backup.app.restores.contexts import context_of_snapshot, refuse_own
    from backup.cli.support.quoting import show_plan
    from backup.inventory.content.snapshots import find_snapshot
    from backup.restorer.restore import plan_restore
    from backup.restorer.writer.directories import way_to

    terms = RetrievalTerms.taken_from(given)
    name, path = split_snapshot_and_path(words)
    if target is not None and target.startswith(VOLUME):
        target, path = volume_as_target(cli, cli.config(), target, path, job, yes=yes or dry_run)
    path, some = _chosen(path, paths, in_place=in_place)
    where = _target_directory(target, in_place=in_place)
    config = cli.config()
    refuse_own(config, *([os.path.dirname(named.path) for named in some] if in_place else [where]))
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            holds = paths_that_choose_job(path, [chosen_path.glob for chosen_path in some])
            named = chosen_job(config, tx, job)
            vault = chosen_vault(config, from_vault)
            snapshot = find_snapshot(tx, name, job=named, at=at, paths=holds, tags=tags, copied_to=vault)
            path = saved_path(tx, snapshot, path)
            choice = with_paths(tx, snapshot, made_choice(**given), some)
            if in_place:
                refuse_volumes_in_place(tx, snapshot, choice)
        context = context_of_snapshot(context_of(cli, config, inventory), snapshot, vault)
        with way_to(os.fsdecode(where)) as way:
            plan = plan_restore(snapshot, path, context, choice, target=way)
            tell_unmet(cli, plan)
            if dry_run:
                show_plan(cli, config, context, plan, _elsewhere(cli, context, plan, way))
                return
            over = given["overwrite"]
            begun, plan, known = _begun(cli, plan, where, way, context, terms, yes=yes, overwrite=over)
        fresh = None if context.vault.traits.waits else plan
        del plan  # in hours of waiting it would grow old, and take memory
        with telling_what_stays(cli, begun):
            carry_on(cli, begun, context, wait=wait, fresh=fresh, known=known)


def _elsewhere(cli: Cli, context: RestoreContext, plan: RestorePlan, way: Way) -> list[QuoteElsewhere]:
    """The quotes of the same restore from each other vault that has all of it."""
    from backup.app.restores.quotes import quotes_elsewhere
    from backup.restorer.restore import plan_restore

    if context.joined is None:
        return []
    at = context_of(cli, cli.config(), context.inventory)
    plan_in = partial(plan_restore, plan.snapshot, plan.path, choice=plan.choice, target=way)
    return [*quotes_elsewhere(at, plan.snapshot, context.vault.name, plan_in)]


def _begun(
    cli: Cli,
    plan: RestorePlan,
    target: bytes,
    way: Way,
    context: RestoreContext,
    terms: RetrievalTerms,
    *,
    yes: bool,
    overwrite: str,
) -> tuple[Restore, RestorePlan, Sequence[Retrieval] | None]:
    """The open restore that wants the same, or a new one; its plan; its retrievals if just asked for.

    A new one is recorded once its target was made and opened: where it cannot be used, nothing stays open.
    The way to the target is walked then, and never again: which directory it led to is recorded.
    """
    from backup.restorer.restore import find_open, open_beside
    from backup.restorer.writer.mark import leave_mark, made_target, place_of, read_place

    begun = find_open(context, plan, target)
    if begun is None:
        for other in open_beside(context, target):
            cli.warn(
                f"restore {other.id} into the same place is open, too, and this is another one; "
                f"`nightvault restore cancel {other.id}` ends it"
            )
        confirm_changes(cli, plan, in_place=target == b"/", yes=yes, overwrite=overwrite)
    if begun is None or read_place(begun, context.inventory) is None:
        confirm_way(cli, way, yes=yes)
    if begun is not None:
        leave_mark(begun, context, agreed=way)
        return begun, plan, None
    with made_target(way) as made:
        place, mark = place_of(way.handle, way.path), partial(leave_mark, made=made)
        return begin_and_ask(cli, plan, target, context, terms, place=place, began=mark)


def _chosen(path: bytes, paths: Sequence[str], *, in_place: bool) -> tuple[bytes, list[NamedPath]]:
    """The path that is restored and the choice within it; in place nothing moves up to the target."""
    some = chosen_paths(path, paths)
    if not in_place:
        return path, some
    return b"/", some or (chosen_paths(b"/", [os.fsdecode(path)]) if path != b"/" else [])


def _target_directory(target: str | None, *, in_place: bool) -> bytes:
    """The absolute path of the target directory; `/` for a restore in place. `UsageError`."""
    if in_place == (target is not None):
        raise UsageError("restore where?", advice="give either --target DIR or --in-place")
    if target == "":
        raise UsageError("--target is empty", advice="name a directory: `.` is the one where you are")
    return b"/" if target is None else os.fsencode(os.path.abspath(target))


@restore.subcommand("resume")
@click.argument("restore_id", metavar="ID")
@capacity_option
@wait_option
@numeric_owner_option
@click.option(
    "--unattended",
    is_flag=True,
    help="As the daemon does: only into a target that a restore command marked; do nothing where another "
    "process is at work on it.",
)
@pass_cli
def resume(
    cli: Cli, restore_id: str, on_capacity: str | None, wait: bool, numeric_owner: bool, unattended: bool
) -> None:
    """Continue an open restore: fetch retrieved data, request missing retrievals.

    Exit code 17 says that it still waits: run it again later.
    """
    from backup.app.base.opened import opened
    from backup.app.base.state import State
    from backup.app.restores.contexts import context_of_restore
    from backup.app.restores.held import HeldNotes
    from backup.inventory.content.copied import home_of
    from backup.restorer.restore import choose_on_capacity, find_restore
    from backup.restorer.selection.choice import Choice
    from backup.restorer.writer.mark import leave_mark

    config = cli.config()
    with closing(opened(config)) as inventory:
        begun = find_restore(inventory, restore_id)
        if begun.state is not RestoreStage.OPEN:
            advice = "what it could not bring: the restore command again, with --overwrite if-changed"
            raise UsageError(f"restore {begun.id} is already {begun.state}", advice=advice)
        if Choice.decode(begun.choice).output:
            raise UsageError(f"restore {begun.id} is a dump", advice="run the same dump command again")
        if on_capacity is not None:
            begun = choose_on_capacity(begun, inventory, OnCapacity(on_capacity))
        with inventory.reading() as tx:
            home = home_of(tx, begun.snapshot)
        context = context_of_restore(context_of(cli, config, inventory), home, begun.vault)
        context = replace(context, numeric_owner=numeric_owner, unattended=unattended)
        notes = HeldNotes(State(config.state_dir).restores)
        if unattended:
            with about(restore=begun.id, vault=begun.vault):
                _carry_on_alone(cli, begun, context, notes, wait=wait)
            return
        leave_mark(begun, context)
        notes.clear(begun.id)
        with telling_what_stays(cli, begun):
            carry_on(cli, begun, context, wait=wait)


def _carry_on_alone(
    cli: Cli, begun: Restore, context: RestoreContext, notes: HeldNotes, *, wait: bool
) -> None:
    """Carry on as the daemon does: an error is noted for `restores`, as nobody may be there to read it."""
    from backup.restorer.writer.mark import require_mark

    try:
        with notes.noting(begun.id):
            require_mark(begun, context)
            notes.clear(begun.id)
            carry_on(cli, begun, context, wait=wait)
    except LockedError as error:
        cli.say(str(error))


@restore.subcommand("cancel")
@click.argument("restore_id", metavar="ID")
@pass_cli
def cancel(cli: Cli, restore_id: str) -> None:
    """Cancel an open restore; data that was requested is not fetched."""
    from backup.app.base.opened import opened
    from backup.app.base.state import State
    from backup.restorer.restore import cancel as give_up
    from backup.restorer.restore import find_restore

    config = cli.config()
    with closing(opened(config)) as inventory:
        begun = find_restore(inventory, restore_id)
        give_up(begun, inventory, State(config.state_dir).restores, cli.clock)
    cli.report({"restore": begun.id, "state": "cancelled"}, f"restore {begun.id} is cancelled")


def carry_on(
    cli: Cli,
    begun: Restore,
    context: RestoreContext,
    *,
    wait: bool,
    fresh: RestorePlan | None = None,
    known: Sequence[Retrieval] | None = None,
) -> None:
    """Request missing retrievals, and write what is readable; with `wait` until the restore is done.

    `fresh` is a plan that was just made; `known` are the retrievals, if they were just requested.
    """
    from backup.kinds import Outcome
    from backup.restorer.restore import advance, has_come, step

    if known is None:
        known = advance(begun, context, anew=not context.unattended)
    context = replace(context, retry_limit=cli.retry_limit(has_answered=True))
    while True:
        known = wait_until_readable(has_come, known, cli, begun, context, wait=wait)
        if not has_come(known):
            show_waiting(cli, begun, known)
        done = step(begun, context, known=known, fresh=fresh)
        if done.report is not None and done.report.outcome is not Outcome.RUNNING:
            show_restored(cli, done.report)
            return
        known, fresh = done.known, None
