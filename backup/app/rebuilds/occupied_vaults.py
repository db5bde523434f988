"""Refuses vaults that already hold backups, before a new inventory begins in them."""

from __future__ import annotations

from collections.abc import Callable

from backup.app.base.opened import opened
from backup.app.base.vaults import Purpose, make_vault
from backup.config import Config
from backup.errors import NightvaultError, NoInventoryError, OccupiedVaultError, UnmarkedVaultError
from backup.model import InventoryId, PackKind
from backup.protocols import Clock, Vault


def has_inventory(config: Config) -> bool:
    """Whether there is an inventory; errors other than `NoInventoryError` are raised."""
    try:
        opened(config).close()
    except NoInventoryError:
        return False
    return True


def refuse_occupied(config: Config, clock: Clock, *, unknown: Callable[[str], None] | None = None) -> None:
    """`OccupiedVaultError` if a vault of the config holds backups.

    A vault that cannot be read is an error, or a sentence passed to `unknown` if that is given. One that is
    not set up in AWS yet is left out, unless there is no other.
    """
    there = [settings for settings in config.vaults if not config.gaps_of(settings)]
    for settings in there or config.vaults:
        try:
            found = _what_it_holds(make_vault(config, settings.name, Purpose.BACKUP, clock))
        except NightvaultError as error:
            if unknown is None:
                raise
            unknown(f"vault {settings.name} was not looked at, it may hold backups already: {error}")
            continue
        if found is not None:
            raise OccupiedVaultError(
                f"vault {settings.name} is not empty ({found}), and there is no inventory here that knows it",
                advice="if this server lost its state: `nightvault rebuild --key FILE` brings it back. "
                "If these are another server's, or are to stay apart: `nightvault init --new-history`",
            )


def _what_it_holds(vault: Vault) -> str | None:
    """The sign of backups in a vault, in words; None if it does not exist, or shows none."""
    state = vault.state()
    if not state.exists:
        return None
    if not vault.traits.lists_at_once:
        # Counted once a day; its list is hours away.
        return f"it counts {_archives(state.archives)}" if state.archives else None
    listing = vault.fetch_listing(vault.request_listing("init"))
    catalogs = sum(
        archive.label is not None and archive.label.kind is PackKind.CATALOG for archive in listing.archives
    )
    if not catalogs and _is_unmarked(vault):
        return f"it holds {_archives(len(listing.archives))}, and its marker is missing or damaged"
    return f"{catalogs:,} of its {_archives(len(listing.archives))} are catalogs" if catalogs else None


def _is_unmarked(vault: Vault) -> bool:
    """Whether it is a vault by its archives alone."""
    try:
        vault.identities(InventoryId(bytes(16)))
    except UnmarkedVaultError:
        return True
    return False


def _archives(count: int) -> str:
    """A number of archives in words: 1 archive, 2,000 archives."""
    return f"{count:,} archive" + ("" if count == 1 else "s")
