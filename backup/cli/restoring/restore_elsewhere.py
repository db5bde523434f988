"""A restore that is begun anew where the vault lacks an archive, and what it held is kept in another, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from backup.cli.restoring.restore_terms import RetrievalTerms, begin_within_limit
from backup.cli.restoring.restore_waiting import telling_what_stays
from backup.cli.support.context import Cli

if TYPE_CHECKING:
    from backup.inventory.records.restore_state import RestoreTarget
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.restorer.restore import RestoreContext, RestorePlan


class BegunRestore(NamedTuple):
    """A restore whose first requests were made, with its plan and the retrievals as they stand."""

    restore: Restore
    plan: RestorePlan
    known: Sequence[Retrieval]


def begin_and_ask(
    cli: Cli,
    plan: RestorePlan,
    target: bytes,
    context: RestoreContext,
    terms: RetrievalTerms,
    *,
    place: RestoreTarget | None = None,
    began: Callable[[Restore, RestoreContext], None] = lambda *_: None,
) -> BegunRestore:
    """Begin a restore and ask for what it needs, around archives that the vault says it does not have.

    The recovery key is at hand now, and the copies' keys have to be opened by it. What was asked for before
    serves the new restore, too, so nothing is paid twice. `place` is the record of the target. `began` is
    called before anything is asked for. The report of the last one names what the first ones could not have.
    """
    from backup.app.base.state import State
    from backup.inventory.records.restore_state import note_elsewhere
    from backup.inventory.store.states import RetrievalStage
    from backup.restorer.given_up import given_up
    from backup.restorer.restore import advance, cancel, plan_restore

    directory = State(cli.config().state_dir).restores
    lacks: Mapping[int, str] = {}
    while True:
        begun = begin_within_limit(cli, plan, target, context, terms, place)
        began(begun, context)
        with context.inventory.writing() as tx:
            note_elsewhere(tx, begun.number, lacks)
        with telling_what_stays(cli, begun):
            known = advance(begun, context)
        if all(retrieval.state is not RetrievalStage.FAILED for retrieval in known):
            return BegunRestore(begun, plan, known)
        better = plan_restore(plan.snapshot, plan.path, context, plan.choice, confirmed=plan.confirmed)
        if not better.archives.keys() - plan.archives.keys():
            return BegunRestore(begun, plan, known)  # it is kept nowhere else
        cli.say("what it held is kept in another archive, too, and is taken from there")
        with context.inventory.reading() as tx:
            lacks = given_up(tx, begun)
        cancel(begun, context.inventory, directory, cli.clock, keeps_target=True)
        plan = better  # without the archives that are lost now: each round there are fewer
