"""Comparison of the recorded archives with a kept listing, by the database; decides which are missing.

A listing says nothing of an archive that is newer than it, and clocks differ, so no other module decides
that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, func, or_, select, update

from backup.inventory.archives import SOUND, ArchiveState
from backup.inventory.database import Transaction
from backup.inventory.schema import (
    archives,
    catalogs,
    domains,
    jobs,
    listed_archives,
    listings,
    micros,
    moment,
    uploads,
    vaults,
)
from backup.model import PackId, VaultName

_CLOCKS_DIFFER = timedelta(hours=1)  # ours and the vault's; nor is a list made in an instant
_OURS = (*SOUND, ArchiveState.DAMAGED)
_SAME = and_(
    listed_archives.c.size == archives.c.size,
    or_(listed_archives.c.tree_hash.is_(None), listed_archives.c.tree_hash == archives.c.tree_hash),
)


_STALE = timedelta(days=5)  # who deletes elsewhere goes by a list of the last three days, made a day before
_STALE_AT_ONCE = timedelta(hours=1)  # he looks for newer catalogs before he deletes; and clocks differ


Absent = tuple[list[Row[Any]], list[Row[Any]]]
"""Archives that are missing, and those that came later than the listing."""


def _ours(vault: VaultName, *states: ArchiveState) -> Select[Any]:
    """A query of a vault's archives: number, kind, state, pack_id, archive_id, size, stored_at (in us)."""
    stored_at = func.coalesce(archives.c.stored_at, archives.c.submitted_at).label("stored_at")
    columns = (archives.c.number, archives.c.kind, archives.c.state, archives.c.pack_id)
    return (
        select(*columns, archives.c.archive_id, archives.c.size, stored_at)
        .select_from(archives.join(domains).join(vaults))
        .where(vaults.c.name == vault, archives.c.archive_id.is_not(None), archives.c.state.in_(states))
        .order_by(archives.c.number)
    )


def _line(listing: int) -> Select[Any]:
    """A condition: the listing's line with the archive's id."""
    return select(listed_archives.c.archive_id).where(
        listed_archives.c.listing == listing, listed_archives.c.archive_id == archives.c.archive_id
    )


@dataclass(frozen=True, slots=True)
class Covered:
    """The archives that a listing must show: these, or, where `numbers` is None, those stored before `until`.

    None can be stored after `future`: the clock was ahead when that was recorded, so the listing must show
    it.
    """

    until: datetime
    future: datetime
    numbers: frozenset[int] | None = None

    def holds(self, row: Row[Any]) -> bool:
        """Whether the listing must show this archive."""
        if self.numbers is not None:
            return row.number in self.numbers
        return not micros(self.until) <= row.stored_at <= micros(self.future)


def covers_until(as_of: datetime, *, at_once: bool = False) -> datetime:
    """The time before which all that was stored must be in a listing made at `as_of`."""
    return as_of if at_once else as_of - _CLOCKS_DIFFER


def must_show(
    tx: Transaction,
    head: Row[Any],
    vault: VaultName,
    now: datetime,
    *,
    at_once: bool = False,
    stored: frozenset[int] | None = None,
) -> Covered:
    """The archives that the listing with that head must show: `stored` (at the time of the request) if known.

    Where that is not known, those stored before it was requested, by our clock, and before it was made, by
    the vault's, as far as its clock is known. A vault that lists `at_once` made it in an instant.
    """
    ahead = clock_ahead(tx, head.number, vault)
    until = min(covers_until(moment(head.as_of) - ahead, at_once=at_once), moment(head.requested_at))
    return Covered(until, now + _CLOCKS_DIFFER, stored)


def stored_numbers(tx: Transaction, vault: VaultName) -> frozenset[int]:
    """The archives that the vault has, as far as we know."""
    return frozenset(row.number for row in tx.execute(_ours(vault, *_OURS)))


def settled_before(made_at: datetime, *, at_once: bool) -> datetime:
    """The time before which an archive must have been taken up for a list of then to confirm it.

    One that was taken up later may be deleted yet, by somebody who does not know that.
    """
    return made_at - (_STALE_AT_ONCE if at_once else _STALE)


def confirm(tx: Transaction, listing: int, *, at_once: bool) -> None:
    """Mark unconfirmed archives as stored that a kept listing shows with their size and hash.

    Not those taken up after it was made, or shortly before (`settled_before`).
    """
    query = select(listings.c.as_of, listings.c.requested_at).where(listings.c.number == listing)
    head = tx.execute(query).one()
    made_at = min(moment(head.as_of), moment(head.requested_at))
    before = micros(settled_before(made_at, at_once=at_once))
    shown = (
        _line(listing)
        .join(listings, listings.c.number == listed_archives.c.listing)
        .join(domains, domains.c.vault == listings.c.vault)
        .where(domains.c.number == archives.c.domain, _SAME)
    )
    unconfirmed = archives.c.state == ArchiveState.UNCONFIRMED
    stayed = or_(archives.c.taken_up_at.is_(None), archives.c.taken_up_at < before)
    tx.execute(update(archives).where(unconfirmed, stayed, shown.exists()).values(state=ArchiveState.STORED))


def absent_archives(tx: Transaction, listing: int, vault: VaultName, covered: Covered) -> Absent:
    """Archives that the listing does not show: the missing ones, and those that are newer than it."""
    rows = tx.execute(_ours(vault, *_OURS).where(~_line(listing).exists())).all()
    missing = [row for row in rows if covered.holds(row)]
    return missing, [row for row in rows if not covered.holds(row)]


def differing_archives(tx: Transaction, listing: int, vault: VaultName) -> list[Row[Any]]:
    """Archives that the listing shows with another size or tree hash."""
    return list(tx.execute(_ours(vault, *_OURS).where(_line(listing).where(~_SAME).exists())))


def found_again(tx: Transaction, listing: int, vault: VaultName) -> list[Row[Any]]:
    """Archives recorded as lost that the listing shows as they were stored."""
    return list(tx.execute(_ours(vault, ArchiveState.LOST).where(_line(listing).where(_SAME).exists())))


def count_shown(tx: Transaction, listing: int, vault: VaultName) -> int:
    """Number of archives that the listing shows as they were stored."""
    query = _ours(vault, *_OURS).where(_line(listing).where(_SAME).exists()).order_by(None)
    return int(tx.execute(select(func.count()).select_from(query.subquery())).scalar_one())


def clock_ahead(tx: Transaction, listing: int, vault: VaultName) -> timedelta:
    """Upper limit of how far the vault's clock was ahead of ours, from what this listing shows.

    From what runs of this inventory stored: of rebuilt archives nobody knows the time by this clock.
    """
    query = (
        select(func.max(listed_archives.c.created_at - archives.c.stored_at))
        .select_from(archives.join(domains).join(vaults))
        .join(listed_archives, listed_archives.c.archive_id == archives.c.archive_id)
        .where(vaults.c.name == vault, listed_archives.c.listing == listing, archives.c.run.is_not(None))
    )
    return timedelta(microseconds=max(0, tx.execute(query).scalar() or 0))


def unknown_lines(tx: Transaction, listing: int) -> list[Row[Any]]:
    """Lines of the listing with unknown archive ids, as in `listed_archives`."""
    vault = select(listings.c.vault).where(listings.c.number == listing).scalar_subquery()
    known = (
        select(archives.c.archive_id)
        .select_from(archives.join(domains))
        .where(domains.c.vault == vault, archives.c.archive_id.is_not(None))
    )  # a set that is made once: archive ids have no index
    query = select(listed_archives).where(
        listed_archives.c.listing == listing, listed_archives.c.archive_id.not_in(known)
    )
    return list(tx.execute(query.order_by(listed_archives.c.created_at, listed_archives.c.archive_id)))


def count_lines(tx: Transaction, listing: int) -> int:
    """Number of archives in the listing."""
    query = select(func.count()).where(listed_archives.c.listing == listing)
    return int(tx.execute(query.select_from(listed_archives)).scalar_one())


def newest_catalog(tx: Transaction, job_id: bytes | None) -> int:
    """The number of a job's newest recorded catalog; 0 if there is none."""
    query = select(func.max(catalogs.c.number)).join(jobs, jobs.c.number == catalogs.c.job)
    return int(tx.execute(query.where(jobs.c.id == job_id)).scalar() or 0)


def pack_row(tx: Transaction, pack_id: PackId) -> Row[Any] | None:
    """The record of a pack: number, size, tree_hash, archive_id, and `upload` if it is pending."""
    query = (
        select(archives, uploads.c.archive.label("upload"))
        .select_from(archives.outerjoin(uploads, uploads.c.archive == archives.c.number))
        .where(archives.c.pack_id == pack_id)
    )
    return tx.execute(query).first()
