"""The context of a rebuild by a config, and the keys that are written for the new inventory."""

from __future__ import annotations

from collections.abc import Sequence

from backup.app.base.state import State, parse_recipients
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.limits import limit_on_catalogs
from backup.app.rebuilds.setup import enrol_here
from backup.config import Config
from backup.errors import NightvaultError, RecoveryKeyError, UnmarkedVaultError, VaultMissingError
from backup.format.keys import Recipient, RecoveryKey
from backup.inventory.rebuilt.building import refuse_existing
from backup.inventory.store.database import require_file, sqlite_path
from backup.model import InventoryId, VaultName
from backup.protocols import Clock, Progress, Vault
from backup.rebuilder.context import RebuildContext, ServerKeys
from backup.transfer.fetching.journal import Journal


def rebuild_context(
    config: Config, vault: VaultName, recovery_keys: Sequence[RecoveryKey], clock: Clock, progress: Progress
) -> RebuildContext:
    """The context of a rebuild in place. `NightvaultError` if there is an inventory already."""
    require_file(config.inventory_url)
    refuse_existing(sqlite_path(config.inventory_url) or "")
    check_keys(config, recovery_keys)
    state = State(config.state_dir)
    state.create()
    return RebuildContext(
        vault=_to_read(make_vault(config, vault, Purpose.RESTORE, clock), progress),
        clock=clock,
        progress=progress,
        recovery_keys=recovery_keys,
        url=config.inventory_url,
        folder=state.rebuild,
        keep_keys=lambda inventory_id, keys: _keep_keys(config, state, recovery_keys, inventory_id, keys),
        limit_on=limit_on_catalogs(config, config.vault(vault), "rebuild"),
    )


def _to_read(vault: Vault, progress: Progress) -> Vault:
    """The vault; a directory that holds archives is read all the same if its marker is missing or damaged."""
    from backup.vault.directory import DirectoryVault

    if not isinstance(vault, DirectoryVault):
        return vault
    try:
        vault.identities(InventoryId(bytes(16)))
    except UnmarkedVaultError as error:
        progress.note(f"{error}: its archives are read all the same")
        progress.note(
            f"once the rebuild is done: `nightvault vaults accept {vault.name}` writes a new marker"
        )
        return vault.read_unmarked()
    except VaultMissingError as error:
        advice = "mount the disk that holds the backups, or correct its path in the config"
        raise VaultMissingError(str(error), advice=advice) from error
    return vault


def forget_list(config: Config, vault: VaultName) -> None:
    """Delete the saved list of the vault, so that the next rebuild requests a newer one."""
    with Journal.opened(State(config.state_dir).rebuild, vault) as journal:
        journal.forget_listing()


def check_keys(config: Config, recovery_keys: Sequence[RecoveryKey]) -> None:
    """Refuse keys of recipients that the config does not name, before anything is requested."""
    ids = [recipient.id for recipient in parse_recipients(config.recipients)]
    own = [key.recipient.id for key in recovery_keys]
    if ids and not set(own) & set(ids):
        raise RecoveryKeyError(
            f"this is the key of recipient {', '.join(recipient.hex() for recipient in own)}, but "
            f"{config.path} names " + ", ".join(recipient.hex() for recipient in ids),
            advice="give the recovery key of one of these recipients",
        )


def _keep_keys(
    config: Config,
    state: State,
    recovery_keys: Sequence[RecoveryKey],
    inventory_id: InventoryId,
    keys: ServerKeys,
) -> None:
    """Write signer, chunk secret, recipients and enrolments; refuse to replace other keys."""
    there = state.read_server_keys()
    if there is not None and there != (keys.signer, keys.secret):
        raise NightvaultError(
            f"{state.keys} holds the keys of another inventory",
            advice="give --set-aside to move them out of the way; nothing is deleted",
        )
    state.write_server_keys(keys.signer, keys.secret)
    if not config.recipients:
        state.write_recipients([Recipient(recipient) for recipient in keys.recipients])
    state.forget_enrolments()
    for key in recovery_keys:
        enrol_here(state, key, inventory_id, keys.signer.public, keys.ancestors)
