"""Reports catalogs of a server's jobs by strangers and by heirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backup.lineage import strangers
from backup.model import MIB, InventoryId
from backup.rebuilder.catalogs.candidates import by_inventory
from backup.rebuilder.catalogs.found import FoundJob
from backup.rebuilder.catalogs.intake import Intake
from backup.rebuilder.members import CatalogCandidate, Member

MOST_LOOKED_AT = 64 * MIB
"""Bytes of somebody else's catalog that are brought, to see whether it is an heir's."""


class Others:
    """The catalogs of other inventories; `resolve` retrieves the ancestors of an inventory.

    `looks`: whether a catalog can be read without a wait.
    """

    def __init__(self, intake: Intake, resolve: Callable[[InventoryId], None], *, looks: bool) -> None:
        self._intake = intake
        self._family = intake.trusted.family
        self._resolve = resolve
        self._looks = looks

    def tell(self, inventory_id: InventoryId, jobs: Sequence[FoundJob]) -> None:
        """Report strangers' catalogs of these jobs, and heirs of the inventory."""
        shown = [candidate for candidate in self._intake.known.candidates.values() if candidate.created_at]
        listed = {(candidate.label.inventory_id, candidate.label.pack_id): candidate for candidate in shown}
        labels, ids = [candidate.label for candidate in shown], {job.id for job in jobs}
        self._look_at(
            {stranger.inventory_id for stranger in strangers(labels, self._lineage(inventory_id), ids)}
        )
        for heir in sorted(self._family.heirs(inventory_id)):
            text = (
                f"inventory {heir.hex()} was rebuilt from this one and goes on: --inventory {heir.hex()[:8]}"
            )
            self._intake.suspect("heir", "", text)
        unknown = {
            ancestor for ancestor in self._family.claimed(inventory_id) if not self._family.knows(ancestor)
        }
        named = strangers(labels, self._lineage(inventory_id) | unknown, ids)
        for stranger in named:
            pack = stranger.pack_id.hex()
            if self._intake.trusted.is_accepted(stranger.inventory_id, stranger.pack_id):
                continue
            detail = (
                f"catalog {stranger.number} (pack {pack}) of job {stranger.job_id.hex()[:8]} is by inventory "
                f"{stranger.inventory_id.hex()}, which nothing proves to be this server's; it was not used"
            )
            where = listed[stranger.inventory_id, stranger.pack_id].archive_id
            self._intake.suspect("not-its-own", where, detail)
        told = {(stranger.inventory_id, stranger.job_id) for stranger in named}
        for job in jobs:
            for member in self._intake.trusted.outside(job.id, inventory_id):
                if (member.inventory_id, job.id) not in told:  # its label says something else
                    self._tell_outside(member)

    def _lineage(self, inventory_id: InventoryId) -> frozenset[InventoryId]:
        """The inventory, its ancestors and its heirs."""
        return self._family.lineage(inventory_id) | self._family.heirs(inventory_id)

    def _look_at(self, inventories: set[InventoryId]) -> None:
        """Bring a catalog of each, where that costs no wait: it may be an heir's."""
        if self._looks:
            candidates = by_inventory(self._intake.known.candidates.values())
            unknown = [
                inventory_id for inventory_id in sorted(inventories) if not self._family.knows(inventory_id)
            ]
            small = [
                [candidate for candidate in candidates[inventory_id] if candidate.size <= MOST_LOOKED_AT]
                for inventory_id in unknown
            ]
            self._intake.fetch([max(of_inventory, key=_number) for of_inventory in small if of_inventory])
            for inventory_id in unknown:
                self._resolve(inventory_id)

    def _tell_outside(self, member: Member) -> None:
        """Name one that only its header, and not its label, shows to be of the job."""
        pack = member.header.fields.pack_id
        if not self._intake.trusted.is_accepted(member.inventory_id, pack):
            detail = (
                f"catalog {member.catalog.number} (pack {pack.hex()}) is by inventory "
                f"{member.inventory_id.hex()}; it was not used"
            )
            self._intake.suspect("not-its-own", member.archive_id, detail)


def _number(candidate: CatalogCandidate) -> int:
    return candidate.label.number
