"""The terms of a restore or dump: recovery keys, tier, limit of cost; and its begin within that limit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from backup.cli.support.context import Cli
from backup.cli.support.keyfiles import read_keys
from backup.model import OnCapacity, Tier

if TYPE_CHECKING:
    from backup.format.keys import RecoveryKey
    from backup.inventory.records.restore_state import RestoreTarget
    from backup.inventory.records.retrievals import Restore
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


def begin_within_limit(
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
    from backup.cli.support.quoting import limit_of, quotes_of
    from backup.restorer.restore import begin_restore

    config = cli.config()
    settings = config.vault(context.vault.name)
    tier = Tier(terms.tier) if terms.tier else settings.tier
    found = quotes_of(config, settings, context.vault, plan)
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
