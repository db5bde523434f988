"""What a prune does with each archive, decided before anything is done; pure.

    plan = plan_prune(archives, needed, rules, now=now, fee=fee)

An archive that nothing kept needs is condemned: nothing is stored against it from then on. When each job
whose catalogs named it has a catalog that says so, a time of grace runs. After it, and once the vault's
minimum duration is over, it is deleted. A fee that the user allows lifts the minimum duration alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from backup.model import PackKind


class Why(StrEnum):
    """What an archive that nothing needs waits for."""

    CATALOGS = "a catalog of each job that named it, which says that it is condemned"
    LISTING = "a list of the vault that is newer than these catalogs"
    GRACE = "the time of grace"
    DURATION = "the vault's minimum duration"
    REFUSED = "the vault, which refuses to delete it"


@dataclass(frozen=True, slots=True)
class PrunedArchive:
    """An archive as a prune looks at it.

    `free_at`: when the vault's minimum duration is over. `condemned_at`: the time of the last condemnation,
    None until a catalog of each job that named it says so; `told_at`: when the last of these was stored.
    `run_is_open`: what it was stored for is not committed, and may be.
    """

    number: int
    pack_id: bytes
    size: int
    stored_at: datetime
    free_at: datetime
    is_condemned: bool = False
    is_decided: bool = False  # its deletion was begun before
    condemned_at: datetime | None = None
    told_at: datetime | None = None
    retry_at: datetime | None = None
    refusal: str = ""
    run_is_open: bool = False
    kind: PackKind = PackKind.DATA


@dataclass(frozen=True, slots=True)
class PruneRules:
    """The rules of a prune: the time of grace, and the most that deleting early may cost.

    `listed_before`: catalogs stored before it are shown by the list that the prune goes by; None: there is
    no list, and nothing is deleted.
    """

    grace: timedelta
    listed_before: datetime | None
    max_fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An archive that is condemned and not deleted yet: the reason, and the day if it is known.

    `fee` is what deleting it now would cost; None: no fee makes it possible, or the price is not known.
    """

    archive: PrunedArchive
    why: Why
    until: datetime | None
    fee: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune does: archives to condemn, to take up again, to delete, and those that wait."""

    condemn: tuple[PrunedArchive, ...]
    take_up: tuple[PrunedArchive, ...]
    delete: tuple[PrunedArchive, ...]
    waiting: tuple[Waiting, ...]
    fee: Decimal = Decimal(0)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not (self.condemn or self.take_up or self.delete)


Fee = Callable[[PrunedArchive, datetime], Decimal | None]
"""What deleting an archive at that time costs; None if the price is not known."""


def plan_prune(
    archives: Iterable[PrunedArchive],
    needed: Collection[int],
    rules: PruneRules,
    *,
    now: datetime,
    fee: Fee,
) -> PrunePlan:
    """Decide on each archive of a vault; `needed` are the numbers of those that something kept needs."""
    condemn: list[PrunedArchive] = []
    take_up: list[PrunedArchive] = []
    due: list[PrunedArchive] = []
    waiting: list[Waiting] = []
    for one in archives:
        if one.is_decided and one.retry_at is None:
            due.append(one)  # whatever has changed since: nobody could build on it
        elif one.number in needed:
            if one.is_condemned:
                take_up.append(one)
        elif not one.is_condemned:
            if _may_be_condemned(one, rules, now):
                condemn.append(one)
        else:
            wait = _wait(one, rules, now, fee)
            if wait is None:
                due.append(one)
            else:
                waiting.append(wait)
    early, paid = _early(waiting, rules.max_fee)
    chosen = {one.archive.number for one in early}
    left = tuple(one for one in waiting if one.archive.number not in chosen)
    delete = sorted([*due, *(one.archive for one in early)], key=lambda one: one.number)
    return PrunePlan(tuple(condemn), tuple(take_up), tuple(delete), left, paid)


def _may_be_condemned(one: PrunedArchive, rules: PruneRules, now: datetime) -> bool:
    """Not what a run that may still come true stored: the next backup would have to send it anew."""
    return not one.run_is_open or now > max(one.free_at, one.stored_at + rules.grace)


def _wait(one: PrunedArchive, rules: PruneRules, now: datetime, fee: Fee) -> Waiting | None:
    """What a condemned archive waits for; None if it may be deleted now."""
    if one.condemned_at is None or one.told_at is None:
        return Waiting(one, Why.CATALOGS, None)
    grace_ends = one.condemned_at + rules.grace
    if grace_ends > now:
        return Waiting(one, Why.GRACE, max(grace_ends, one.free_at))
    if rules.listed_before is None or rules.listed_before <= one.told_at:
        return Waiting(one, Why.LISTING, None)
    if one.retry_at is not None and one.retry_at > now:
        return Waiting(one, Why.REFUSED, one.retry_at)
    if one.free_at > now:
        return Waiting(one, Why.DURATION, one.free_at, fee(one, now))
    return None


def _early(waiting: Sequence[Waiting], most: Decimal) -> tuple[list[Waiting], Decimal]:
    """Those that only wait for the minimum duration, the cheapest a byte first, for `most` together."""
    if most <= 0:
        return [], Decimal(0)
    priced = [one for one in waiting if one.why is Why.DURATION and one.fee is not None]
    priced.sort(key=lambda one: ((one.fee or Decimal(0)) / one.archive.size, one.archive.number))
    chosen: list[Waiting] = []
    paid = Decimal(0)
    for one in priced:
        cost = one.fee or Decimal(0)
        if paid + cost <= most:
            chosen.append(one)
            paid += cost
    return chosen, paid
