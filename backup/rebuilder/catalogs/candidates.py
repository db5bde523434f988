"""Possible catalogs, named by a listing, a recovery line or a chain, and which inventory is wanted; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from backup.errors import FormatError, IntegrityError, NightvaultError, RecoveryKeyError, UsageError
from backup.format.enrolment import HeirMark
from backup.format.keys import RecoveryKey
from backup.format.line import CatalogAddress, RecoveryLine
from backup.format.records import ChainRecord
from backup.lineage import Family
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    Generation,
    InventoryId,
    Listing,
    PackId,
    PackKind,
)
from backup.rebuilder.catalogs.file import CatalogFile
from backup.rebuilder.context import Wish
from backup.rebuilder.members import CatalogCandidate
from backup.wording import sentences


class NothingToRebuildError(NightvaultError):
    """The vault shows no catalog that can be used."""


_UNKNOWN_PACK = PackId(bytes(16))
_CHOOSE = "choose one with --inventory ID; one that was rebuilt from another goes on with its jobs"


def candidates_of(listing: Listing) -> list[CatalogCandidate]:
    """Return the catalogs of a listing."""
    return [
        CatalogCandidate(
            archive.archive_id, archive.size, archive.label, archive.tree_hash, archive.created_at
        )
        for archive in listing.archives
        if archive.label is not None and archive.label.kind is PackKind.CATALOG
    ]


def of_line(line: RecoveryLine) -> list[CatalogCandidate]:
    """Return the two catalogs of a recovery line, which has no number of the full one."""

    def candidate(address: CatalogAddress, number: int, generation: Generation) -> CatalogCandidate:
        label = ArchiveLabel(
            PackKind.CATALOG, _UNKNOWN_PACK, line.inventory_id, number, generation, line.job_id
        )
        return CatalogCandidate(address.archive_id, address.size, label)

    found = [candidate(line.delta, line.number, Generation.DELTA)]
    if line.full is not None:
        # The first round takes everything from the newest full catalog on: number it so that both are in it.
        found.append(candidate(line.full, line.number, Generation.FULL))
    return found


def of_links(file: CatalogFile, keys: Sequence[RecoveryKey]) -> list[CatalogCandidate]:
    """Return the catalogs on which a catalog says it builds; none if it cannot be read or gives no sizes."""
    try:
        links = [record for record in file.records(keys) if isinstance(record, ChainRecord)]
    except (FormatError, IntegrityError, RecoveryKeyError):
        return []
    fields = file.header.fields
    found: list[CatalogCandidate] = []
    for record in links:
        if len(record.sizes) != len(record.links):
            continue
        for link, size in zip(record.links, record.sizes, strict=True):
            number, generation, pack_id, _, archive_id = link
            if archive_id and size and fields.catalog is not None:
                label = ArchiveLabel(
                    PackKind.CATALOG,
                    PackId(pack_id),
                    fields.inventory_id,
                    number,
                    Generation(generation),
                    fields.catalog.job_id,
                )
                found.append(CatalogCandidate(ArchiveId(archive_id), size, label))
    return found


def newest(candidates: Sequence[CatalogCandidate], generations: int) -> list[CatalogCandidate]:
    """Return a job's catalogs since its full one number `generations` from the newest, else all; by label."""
    fulls = sorted(
        {candidate.label.number for candidate in candidates if candidate.label.generation is Generation.FULL},
        reverse=True,
    )
    since = fulls[generations - 1] if len(fulls) >= generations else 0
    return [candidate for candidate in candidates if candidate.label.number >= since]


def newest_of(
    inventories: Iterable[InventoryId],
    candidates: Mapping[ArchiveId, CatalogCandidate],
    asked: Counter[InventoryId],
) -> list[CatalogCandidate]:
    """Return the newest catalogs of inventories by (unproven) label, twice as many of each at each call.

    `asked` has the numbers returned so far. Returns none once there are no more.
    """
    known, found = by_inventory(candidates.values()), list[CatalogCandidate]()
    for inventory_id in inventories:
        if asked[inventory_id] < len(known.get(inventory_id, ())):
            asked[inventory_id] = max(1, 2 * asked[inventory_id])
            found += sorted(known[inventory_id], key=lambda candidate: candidate.label.number, reverse=True)[
                : asked[inventory_id]
            ]
    return found


def choose_inventory(
    candidates: Collection[CatalogCandidate], wish: Wish, if_none: str = ""
) -> list[InventoryId]:
    """Return the possible inventories: the wanted one, the recovery line's, or all that there are.

    `if_none`: the vault's advice where its list lacks what was stored.

    `UsageError` with a list of them if the wanted one is not there, `NothingToRebuildError` if there is none.
    """
    found = by_inventory(candidates)
    of_lines = {line.inventory_id for line in wish.lines}
    if wish.inventory is not None:
        meant = [
            inventory_id for inventory_id in found if inventory_id.hex().startswith(wish.inventory.lower())
        ]
    elif of_lines:
        meant = list(of_lines)
    else:
        meant = list(found)
    if len(meant) == 1:
        return meant
    if not found:
        raise NothingToRebuildError(
            "the vault's list shows no catalog of nightvault",
            advice=sentences(if_none, "the list may be a day old; is it the right vault?"),
        )
    if meant:
        return meant
    raise UsageError(f"no inventory {wish.inventory}; there is:{_listed(found, found)}", advice=_CHOOSE)


def several_inventories(
    candidates: Iterable[CatalogCandidate], meant: Iterable[InventoryId], last: InventoryId | None = None
) -> UsageError:
    """Return the error that lists inventories to choose from; `last` was rebuilt from all the others."""
    told = _listed(list(meant), by_inventory(candidates))
    advice = (
        _CHOOSE
        if last is None
        else f"they are one server's: the one that was rebuilt last goes on, --inventory {last.hex()[:8]}"
    )
    return UsageError(f"the vault holds catalogs of several inventories:{told}", advice=advice)


def last_of(meant: Collection[InventoryId], family: Family, marks: Sequence[HeirMark]) -> InventoryId | None:
    """Return the inventory rebuilt from all the others, by catalogs or heirs' marks; None if none was."""
    line: dict[InventoryId, tuple[InventoryId, ...]] = {
        inventory_id: family.ancestors(inventory_id) for inventory_id in meant
    }
    for _ in meant:  # a mark is proven by the ancestors of the one that it names
        for mark in marks:
            known = line.get(mark.predecessor)
            if known is not None and mark.heir in line and mark.is_proven(family.keys, known):
                line[mark.heir] = (mark.predecessor, *known)
    return next(
        (inventory_id for inventory_id in meant if set(meant) <= {inventory_id, *line[inventory_id]}), None
    )


def by_inventory(candidates: Iterable[CatalogCandidate]) -> dict[InventoryId, list[CatalogCandidate]]:
    """Return the catalogs by inventory, according to their labels."""
    found: dict[InventoryId, list[CatalogCandidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.label.inventory_id, []).append(candidate)
    return found


def _listed(meant: Iterable[InventoryId], found: Mapping[InventoryId, Sequence[CatalogCandidate]]) -> str:
    return "".join(
        f"\n  {_describe(inventory_id, found.get(inventory_id, []))}" for inventory_id in sorted(meant)
    )


def _describe(inventory_id: InventoryId, catalogs: Sequence[CatalogCandidate]) -> str:
    jobs = len({catalog.label.job_id for catalog in catalogs if catalog.label.job_id})
    times: list[datetime] = [catalog.created_at for catalog in catalogs if catalog.created_at is not None]
    newest = f", newest of {max(times):%Y-%m-%d %H:%M} UTC" if times else ""
    return f"{inventory_id.hex()}: catalogs: {len(catalogs)}, jobs: {jobs}{newest}"
