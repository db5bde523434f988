"""Finds lineages in a vault, from the newest readable catalog of each inventory."""

from __future__ import annotations

from collections.abc import Sequence

from backup.lineage import Family
from backup.model import Listing
from backup.rebuilder.catalogs.candidates import by_inventory, candidates_of
from backup.rebuilder.catalogs.intake import Intake
from backup.rebuilder.context import RebuildContext, Wish
from backup.rebuilder.members import CatalogCandidate
from backup.transfer.fetching.journal import Journal

_MOST_TRIED = 8  # catalogs of one inventory


def find_family(listing: Listing, wish: Wish, context: RebuildContext) -> Family:
    """Return all inventories of a list with their relations. `WaitsError` until the vault is ready.

    What was retrieved is kept in the folder. If the catalogs of an inventory that were tried first cannot be
    trusted, several more are requested at once: one by one, a few bad ones from an attacker would delay it
    for days.
    """
    with Journal.opened(context.folder, context.vault.name) as journal:
        bringer = context.fetcher(journal, wish.tier)
        intake = Intake(wish, context, bringer)
        intake.learn_sizes(listing)
        left = {
            key: _in_order(candidates) for key, candidates in by_inventory(candidates_of(listing)).items()
        }
        for tried in (slice(1), slice(1, _MOST_TRIED)):
            intake.fetch([candidate for candidates in left.values() for candidate in candidates[tried]])
            left = {
                key: candidates for key, candidates in left.items() if not intake.trusted.family.is_read(key)
            }
        intake.trusted.family.note_unread(left)
        return intake.trusted.family


def _in_order(some: Sequence[CatalogCandidate]) -> list[CatalogCandidate]:
    """The newest ones, the smallest first: any of them names its inventory's ancestors."""
    newest = sorted(some, key=lambda candidate: (-candidate.label.number, candidate.archive_id))[:_MOST_TRIED]
    return sorted(newest, key=lambda candidate: (candidate.size, candidate.archive_id))
