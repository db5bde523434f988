"""Comparison of the recorded archives with a kept listing, by the database; decides which are missing.

A listing says nothing of an archive that is newer than it, and clocks differ, so no other module decides
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from backup.inventory.content.archives import IN_VAULTS, SOUND, ArchiveState
from backup.inventory.records.retrievals import ListedRow, ListingRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, marks, number_of, raw_rows, stream, value_of
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, PackId, TreeHash, VaultName

_CLOCKS_DIFFER = timedelta(hours=1)  # ours and the vault's; nor is a list made in an instant
_OURS = (*SOUND, ArchiveState.DAMAGED)
_STALE = timedelta(days=5)  # who deletes elsewhere goes by a list of the last three days, made a day before
_STALE_AT_ONCE = timedelta(hours=1)  # he looks for newer catalogs before he deletes; and clocks differ


# The listing's line with the archive's id; one that shows it as it was stored.
_LINE: Final = "SELECT 1 FROM listed_archives l WHERE l.listing = ? AND l.archive_id = a.archive_id"
_SAME: Final = "(l.size = a.size AND (l.tree_hash IS NULL OR l.tree_hash = a.tree_hash))"

# One that proves it: a size alone anybody can give to something else, once the archive is gone.
_PROVEN: Final = "(l.size = a.size AND (l.tree_hash = a.tree_hash OR l.version = a.version))"


def shows_another(lines: str) -> str:
    """The condition that line `l` shows another object than `a`; `lines` joins all lines as `o`.

    Copying a bucket gives its objects other versions and later times: if the list shows no object with its
    original time, it proves nothing.
    """
    late = _CLOCKS_DIFFER // timedelta(microseconds=1)
    return f"""(l.tree_hash IS NULL AND l.version <> a.version AND EXISTS (
        SELECT 1 FROM archives b JOIN {lines} o.archive_id = b.archive_id
        WHERE o.version = b.version AND o.created_at <= b.stored_at + {late})) IS TRUE"""


_OTHER: Final = shows_another("listed_archives o ON o.listing = ? AND")


_HELD: Final = f"""(
    SELECT a.number, a.kind, a.state, a.pack_id, a.archive_id, a.size, a.tree_hash, a.version,
           coalesce(a.stored_at, a.submitted_at) AS stored_at, 0 AS is_copy, v.name AS vault FROM {IN_VAULTS}
    UNION ALL
    SELECT a.number, a.kind, k.state, a.pack_id, k.archive_id, a.size, a.tree_hash, k.version,
           coalesce(k.stored_at, k.since), 1, v.name
    FROM copies k JOIN archives a ON a.number = k.archive JOIN vaults v ON v.number = k.vault) a"""
"""The rows of all that vaults hold, or should: their own archives, and copies of others'."""


class OurArchive(NamedTuple):
    """An archive as it is compared with a listing, or a copy of one; `stored_at` in microseconds."""

    number: int
    kind: int
    state: str
    pack_id: bytes
    archive_id: str
    size: int
    stored_at: int
    is_copy: int = 0


class HeldThere(Protocol):
    """An archive, or a copy of one, in a vault."""

    @property
    def number(self) -> int:
        """The archive's number."""
        ...

    @property
    def is_copy(self) -> int:
        """Whether it is a copy of an archive of another vault."""
        ...


class PackRow(NamedTuple):
    """The record of a pack; `upload` is set while it is on its way."""

    number: int
    size: int
    tree_hash: bytes
    archive_id: str | None
    upload: int | None


Absent = tuple[list[OurArchive], list[OurArchive]]
"""Archives that are missing, and those that came later than the listing."""


def _ours(
    tx: Transaction, vault: VaultName, states: Sequence[ArchiveState], shown: str = "", *listings: int
) -> list[OurArchive]:
    """A vault's archives in one of the states, by number; with a condition about lines of listings."""
    sql = f"""SELECT a.number, a.kind, a.state, a.pack_id, a.archive_id, a.size, a.stored_at, a.is_copy
              FROM {_HELD}
              WHERE a.vault = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(states)}) {shown}
              ORDER BY a.number"""
    return list(stream(tx, sql, (vault, *states, *listings), OurArchive))


def recorded_objects(tx: Transaction, vault: VaultName) -> dict[ArchiveId, tuple[int, str, TreeHash]]:
    """The size, the vault's word (empty if unknown) and the hash of each archive of a vault, and copy there.

    Also of those that seem lost: somebody may have hidden them.
    """
    states = (*_OURS, ArchiveState.CONDEMNED, ArchiveState.LOST)
    sql = f"""SELECT a.archive_id, a.size, coalesce(a.version, ''), a.tree_hash FROM {_HELD}
              WHERE a.vault = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(states)})"""
    rows = raw_rows(tx, sql, (vault, *states))
    return {ArchiveId(key): (size, version, TreeHash(sha)) for key, size, version, sha in rows}


class Covered(Struct, frozen=True):
    """The archives that a listing must show: these, or, where `numbers` is None, those stored before `until`.

    None can be stored after `future`: the clock was ahead when that was recorded, so the listing must show
    it.
    """

    until: datetime
    future: datetime
    numbers: frozenset[int] | None = None

    def holds(self, row: OurArchive) -> bool:
        """Whether the listing must show this archive."""
        if self.numbers is not None:
            return row.number in self.numbers
        return not micros(self.until) <= row.stored_at <= micros(self.future)


def covers_until(as_of: datetime, *, at_once: bool = False) -> datetime:
    """The time before which all that was stored must be in a listing made at `as_of`."""
    return as_of if at_once else as_of - _CLOCKS_DIFFER


def must_show(
    tx: Transaction,
    head: ListingRow,
    vault: VaultName,
    now: datetime,
    *,
    at_once: bool = False,
    stored: frozenset[int] | None = None,
) -> Covered:
    """The archives that the listing `head` must show: `stored` (at the time of the request) if known.

    Where that is not known, those stored before it was requested, by our clock, and before it was made, by
    the vault's, as far as its clock is known. A vault that lists `at_once` made it in an instant.
    """
    ahead = clock_ahead(tx, head.number, vault)
    until = min(covers_until(head.made_at - ahead, at_once=at_once), moment(head.requested_at))
    return Covered(until, now + _CLOCKS_DIFFER, stored)


def stored_numbers(tx: Transaction, vault: VaultName) -> frozenset[int]:
    """The archives that the vault has, as far as we know, also those that are condemned."""
    return frozenset(archive.number for archive in _ours(tx, vault, (*_OURS, ArchiveState.CONDEMNED)))


def settled_before(made_at: datetime, *, at_once: bool) -> datetime:
    """The time before which an archive must have been undeleted for a list made at `made_at` to confirm it.

    One that was undeleted later may still be deleted by a keeper that does not know of it.
    """
    return made_at - (_STALE_AT_ONCE if at_once else _STALE)


def confirm(tx: Transaction, listing: int, *, at_once: bool) -> None:
    """Mark unconfirmed archives as stored that a kept listing shows as they were stored.

    An undeleted archive may be deleted after all, with something else in its place: it needs a proof by a
    listing that was made some time after it was undeleted (`settled_before`).
    """
    times = "SELECT min(as_of, requested_at) FROM listings WHERE number = ?"
    made_at = moment(number_of(tx, times, (listing,)))
    before = micros(settled_before(made_at, at_once=at_once))
    sql = f"""UPDATE archives AS a SET state = ?
              WHERE a.state = ?
                AND EXISTS ({_LINE} AND {_SAME}
                  AND (a.taken_up_at IS NULL AND NOT {_OTHER} OR a.taken_up_at < ? AND {_PROVEN})
                  AND EXISTS (
                    SELECT 1 FROM listings s JOIN domains d ON d.vault = s.vault
                    WHERE s.number = l.listing AND d.number = a.domain))"""
    changed(tx, sql, (ArchiveState.STORED, ArchiveState.UNCONFIRMED, listing, listing, before))
    from backup.inventory.content import copied, copied_pruning  # lists are compared rarely

    copied_pruning.confirm(tx, listing, min(made_at - copied.REQUESTS_END, moment(before)))
    condemn_again(tx, listing)


def condemn_again(tx: Transaction, listing: int) -> None:
    """Condemn again archives that catalogs condemn and a kept listing shows, even if they seemed lost.

    Otherwise backups would build upon them, while a rebuild or a keeper goes by the catalogs.
    """
    sql = f"""UPDATE archives AS a SET state = ?
              WHERE a.number IN (SELECT archive FROM condemnations) AND a.state IN ({marks(SOUND)})
                AND EXISTS ({_LINE} AND {_SAME} AND EXISTS (
                    SELECT 1 FROM listings s JOIN domains d ON d.vault = s.vault
                    WHERE s.number = l.listing AND d.number = a.domain))"""
    changed(tx, sql, (ArchiveState.CONDEMNED, *SOUND, listing))


def confirmable_from(tx: Transaction, vault: VaultName, *, at_once: bool) -> datetime | None:
    """The time after which a list must be made to confirm all unconfirmed archives; None: any list does."""
    sql = f"SELECT max(a.taken_up_at) FROM {IN_VAULTS} WHERE a.state = ? AND v.name = ?"
    newest = value_of(tx, sql, (ArchiveState.UNCONFIRMED, vault))
    return None if newest is None else moment(newest) + (_STALE_AT_ONCE if at_once else _STALE)


def absent_archives(tx: Transaction, listing: int, vault: VaultName, covered: Covered) -> Absent:
    """Archives that the listing does not show: the missing ones, and those that are newer than it."""
    rows = _ours(tx, vault, _OURS, f"AND NOT EXISTS ({_LINE})", listing)
    missing = [row for row in rows if covered.holds(row)]
    return missing, [row for row in rows if not covered.holds(row)]


def absent_condemned(tx: Transaction, listing: int, vault: VaultName, covered: Covered) -> list[OurArchive]:
    """Condemned archives that the listing must show and does not: somebody else has deleted them."""
    rows = _ours(tx, vault, (ArchiveState.CONDEMNED,), f"AND NOT EXISTS ({_LINE})", listing)
    return [row for row in rows if covered.holds(row)]


def record(
    tx: Transaction, vault: VaultName, rows: Iterable[HeldThere], state: ArchiveState, now: datetime
) -> None:
    """Set the state of archives of a vault, and of copies of others'; a copy that is damaged counts as lost.

    Except of those whose deletion was decided, which can only be recorded as deleted.
    """
    from backup.inventory.content import copied, copied_pruning, lost, pruning  # not to look at a list

    every = list(rows)
    own = [row.number for row in every if not row.is_copy]
    copies = [row.number for row in every if row.is_copy]
    if state is ArchiveState.DELETED:
        pruning.record_deleted(tx, own, now)
    else:
        lost.mark(tx, own, state)
    if not copies:
        return
    number = copied.vault_number(tx, vault)
    if state is ArchiveState.DELETED:
        copied_pruning.record_deleted(tx, number, copies, now)
    else:
        again = ArchiveState.LOST if state is ArchiveState.DAMAGED else state
        copied_pruning.mark(tx, number, copies, again, now)


def differing_archives(tx: Transaction, listing: int, vault: VaultName) -> list[OurArchive]:
    """Archives that the listing shows with another size or tree hash, or another object of their size.

    The latter only for those that may have been deleted: others cannot be replaced by anybody.
    """
    other = f"a.state = '{ArchiveState.UNCONFIRMED}' AND {_OTHER}"
    return _ours(tx, vault, _OURS, f"AND EXISTS ({_LINE} AND (NOT {_SAME} OR {other}))", listing, listing)


class FoundAgain(NamedTuple):
    """Archives that seemed lost and are listed: `proven` as they were stored, or `likely`, by size alone."""

    proven: list[OurArchive]
    likely: list[OurArchive]


def found_again(tx: Transaction, listing: int, vault: VaultName) -> FoundAgain:
    """Archives recorded as lost that the listing shows; not those of which it shows another object."""
    lost = (ArchiveState.LOST,)
    proven = _ours(tx, vault, lost, f"AND EXISTS ({_LINE} AND {_PROVEN})", listing)
    is_likely = f"{_SAME} AND ({_PROVEN}) IS NOT TRUE AND NOT {_OTHER}"
    return FoundAgain(
        proven, _ours(tx, vault, lost, f"AND EXISTS ({_LINE} AND {is_likely})", listing, listing)
    )


def doubt(tx: Transaction, rows: Sequence[OurArchive], now: datetime) -> None:
    """Mark these as unconfirmed: restores use them, backups only once a later listing proves them."""
    sql = "UPDATE archives SET state = ?, taken_up_at = ? WHERE number = ?"
    for row in rows:
        changed(tx, sql, (ArchiveState.UNCONFIRMED, micros(now), row.number))


def count_shown(tx: Transaction, listing: int, vault: VaultName) -> int:
    """Number of archives that the listing shows as they were stored."""
    sql = f"""SELECT count(*) FROM {_HELD}
              WHERE a.vault = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(_OURS)})
                AND EXISTS ({_LINE} AND {_SAME})"""
    return number_of(tx, sql, (vault, *_OURS, listing))


def clock_ahead(tx: Transaction, listing: int, vault: VaultName) -> timedelta:
    """Upper limit of how far the vault's clock was ahead of ours, from what this listing shows.

    Computed from archives that runs of this inventory stored: for rebuilt ones the time by our clock is
    unknown.
    """
    sql = f"""SELECT max(l.created_at - a.stored_at)
              FROM {IN_VAULTS} JOIN listed_archives l ON l.archive_id = a.archive_id
              WHERE v.name = ? AND l.listing = ? AND a.run IS NOT NULL"""
    return timedelta(microseconds=max(0, value_of(tx, sql, (vault, listing)) or 0))


def unknown_lines(tx: Transaction, listing: int) -> list[ListedRow]:
    """Lines of the listing with unknown archive ids."""
    # The set in the brackets is made once: archive ids have no index.
    sql = """SELECT archive_id, description, size, tree_hash, created_at FROM listed_archives
             WHERE listing = ? AND archive_id NOT IN (
                 SELECT a.archive_id FROM archives a JOIN domains d ON d.number = a.domain
                 WHERE d.vault = (SELECT vault FROM listings WHERE number = ?) AND a.archive_id IS NOT NULL
                 UNION SELECT k.archive_id FROM copies k
                 WHERE k.vault = (SELECT vault FROM listings WHERE number = ?) AND k.archive_id IS NOT NULL)
             ORDER BY created_at, archive_id"""
    return list(stream(tx, sql, (listing,) * 3, ListedRow))


def count_lines(tx: Transaction, listing: int) -> int:
    """Number of archives in the listing."""
    return number_of(tx, "SELECT count(*) FROM listed_archives WHERE listing = ?", (listing,))


def newest_catalog(tx: Transaction, vault: VaultName, job_id: bytes | None) -> int:
    """The number of the newest recorded catalog that a job has for a vault; 0 if there is none."""
    sql = f"""SELECT max(c.number) FROM {IN_VAULTS} JOIN catalogs c ON c.archive = a.number
              JOIN jobs j ON j.number = c.job WHERE v.name = ? AND j.id = ?"""
    return int(value_of(tx, sql, (vault, job_id)) or 0)


def pack_row(tx: Transaction, pack_id: PackId) -> PackRow | None:
    """The record of a pack; None if there is none."""
    sql = """SELECT a.number, a.size, a.tree_hash, a.archive_id, u.archive
             FROM archives a LEFT JOIN uploads u ON u.archive = a.number WHERE a.pack_id = ?"""
    return next(stream(tx, sql, (pack_id,), PackRow), None)
