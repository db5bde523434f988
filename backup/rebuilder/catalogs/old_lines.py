"""Recovery lines older than the vault's present content: later states are used instead; pure.

A line on paper may be years old when it is needed: its catalogs may be deleted, or the server was rebuilt and
goes on under another inventory id. `catalogs/chain.py` refuses states that are older than the line.
"""

from __future__ import annotations

from collections.abc import Sequence

from backup.format.line import RecoveryLine
from backup.model import InventoryId
from backup.rebuilder.catalogs.candidates import of_line, several_inventories
from backup.rebuilder.catalogs.chain import TrustedCatalogs
from backup.rebuilder.catalogs.found import FoundJob, KnownVault
from backup.rebuilder.members import CatalogCandidate, Chain, Member, QuestionError
from backup.rebuilder.report import Suspicion


def is_exhausted(
    job: FoundJob, inventory_id: InventoryId, offered: Sequence[CatalogCandidate], known: KnownVault
) -> bool:
    """Whether all catalogs of a line's job under this inventory id have been read."""
    return (job.line is not None and known.listing is not None) and all(
        candidate.label.inventory_id != inventory_id or candidate.archive_id in known.seen
        for candidate in offered
    )


def successor_of(
    inventory_id: InventoryId, trusted: TrustedCatalogs, known: KnownVault
) -> InventoryId | None:
    """Return the newest heir of that inventory; None if there is none.

    `UsageError` if there are several, of which none was rebuilt from another; `QuestionError` if only the
    heir itself says so, as the vault has no catalog of the old inventory left that could prove it.
    """
    family = trusted.family
    heirs = family.heirs(inventory_id)
    is_proven = bool(heirs)
    if not heirs and not family.knows(inventory_id):
        heirs = family.claiming(inventory_id)
    last = family.last(heirs)
    if len(last) > 1:
        raise several_inventories(known.candidates.values(), last)
    successor = next(iter(last), None)
    if successor is not None and not is_proven:
        _ask(inventory_id, trusted.of_inventory(successor), trusted)
    return successor


def _ask(inventory_id: InventoryId, members: Sequence[Member], trusted: TrustedCatalogs) -> None:
    """`QuestionError` unless a person said that one of these catalogs belongs there."""
    packs = [member.header.fields.pack_id for member in members]
    if any(trusted.is_accepted(member.inventory_id, member.header.fields.pack_id) for member in members):
        return
    heir = members[-1].inventory_id.hex() if members else ""
    raise QuestionError(
        f"the vault holds nothing of inventory {inventory_id.hex()} any more. Inventory {heir} says that it "
        "was rebuilt from it, and nothing proves that",
        advice=f"if it is this server's, give --accept {packs[-1].hex() if packs else 'PACK-ID'}; if it is "
        "not, somebody else wrote it: do not accept it",
    )


def needless(
    line: RecoveryLine | None, chain: Chain | None, suspicions: Sequence[Suspicion]
) -> list[Suspicion]:
    """Return the suspicions that only say that an old line's catalogs are gone, if they are not needed."""
    if line is None or chain is None or chain.base is None or chain.base.catalog.number <= line.number:
        return []
    named = {candidate.archive_id for candidate in of_line(line)}
    return [
        suspicion for suspicion in suspicions if suspicion.kind == "missing" and suspicion.archive_id in named
    ]
