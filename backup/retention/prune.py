"""Plans a prune: what is done with each archive, decided before anything is done; pure.

    plan = plan_prune(archives, needed, rules, now=now, fee=fee)

An archive that nothing kept needs is condemned: nothing is stored against it from then on. Once each job
whose catalogs named it has stored a catalog that says so, the grace period begins. After it, and once the
vault's minimum duration is over, it is deleted. A fee that the user allows lifts the minimum duration alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from backup.model import PackKind

DEFAULT_GRACE = timedelta(days=3)
DEFAULT_KEEP_RUNS = timedelta(days=400)
"""The age from which on records of runs may go: over a year, so that a yearly task is there twice."""
LISTS_FOLLOW = timedelta(days=3)
"""A cold vault makes a new list within a day or two of a change: after this time its newest one shows it."""
_LIST_IS_KEPT = timedelta(days=1)  # so long a list is gone by before the vault is asked again
_CLOCKS_DIFFER = timedelta(hours=1)  # a condemnation of later than that had a wrong clock: it is said again


class Why(StrEnum):
    """The reason why an archive that nothing needs is not deleted yet."""

    CATALOGS = "a catalog of each job that named it, which says that it is condemned"
    LISTING = "a list of the vault that is newer than these catalogs"
    GRACE = "the grace period"
    DURATION = "the vault's minimum duration"
    REFUSED = "the vault, which refuses to delete it"
    LOCKED = "the end of its lock"
    HELD = "the end of a legal hold"
    SHRUNK = "an answer to a source that has lost nearly everything: `nightvault status` names the command"
    OTHERS = "somebody who may delete: this server may not"


class PrunedArchive(Struct, frozen=True):
    """An archive with everything that a prune decides by.

    `free_at`: when the vault's minimum duration is over. `condemned_at`: the time of the last condemnation,
    None until a catalog of each job that named it says so; `told_at`: when the last of these catalogs was
    stored. `is_decided`: its deletion was begun and may have happened: it is never built upon again, whatever
    the vault answers. `run_is_open`: the run that stored it is not committed yet, and may still be.
    `is_held`: a job that named it waits for an answer. `has_hold`: it was put under a legal hold.
    """

    number: int
    pack_id: bytes
    size: int
    stored_at: datetime
    free_at: datetime
    is_condemned: bool = False
    is_decided: bool = False
    condemned_at: datetime | None = None
    told_at: datetime | None = None
    retry_at: datetime | None = None
    refusal: str = ""
    run_is_open: bool = False
    is_held: bool = False
    has_hold: bool = False
    kind: PackKind = PackKind.DATA

    @property
    def grace_begins(self) -> datetime | None:
        """The start of the grace period: all its jobs' catalogs now condemn it. None before that."""
        if self.condemned_at is None or self.told_at is None:
            return None
        return max(self.condemned_at, self.told_at)


class PruneRules(Struct, frozen=True):
    """The rules of a prune: the grace period, and the most that deleting early may cost.

    `listed_before`: the vault's list on which the prune relies shows all catalogs stored before then. Without
    `may_delete` nothing is deleted here.
    """

    grace: timedelta
    listed_before: datetime
    max_fee: Decimal = Decimal(0)
    may_delete: bool = True


class Waiting(Struct, frozen=True):
    """An archive that is condemned and not deleted yet: the reason, and the day if it is known.

    `fee` is what deleting it now would cost; None: no fee makes it possible, or the price is not known.
    """

    archive: PrunedArchive
    why: Why
    until: datetime | None
    fee: Decimal | None = None


class PrunePlan(Struct, frozen=True):
    """The plan of a prune: archives to condemn, to build upon again, to delete, and those that wait.

    `early` are those to be deleted before their minimum duration is over: their fees are paid.
    """

    condemn: tuple[PrunedArchive, ...]
    take_up: tuple[PrunedArchive, ...]
    delete: tuple[PrunedArchive, ...]
    waiting: tuple[Waiting, ...]
    early: tuple[Waiting, ...] = ()

    @property
    def fee(self) -> Decimal:
        """The sum of the fees for deleting early."""
        return sum((archive.fee or Decimal(0) for archive in self.early), Decimal(0))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not (self.condemn or self.take_up or self.delete)


Fee = Callable[[PrunedArchive, datetime], Decimal | None]
"""The cost of deleting an archive at that time; None if the price is not known."""


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
    for archive in archives:
        if archive.number in needed and not archive.is_decided:
            if archive.is_condemned:
                take_up.append(archive)
        elif archive.is_held:
            if archive.is_condemned or archive.is_decided:
                waiting.append(Waiting(archive, Why.SHRUNK, None))
        elif not (archive.is_condemned or archive.is_decided):
            if _may_be_condemned(archive, rules, now):
                condemn.append(archive)
        elif (wait := _wait(archive, rules, now, fee)) is not None:
            waiting.append(wait)
        else:
            due.append(archive)
    early = _early(waiting, rules.max_fee)
    chosen = {archive.archive.number for archive in early}
    left = tuple(archive for archive in waiting if archive.archive.number not in chosen)
    delete = sorted([*due, *(archive.archive for archive in early)], key=lambda archive: archive.number)
    return PrunePlan(tuple(condemn), tuple(take_up), tuple(delete), left, tuple(early))


def _may_be_condemned(archive: PrunedArchive, rules: PruneRules, now: datetime) -> bool:
    """Not what a run that may still come true stored: the next backup would have to send it anew."""
    return not archive.run_is_open or now > max(archive.free_at, archive.stored_at + rules.grace)


def _wait(archive: PrunedArchive, rules: PruneRules, now: datetime, fee: Fee) -> Waiting | None:
    """The reason why a condemned archive must wait; None if it may be deleted now."""
    is_refused = archive.retry_at is not None and archive.retry_at > now
    if not archive.is_decided:  # else all of this was seen to before, and nobody could build on it since
        begins = archive.grace_begins
        if begins is None or begins > now + _CLOCKS_DIFFER:
            return Waiting(archive, Why.CATALOGS, None)
        grace_ends = begins + rules.grace
        if grace_ends > now:
            return Waiting(archive, Why.GRACE, max(grace_ends, archive.free_at))
        if rules.listed_before <= begins:
            comes = begins + LISTS_FOLLOW + _LIST_IS_KEPT
            return Waiting(archive, Why.LISTING, max(comes, archive.free_at) if comes > now else None)
        if archive.free_at > now and not is_refused:
            return Waiting(
                archive, Why.DURATION, archive.free_at, fee(archive, now) if rules.may_delete else None
            )
    if archive.has_hold:
        return Waiting(archive, Why.HELD, None)
    if is_refused:
        return Waiting(archive, Why.REFUSED, archive.retry_at)
    return None if rules.may_delete else Waiting(archive, Why.OTHERS, None)


def _early(waiting: Sequence[Waiting], most: Decimal) -> list[Waiting]:
    """Archives that wait only for the minimum duration, lowest fee a byte first, for `most` in all."""
    priced = (
        [archive for archive in waiting if archive.why is Why.DURATION and archive.fee is not None]
        if most > 0
        else []
    )
    priced.sort(
        key=lambda archive: (
            (archive.fee or Decimal(0)) / max(1, archive.archive.size),
            archive.archive.number,
        )
    )
    chosen: list[Waiting] = []
    paid = Decimal(0)
    for archive in priced:
        cost = archive.fee or Decimal(0)
        if paid + cost <= most:
            chosen.append(archive)
            paid += cost
    return chosen
