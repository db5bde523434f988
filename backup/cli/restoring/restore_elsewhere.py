"""Begins a restore; if the vault lacks an archive, begins again with copies from other archives."""

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
    """A restore whose first retrievals were requested, with its plan and the state of the retrievals."""

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
    """Begin a restore and request its retrievals; begin again if the vault lacks an archive with a copy.

    Copies need the recovery key, which is at hand only now. Retrievals requested before serve the new
    restore, too, so nothing is paid twice. `place` is the record of the target. `began` is called before
    anything is requested. The last restore's report names what the earlier ones did not find.
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
