"""The limit of cost that retrievals are held to before the first is requested; pure: costs are brought to it.

Whatever records retrievals to be requested takes a `CostLimit` and calls `hold`, whoever begins it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from backup.cost.table import PriceTable
from backup.errors import LimitRefusedError, MonthSpentError
from backup.model import Tier

MEND = "`nightvault prices` names the mistake: mend the table, or move it away"
"""The advice where prices cannot be read."""


class TierCost(Struct, frozen=True):
    """The cost of retrievals with one tier, None if it is not known; `unverified` tells of its figures."""

    tier: Tier
    total: Decimal | None
    unverified: Sequence[str] = ()


class CostLimit(Struct, frozen=True):
    """A limit on the cost of retrievals, and their cost with each tier; no limit without an `amount`.

    `what` asks for them: "this restore". `setting` is the limit's name in the config; empty for that of a
    command, whose tier the user may choose. Costs are by `table`, without one `unknown` says why. `place` is
    the vault's region and kind in the table; `less` advises how it costs less.
    """

    amount: Decimal | None
    what: str
    costs: Sequence[TierCost] = ()
    table: PriceTable | None = None
    unknown: str = ""
    place: str = ""
    setting: str = ""
    less: str = ""

    def hold(self, tier: Tier) -> None:
        """Raise `LimitRefusedError` if the cost with `tier` exceeds the limit, or is not known."""
        total = self.cost(tier)
        if self.amount is not None and total is not None and total > self.amount:
            raise self._exceeded(tier, total)

    def cost(self, tier: Tier) -> Decimal | None:
        """The cost with `tier`, None if it is not known. `LimitRefusedError` then if there is a limit."""
        found = self._of(tier)
        if self.amount is None or (found is not None and found.total is not None):
            return None if found is None else found.total
        why, advice = self.unknown, f"{MEND}; or give no limit"
        if self.table is not None:
            why = f"{_named(self.table)} has no prices for {self.place} with {tier}"
            advice = "add them to a table of your own, [prices] file, or give no limit"
        raise LimitRefusedError(
            f"it is unknown whether {self.what} stays below {self._limit}: {why}", advice=advice
        )

    def remarks(self, tier: Tier) -> list[str]:
        """Sentences for a user who begins this: the cost is not known, or is by prices of another region."""
        if self.amount is None:
            return [self.unknown] if self.unknown else []
        found = self._of(tier)
        if found is None or found.total is None or found.total > self.amount:
            return []  # `hold` says why
        return [f"within the limit of {self.amount} by prices {note}" for note in found.unverified]

    def _of(self, tier: Tier) -> TierCost | None:
        return next((cost for cost in self.costs if cost.tier is tier), None)

    @property
    def _limit(self) -> str:
        return f"{self.setting}, {self.amount}" if self.setting else f"{self.amount}"

    def _exceeded(self, tier: Tier, total: Decimal) -> LimitRefusedError:
        found, table = self._of(tier), self.table
        currency, as_of = ("", "") if table is None else (f" {table.currency}", f" (prices of {table.date})")
        refused = f"{self.what} would cost {total}{currency} with {tier}, more than {self._limit}{as_of}"
        cheaper = [
            f"--tier {cost.tier} ({cost.total})"
            for cost in self.costs
            if cost.total is not None and self.amount is not None and cost.total <= self.amount
        ]
        advice = f"{self.less}, or raise the limit"
        if not self.setting:
            advice = f"within the limit: {', '.join(cheaper)}" if cheaper else f"no tier fits: {advice}"
        return LimitRefusedError("; ".join([refused, *(found.unverified if found else ())]), advice=advice)


def month_spent(what: str, may: str, rest: Decimal | None) -> LimitRefusedError:
    """Return the error of a monthly limit, `may`, of which the `rest` is too little; None: all of it is."""
    refused = f"{what} may cost {may} a month"
    if rest is None:
        return LimitRefusedError(
            f"{refused}: too little for anything of its sample, in any month",
            advice="make its sample smaller, or raise max_cost_per_month",
        )
    return MonthSpentError(
        f"{refused}, of which {rest:.2f} is left: too little for anything of its sample",
        advice="it goes on next month; or make its sample smaller, or raise max_cost_per_month",
    )


def _named(table: PriceTable) -> str:
    return f"the price table of {table.date} ({table.origin})"
