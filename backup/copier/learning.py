"""Learns what a vault has copies of, after a rebuild from elsewhere: by its own catalogs, and a recovery key.

They are read as a rebuild reads them, in steps that may be hours apart, into an inventory of which only that
is kept which the one in use lacks. Nothing is written by half: it is one transaction.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from backup.copier.context import CopyContext
from backup.copier.saying import domain_there, locked_for_catalogs
from backup.errors import NightvaultError
from backup.files import spool_errors
from backup.inventory.content import copied
from backup.inventory.rebuilt.learned import learn
from backup.inventory.store.database import open_inventory
from backup.inventory.store.states import StepStage
from backup.lineage import marks_in
from backup.model import InventoryId, Listing, VaultName
from backup.rebuilder.catalogs.candidates import by_inventory, candidates_of
from backup.rebuilder.context import CatalogRun, Wish
from backup.rebuilder.rebuild import rebuild
from backup.transfer.fetching.journal import Journal
from backup.transfer.retrievals.listing import THE_LIST
from backup.wording import counted


def has_unknown_copies(context: CopyContext) -> bool:
    """Whether the inventories before this one may have copied into the vault: what is there is not known."""
    inventory, vault, patience = context.inventory, context.vault, context.patience
    with inventory.reading() as tx:
        is_known = not inventory.ancestors or copied.is_known(tx, vault.name)
    if is_known or not patience.call(vault.state).exists:
        return False
    if not vault.traits.lists_at_once:
        return any(patience.call(partial(vault.identities, before)) for before in inventory.ancestors)
    shown = (patience.call(partial(vault.newest_catalogs, before, {})) for before in inventory.ancestors)
    return any(line.label is not None for lines in shown for line in lines)


def refuse_unknown(vault: VaultName) -> NightvaultError:
    """The error for a copy into a vault with copies that are not known, without a key."""
    return NightvaultError(
        f"vault {vault} may hold copies that this inventory, which was rebuilt, does not know yet",
        advice=f"give the recovery key once: `nightvault copy --to {vault} --key FILE` reads what is there, "
        "and copies on; nothing is sent again",
    )


def learn_copies(context: CopyContext, reading: CatalogRun) -> str:
    """Record the copies that the vault's catalogs tell of; what it waits for, "" once it is done.

    The caller has left this inventory's mark there: the machine before it writes nothing any more.
    `NightvaultError` if they tell of more than this inventory knows; what `rebuild` raises.
    """
    asked, scratch = f"{context.folder}.learned", f"{context.folder}.scratch"
    state = context.patience.call(context.vault.state)
    if state.listed_at is None and not context.vault.traits.lists_at_once:
        return THE_LIST  # the first one comes in a day or two, as this inventory's mark is there
    with Journal.opened(asked, context.vault.name) as journal:
        fetcher = reading.fetcher(journal, Wish().tier)
        listing = fetcher.listing()
        if listing is not None and not _shows_all(context, listing):
            journal.forget_listing()
            listing = fetcher.listing()
        if listing is None or not _shows_all(context, listing):
            return THE_LIST
    newest = _newest_of(listing, context.inventory.ancestors)
    if newest is None:
        return _done(context, asked, scratch, "it has none")
    shutil.rmtree(scratch, ignore_errors=True)
    with spool_errors(scratch, "made"):
        os.makedirs(scratch, mode=0o700)
    try:
        url = f"sqlite:///{os.path.join(scratch, 'inventory.sqlite')}"
        report = rebuild(Wish(inventory=newest.hex()), reading.rebuild_at(url, asked))
        if report.state is StepStage.WAITING:
            return report.waits_for
        for suspicion in report.suspicions:
            told = suspicion.kind, suspicion.archive_id, suspicion.detail
            context.progress.note(": ".join(filter(None, told)))
        return _done(context, asked, scratch, _learn_from(context, url, scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _shows_all(context: CopyContext, listing: Listing) -> bool:
    """Whether the list was made since this inventory left its mark there, by that and not by any clock."""
    marks = marks_in(line.description for line in listing.archives)
    return context.vault.traits.lists_at_once or any(mark.heir == context.inventory.id for mark in marks)


def _newest_of(listing: Listing, ancestors: Sequence[InventoryId]) -> InventoryId | None:
    """The nearest of the ancestors that has catalogs there."""
    there = by_inventory(candidates_of(listing))
    return next((before for before in ancestors if before in there), None)


def _learn_from(context: CopyContext, url: str, scratch: str) -> str:
    inventory, secret, now = context.inventory, context.keys.secret, context.clock.now()
    with (
        locked_for_catalogs(context, waits=True),
        closing(open_inventory(url, lock_directory=scratch)) as read,
        read.reading() as found,
        inventory.writing() as tx,
    ):
        names = copied.vault_names(tx)

        def domain_of(vault: int, recipients: bytes) -> int:
            return domain_there(tx, names[vault], vault, secret, recipients, now)

        vault = copied.vault_number(tx, context.vault.name)
        learned = learn(tx, found, vault, domain_of, now)
    alone = f", of which {learned.alone:,} are there alone" if learned.alone else ""
    return f"it has {counted(learned.snapshots, 'snapshot')}{alone}"


def _done(context: CopyContext, asked: str, scratch: str, what: str) -> str:
    context.progress.note(f"vault {context.vault.name} was read for the copies before the rebuild: {what}")
    for folder in (asked, scratch):
        shutil.rmtree(folder, ignore_errors=True)
    return ""
