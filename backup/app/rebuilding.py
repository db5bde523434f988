"""A rebuild put together from a config: where its pieces go, and which keys come back with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from backup.app.state import State, parse_recipients
from backup.app.vaults import Purpose, make_vault
from backup.checker.rebuild import rebuild
from backup.checker.report import RebuildReport
from backup.checker.world import RebuildWorld, ServerKeys, Wish
from backup.config import Config
from backup.errors import NightvaultError, RecoveryKeyError
from backup.format.keys import Recipient, RecoveryKey
from backup.inventory.building import refuse_existing
from backup.inventory.database import require_file, sqlite_path
from backup.model import InventoryId, VaultName
from backup.protocols import Clock, Progress

_KEY_FILES = ("signer", "chunk-secret", "enrolments")


def run_rebuild(
    config: Config,
    vault: VaultName,
    wish: Wish,
    recovery_keys: Sequence[RecoveryKey],
    *,
    clock: Clock,
    progress: Progress,
) -> RebuildReport:
    """One act of a rebuild. `NightvaultError` if there is an inventory, `RecoveryKeyError`."""
    require_file(config.inventory_url)
    refuse_existing(sqlite_path(config.inventory_url) or "")
    check_keys(config, recovery_keys)
    state = State(config.state_dir)
    state.create()
    world = RebuildWorld(
        vault=make_vault(config, vault, Purpose.RESTORE, clock),
        clock=clock,
        progress=progress,
        recovery_keys=recovery_keys,
        url=config.inventory_url,
        folder=state.rebuild,
        new_id=InventoryId(os.urandom(16)),
        keep_keys=lambda inventory_id, keys: _keep_keys(config, state, recovery_keys, inventory_id, keys),
    )
    return rebuild(wish, world)


def set_aside(config: Config, now: datetime) -> list[str]:
    """Move inventory and keys out of the way, under names with the time; the new names."""
    require_file(config.inventory_url)
    mark = f"{now:%Y%m%dT%H%M%S}"
    state = State(config.state_dir)
    moved: list[str] = []
    path = sqlite_path(config.inventory_url)
    places = [path + end for end in ("", "-wal", "-shm")] if path else []
    for place in [*places, *(os.path.join(state.keys, name) for name in _KEY_FILES)]:
        if os.path.lexists(place):
            os.rename(place, f"{place}.aside-{mark}")
            moved.append(f"{place}.aside-{mark}")
    return moved


def check_keys(config: Config, recovery_keys: Sequence[RecoveryKey]) -> None:
    """Before anything is asked for: a config that names recipients must name the one of a key."""
    ids = [one.id for one in parse_recipients(config.recipients)]
    own = [one.recipient.id for one in recovery_keys]
    if ids and not set(own) & set(ids):
        raise RecoveryKeyError(
            f"this is the key of recipient {', '.join(one.hex() for one in own)}, but {config.path} names "
            + ", ".join(one.hex() for one in ids),
            advice="give the recovery key of one of these recipients",
        )


def _keep_keys(
    config: Config,
    state: State,
    recovery_keys: Sequence[RecoveryKey],
    inventory_id: InventoryId,
    keys: ServerKeys,
) -> None:
    """Signer, chunk secret, recipients and our own enrolments; other keys are not written over."""
    there = state.read_server_keys()
    if there is not None and there != (keys.signer, keys.secret):
        raise NightvaultError(
            f"{state.keys} holds the keys of another inventory",
            advice="give --set-aside to move them out of the way; nothing is deleted",
        )
    state.write_server_keys(keys.signer, keys.secret)
    if not config.recipients:
        state.write_recipients([Recipient(one) for one in keys.recipients])
    state.forget_enrolments()
    for key in recovery_keys:
        state.add_enrolment(key.recipient.id, key.enrolment_tag(inventory_id, keys.signer.public))
