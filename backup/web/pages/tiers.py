"""Tiers of retrievals in words."""

from __future__ import annotations

from backup.model import Tier
from backup.web.texts import Texts


def tier_word(tier: Tier, said: Texts) -> str:
    """A tier as a heading."""
    return {
        Tier.EXPEDITED: said.say("Expedited"),
        Tier.STANDARD: said.say("Standard"),
        Tier.BULK: said.say("Bulk"),
    }[tier]


def hours(bounds: tuple[float, float], said: Texts) -> str:
    """How long a tier takes: minutes below an hour, days above two."""
    least, most = bounds
    if most <= 0:
        return said.say("at once")
    if most < 1:
        return said.say("%(least)s to %(most)s min", least=round(least * 60), most=round(most * 60))
    if most == least:
        return said.say("up to %(most)s h", most=f"{most:g}")
    return said.say("%(least)s to %(most)s h", least=f"{least:g}", most=f"{most:g}")
