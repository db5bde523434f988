"""Checks put together from a config."""

from __future__ import annotations

from collections.abc import Sequence

from backup.app.runs import TO_FETCH, link_speed
from backup.app.state import State
from backup.app.vaults import Purpose, make_vault
from backup.checker.surroundings import CheckWorld
from backup.config import Config
from backup.format.keys import RecoveryKey
from backup.inventory.database import Inventory
from backup.model import Tier, VaultName
from backup.protocols import Clock, Progress


def check_world(
    config: Config,
    inventory: Inventory,
    vault: VaultName,
    *,
    clock: Clock,
    progress: Progress,
    keys: Sequence[RecoveryKey] = (),
    tier: Tier | None = None,
) -> CheckWorld:
    """Where a check of a vault touches the world: with the rights of a restore."""
    settings = config.vault(vault)
    opened = make_vault(config, vault, Purpose.RESTORE, clock)
    return CheckWorld(
        inventory=inventory,
        vault=opened,
        clock=clock,
        progress=progress,
        secret=State(config.state_dir).read_secret(),
        keys=keys,
        tier=tier or settings.tier,
        askers=max(8, opened.traits.requests_at_once),
        round_bytes=int(TO_FETCH.total_seconds() * link_speed(config, inventory)),
    )
