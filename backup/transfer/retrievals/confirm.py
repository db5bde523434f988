"""Confirms archives known from catalogs alone, or undeleted, once the vault's own list shows them."""

from __future__ import annotations

from backup.errors import NightvaultError
from backup.inventory.content import archives
from backup.inventory.questions import compared
from backup.inventory.store.database import Inventory
from backup.protocols import Clock, Progress, Vault
from backup.transfer.retrievals.listing import (
    continue_listing,
    newest_kept,
    newest_kept_head,
    request_listing,
)
from backup.wording import counted, local_time


def confirm_archives(inventory: Inventory, vault: Vault, clock: Clock, progress: Progress) -> int:
    """Confirm what a list of the vault shows as recorded; how many archives are unconfirmed still.

    Asks for a list if none shows them all, and does not wait for it: a cold vault's comes hours later.
    """
    if not confirm_shown(inventory, vault):
        return 0
    try:
        if continue_listing(inventory, vault, clock) and confirm_shown(inventory, vault):
            request_listing(inventory, vault, clock)
            continue_listing(inventory, vault, clock)
    except NightvaultError as error:  # a role that may not list must not keep a backup from running
        progress.note(f"the vault gives no list: {error}")
    left = confirm_shown(inventory, vault)
    if left:
        progress.note(_unconfirmed_text(left, inventory, vault))
    return left


def _unconfirmed_text(left: int, inventory: Inventory, vault: Vault) -> str:
    with inventory.reading() as tx:
        since = compared.confirmable_from(tx, vault.name, at_once=vault.traits.lists_at_once)
        kept = newest_kept_head(tx, vault)
    are, them = ("is", "it") if left == 1 else ("are", "them")
    when = "" if since is None else f" (one that is made after {local_time(since)} confirms {them})"
    if since is not None and kept is not None and kept.made_at > since:
        when = " (nothing proves that what it shows is what was stored)"
    return (
        f"{counted(left, 'archive')} of vault {vault.name} {are} not confirmed by its list yet{when}: what "
        f"{'it holds' if left == 1 else 'they hold'} is stored again if it is needed now"
    )


def confirm_shown(inventory: Inventory, vault: Vault) -> int:
    """Confirm what the newest list that was fetched shows; how many archives are unconfirmed still."""
    kept = newest_kept(inventory, vault)
    with inventory.writing() as tx:
        if kept is not None:
            compared.confirm(tx, kept[0].number, at_once=vault.traits.lists_at_once)
        return archives.count_unconfirmed(tx, vault.name)
