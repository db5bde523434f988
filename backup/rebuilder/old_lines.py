"""Recovery lines that are older than what the vault keeps, purely: later states take their place.

A line on paper may be years old when it is needed, and the catalogs that it names were deleted since, or what
it names was rebuilt and goes on under another inventory id. `catalog_chain` refuses what is older than it.
"""

from __future__ import annotations

from collections.abc import Sequence

from backup.format.line import RecoveryLine
from backup.model import InventoryId
from backup.rebuilder.candidates import of_line, several_inventories
from backup.rebuilder.catalog_chain import TrustedCatalogs
from backup.rebuilder.found import FoundJob, Known
from backup.rebuilder.members import Candidate, Chain
from backup.rebuilder.report import Suspicion


def is_exhausted(
    job: FoundJob, inventory_id: InventoryId, offered: Sequence[Candidate], known: Known
) -> bool:
    """Whether the vault has nothing more of a line's job under this inventory id."""
    return (job.line is not None and known.listing is not None) and all(
        one.label.inventory_id != inventory_id or one.archive_id in known.seen for one in offered
    )


def successor_of(inventory_id: InventoryId, trusted: TrustedCatalogs, known: Known) -> InventoryId | None:
    """The inventory that goes on from that one, the last that was rebuilt.

    `UsageError` where there are several, of which none was rebuilt from another.
    """
    family = trusted.family
    heirs = family.heirs(inventory_id)
    if not heirs and not family.knows(inventory_id):  # nothing of it is left that could prove it
        heirs = family.claiming(inventory_id)
    last = family.last(heirs)
    if len(last) > 1:
        raise several_inventories(known.candidates.values(), last)
    return next(iter(last), None)


def needless(
    line: RecoveryLine | None, chain: Chain | None, suspicions: Sequence[Suspicion]
) -> list[Suspicion]:
    """The suspicions that only say that an old line's catalogs are gone, where nothing needs them."""
    if line is None or chain is None or chain.base is None or chain.base.catalog.number <= line.number:
        return []
    named = {one.archive_id for one in of_line(line)}
    return [one for one in suspicions if one.kind == "missing" and one.archive_id in named]
