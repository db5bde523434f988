"""A rebuilt state that retains what existed at some earlier time, whatever later catalogs take away. Pure.

A keeper rebuilds such a state beside the newest one. It begins with a full catalog that the vault accepted at
the floor's time or before, and applies all deltas since. Snapshots that a later catalog drops stay. The time
at which something was forgotten or condemned is the vault's date of acceptance, which a server cannot choose.
Of a job that is younger than the floor, everything stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from backup.format import records
from backup.format.catalog import Record
from backup.inventory.store.times import micros
from backup.model import ArchiveId, Generation, InventoryId
from backup.rebuilder.members import CatalogCandidate

_AHEAD: Final = timedelta(days=1)  # the vault's clock and ours differ by less


def acceptance(
    candidates: Sequence[CatalogCandidate], as_of: datetime, *, has_clock: bool
) -> dict[ArchiveId, datetime]:
    """Return when the vault accepted each catalog of a list, as far as the dates can be right.

    A date in the future counts as that of the list. If the vault has no clock of its own (a directory), no
    catalog is earlier than one with a lower number of its inventory and job, so that a wrong date shifts
    nothing by more than a night. Elsewhere only its date counts: anybody may store a label with a low number.
    """
    if has_clock:
        dated = [(candidate.archive_id, candidate.created_at) for candidate in candidates]
        return {archive: at if at <= as_of + _AHEAD else as_of for archive, at in dated if at is not None}
    found: dict[ArchiveId, datetime] = {}
    newest: dict[tuple[InventoryId, bytes | None], datetime] = {}
    for candidate in sorted(candidates, key=lambda candidate: (candidate.label.number, candidate.archive_id)):
        job, at = (candidate.label.inventory_id, candidate.label.job_id), candidate.created_at
        if at is None:
            continue
        if at <= as_of + _AHEAD:
            newest[job] = max(at, newest.get(job, at))
        found[candidate.archive_id] = newest.get(job, as_of)
    return found


def oddly_dated(
    candidates: Sequence[CatalogCandidate], accepted: Mapping[ArchiveId, datetime], moment: datetime
) -> list[tuple[ArchiveId, str]]:
    """Return the catalogs left out at a moment although their own dates are earlier, each with a sentence."""
    return [
        (
            catalog.archive_id,
            f"catalog {catalog.label.number} is left out: a lower number is dated later, so its date is odd",
        )
        for catalog in candidates
        if catalog.created_at is not None and catalog.created_at <= moment < accepted[catalog.archive_id]
    ]


class Floor(Struct, frozen=True):
    """A time by the vault's clock: everything that a state since then held stays.

    `inventories` are those of the server; None: all that the list shows.
    """

    at: datetime
    inventories: Collection[InventoryId] | None = None

    def hidden(
        self, candidates: Sequence[CatalogCandidate], accepted: Mapping[ArchiveId, datetime]
    ) -> set[ArchiveId]:
        """Return the full catalogs newer than the floor, if the job has an older one to begin with."""
        by_job: dict[bytes | None, list[tuple[datetime, ArchiveId]]] = {}
        own = self.inventories
        for candidate in (
            candidates
            if own is None
            else [candidate for candidate in candidates if candidate.label.inventory_id in own]
        ):
            if candidate.label.generation is Generation.FULL and candidate.archive_id in accepted:
                by_job.setdefault(candidate.label.job_id, []).append(
                    (accepted[candidate.archive_id], candidate.archive_id)
                )
        hidden: set[ArchiveId] = set()
        for fulls in by_job.values():
            oldest = min(fulls)[0]
            hidden |= {which for at, which in fulls if at > max(self.at, oldest)}
        return hidden

    def amended(self, record: Record, accepted_at: datetime | None) -> Record | None:
        """Return a record as it is applied, given when its catalog was accepted; None if it is left out."""
        if isinstance(record, records.DroppedRecord):
            return record if accepted_at is not None and accepted_at <= self.at else None
        if isinstance(record, (records.CondemnedRecord, records.ForgottenRecord)):
            if accepted_at is None:
                return None
            return msgspec.structs.replace(record, at=micros(accepted_at))
        return record
