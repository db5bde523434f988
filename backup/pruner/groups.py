"""Groups of archives for a report, by reason and day, with dates and money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from backup.inventory.content.pruning import StoredArchive
from backup.pruner.delete import Deleted
from backup.pruner.prices import Prices
from backup.pruner.report import Group
from backup.retention.prune import PrunedArchive, Waiting, Why


def until_unlocked(waiting: Iterable[Waiting], locks: Mapping[int, datetime]) -> list[Waiting]:
    """The same archives with the day on which their locks have ended, too, if their day is known."""
    return [
        wait
        if wait.until is None or wait.archive.number not in locks
        else replace(wait, until=max(wait.until, locks[wait.archive.number]))
        for wait in waiting
    ]


def locked_groups(
    archives: Iterable[PrunedArchive], locks: Mapping[int, datetime], prices: Prices
) -> list[Group]:
    """Return those of these archives that are locked, by the ends of their locks, the soonest first."""
    days: dict[datetime, list[PrunedArchive]] = defaultdict(list)
    for archive in archives:
        if archive.number in locks:
            days[locks[archive.number]].append(archive)
    return [
        replace(group_of(some, prices), why="locked", detail=Why.LOCKED.value, until=until)
        for until, some in sorted(days.items())
    ]


def group_of(archives: Sequence[PrunedArchive] | Sequence[StoredArchive], prices: Prices) -> Group:
    """Return these archives as one group."""
    return Group(len(archives), sum(archive.size for archive in archives), month=prices.month(archives))


def condemned_groups(
    archives: Sequence[PrunedArchive],
    locks: Mapping[int, datetime],
    grace: timedelta,
    now: datetime,
    prices: Prices,
) -> list[Group]:
    """Return the archives that are condemned now, grouped by the day on which they can be deleted."""
    ends = now + grace
    waiting = [Waiting(archive, Why.GRACE, max(ends, archive.free_at)) for archive in archives]
    return waiting_groups(until_unlocked(waiting, locks), grace, now, prices)


def waiting_groups(
    waiting: Iterable[Waiting], grace: timedelta, now: datetime, prices: Prices
) -> list[Group]:
    """Return groups by reason and day, the soonest first; those without a known day come last."""
    groups: dict[tuple[Why, datetime | None, str], list[Waiting]] = defaultdict(list)
    for archive in waiting:
        refusal = archive.archive.refusal if archive.why is Why.REFUSED else ""
        groups[archive.why, _day(archive.until), refusal].append(archive)
    found = [
        _waiting_group(why, refusal or why.value, of_group, grace, now, prices)
        for (why, _, refusal), of_group in groups.items()
    ]
    return sorted(found, key=lambda group: (group.until is None, str(group.until), group.why))


def _waiting_group(
    why: Why, detail: str, some: Sequence[Waiting], grace: timedelta, now: datetime, prices: Prices
) -> Group:
    archives = [archive.archive for archive in some]
    untils = [archive.until for archive in some if archive.until is not None]
    graces = [(archive.grace_begins or now) + grace for archive in archives]
    fees = [prices.fee(archive, now) for archive in archives]
    known = [fee for fee in fees if fee is not None]
    return replace(
        group_of(archives, prices),
        why=why.name.lower(),
        detail=detail,
        until=max(untils, default=None),
        grace_ends=None if why is Why.CATALOGS else max(graces),
        free_from=max(archive.free_at for archive in archives),
        fee=sum(known, Decimal(0)) if len(known) == len(fees) else None,
    )


def refused_groups(done: Deleted, prices: Prices) -> list[Group]:
    """Return the archives that the vault refused to delete, by reason and day."""
    groups: dict[tuple[str, datetime | None], list[StoredArchive]] = defaultdict(list)
    for archive, refusal in done.refused:
        groups[refusal.detail, refusal.kept_until].append(archive)
    return [
        replace(group_of(archives, prices), why="refused", detail=detail, until=until)
        for (detail, until), archives in groups.items()
    ]


def _day(at: datetime | None) -> datetime | None:
    return at and at.replace(hour=0, minute=0, second=0, microsecond=0)
