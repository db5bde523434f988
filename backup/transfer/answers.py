"""A person's answers to catalogs that nothing proves to be this server's: recorded in its inventory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from backup.errors import UsageError
from backup.format.pack import parse_description
from backup.inventory.content import identities, strangers
from backup.inventory.questions import compared
from backup.inventory.records import retrievals
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import ListingStage
from backup.lineage import NO_JOB, Stranger, is_named, marks_in, require_one
from backup.lineage import strangers as strangers_among
from backup.model import ArchiveLabel, PackId, PackKind, VaultName
from backup.transfer.succession import one_each
from backup.wording import counted


def accept_catalogs(
    inventory: Inventory, vault: VaultName, packs: Sequence[str], who: str, now: datetime
) -> list[str]:
    """Record a person's answers: a pack id, or its beginning, answers for all open catalogs of its inventory.

    If it is a catalog of an ancestor, or one labelled as this inventory's, it answers for all such catalogs
    in the newest list that was fetched: they are known from then on. Catalogs of this server's jobs by other
    inventories are ignored, now and later. Returns a sentence for each. `UsageError`.
    """
    told: list[str] = []
    with inventory.writing() as tx:
        labels = _note_unknown(tx, inventory, vault, packs, now)
        lineage = {inventory.id, *inventory.ancestors}
        for pack in packs:
            named = [label for label in labels if is_named(label.inventory_id, label.pack_id, pack)]
            asked = [stranger.stranger for stranger in strangers.open_strangers(tx, vault)]
            ids = [(label.inventory_id, label.pack_id) for label in named]
            ids += [(stranger.inventory_id, stranger.pack_id) for stranger in asked]
            ids = [catalog for catalog in ids if is_named(*catalog, pack)]
            others = [catalog for catalog in ids if catalog[0] not in lineage]
            mine = [catalog for catalog in ids if catalog[0] in lineage]
            require_one([*others, *mine[:1]], pack)
            is_own = any(catalog[0] == inventory.id for catalog in mine)
            same = {inventory.id} if is_own else set(inventory.ancestors)
            own = [label for label in labels if label.inventory_id in same]
            pairs = {(label.inventory_id, label.job_id or NO_JOB) for label in named}
            before = strangers.answered_pairs(tx, vault)
            answered = strangers.answer(tx, vault, who, now, {inventory_id for inventory_id, _ in others})
            passed = own if mine else []
            if not answered and not passed and not pairs & before:
                raise UsageError(
                    f"nothing in vault {vault} waits for an answer on {pack}",
                    advice="give the pack id, or its first 8 digits or more, as `nightvault check` names it",
                )
            strangers.pass_catalogs(tx, [label.pack_id for label in passed])
            told += [
                f"inventory {stranger.inventory_id.hex()} takes no part in this server's jobs"
                for stranger in one_each(answered)
            ]
            if passed:
                what = "labelled as this inventory's" if is_own else "older ones of this server"
                told.append(f"{counted(len(passed), 'catalog')}, {what}, will not be asked about any more")
    return told


def _note_unknown(
    tx: Transaction, inventory: Inventory, vault: VaultName, packs: Sequence[str], now: datetime
) -> list[ArchiveLabel]:
    """Record the strangers of the newest list, and the marks that are named; its unknown catalogs."""
    lines = _unknown_lines(tx, vault)
    labels = _unknown_labels(tx, lines)
    lineage, jobs = {inventory.id, *inventory.ancestors}, strangers.job_ids(tx, vault)
    hints = [
        Stranger(mark.heir, NO_JOB, PackId(mark.heir))
        for mark in marks_in(lines)
        if mark.predecessor in lineage and any(is_named(mark.heir, mark.heir, pack) for pack in packs)
    ]
    strangers.note_strangers(tx, vault, [*hints, *strangers_among(labels, lineage, jobs)], now)
    return labels


def _unknown_lines(tx: Transaction, vault: VaultName) -> list[str]:
    """The descriptions in the newest list that was fetched of what this inventory does not know."""
    head = retrievals.newest_listing(tx, vault, state=ListingStage.KEPT)
    return [] if head is None else [row.description for row in compared.unknown_lines(tx, head.number)]


def _unknown_labels(tx: Transaction, lines: Iterable[str]) -> list[ArchiveLabel]:
    """The catalogs among them that this inventory does not know."""
    found = [parse_description(line) for line in lines]
    labels = [label for label in found if label is not None and label.kind is PackKind.CATALOG]
    unknown = identities.unknown_packs(tx, (label.pack_id for label in labels))
    return [label for label in labels if label.pack_id in unknown]
