"""The terms of a restore or dump: recovery keys, tier, limit of cost; and its begin within that limit.

If the vault lacks an archive, it is begun again with copies from other archives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from backup.cli.restoring.restore_waiting import telling_what_stays
from backup.cli.support.context import Cli
from backup.cli.support.keyfiles import read_keys
from backup.model import OnCapacity, Tier

if TYPE_CHECKING:
    from backup.format.keys import RecoveryKey
    from backup.inventory.records.restore_state import RestoreTarget
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.restorer.restore import RestoreContext, RestorePlan


@dataclass(frozen=True)
class RetrievalTerms:
    """The values of the options of `key_options` and `capacity_option`, as they were given."""

    key_files: tuple[str, ...]
    passphrase_files: tuple[str, ...]
    tier: str | None
    max_cost: str | None
    on_capacity: str | None

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> RetrievalTerms:
        """Take the terms out of a command's options `given`, and return them."""
        return cls(**{field.name: given.pop(field.name) for field in fields(cls)})

    @cached_property
    def keys(self) -> list[RecoveryKey]:
        """Return the recovery keys; they are read, or typed by the user, once."""
        return read_keys(self.key_files, self.passphrase_files)


def _begin_within_limit(
    cli: Cli,
    plan: RestorePlan,
    target: bytes,
    context: RestoreContext,
    terms: RetrievalTerms,
    place: RestoreTarget | None = None,
) -> Restore:
    """Begin and record the restore of a plan. `LimitRefusedError` if it would cost more than the limit."""
    from backup.app.money.limits import limit_on
    from backup.app.money.prices import gap_for, price_of
    from backup.app.restores.quotes import quotes_of
    from backup.cli.support.quoting import limit_of
    from backup.restorer.restore import begin_restore

    config = cli.config()
    settings, found = quotes_of(config, context, plan)
    tier = Tier(terms.tier) if terms.tier else settings.tier
    amount = limit_of(terms.max_cost, config)
    limit = limit_on(config, settings, found, amount, "this restore", less="restore less")
    for sentence in limit.remarks(tier):
        cli.say(sentence)
    return begin_restore(
        plan.laid(gap_for(price_of(config, settings), tier)),
        target,
        context,
        limit,
        tier=tier,
        keys=lambda: terms.keys,
        on_capacity=OnCapacity(terms.on_capacity or config.restore.on_capacity),
        place=place,
    )


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
        begun = _begin_within_limit(cli, plan, target, context, terms, place)
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
