"""A restore in acts that may lie hours apart.

    plan     what must be retrieved, from the inventory alone
    begin    open the keys of the packs, record restore and retrievals
    advance  ask for what was not asked for yet, see what is ready
    deliver  when all is ready: fetch, verify, open, write

Each act may be cut anywhere and run again. Keys of packs wait in a file of their own (0600), only those that
are needed, and are wiped when the restore is over.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from backup.errors import FormatError, UsageError
from backup.format.keys import RecoveryKey
from backup.format.pack import open_header, parse_header
from backup.inventory import retrievals
from backup.inventory.database import Inventory, Transaction
from backup.inventory.retrievals import Restore
from backup.model import Tier
from backup.protocols import Clock
from backup.restorer.asking import advance
from backup.restorer.delivery import deliver
from backup.restorer.keyfile import PackKeyFile, wipe_others
from backup.restorer.planning import RestorePlan, plan_restore
from backup.restorer.report import RestoreReport, is_ready, waiting_report
from backup.restorer.world import RestoreWorld, alone_with

__all__ = [
    "RestorePlan",
    "RestoreReport",
    "RestoreWorld",
    "advance",
    "begin_restore",
    "cancel",
    "deliver",
    "find_open",
    "find_restore",
    "is_ready",
    "plan_restore",
    "waiting_report",
]


def begin_restore(
    plan: RestorePlan,
    target: bytes,
    world: RestoreWorld,
    *,
    tier: Tier,
    key: Callable[[], RecoveryKey],
) -> Restore:
    """Record the restore, or find the open one that wants the same, which needs no key.

    `key` is called for a new one only, if there is anything to open. `RecoveryKeyError` before anything is
    recorded if it does not open every pack.
    """
    known = find_open(world, plan, target)
    if known is not None:
        return known
    pack_keys = _open_packs(plan, key, world)
    with world.inventory.writing() as tx:
        same = _same_open(tx, plan, target)  # another process may have begun it while the key was typed
        return same or _record(tx, plan, target, pack_keys, world, tier)


def find_open(world: RestoreWorld, plan: RestorePlan, target: bytes) -> Restore | None:
    """The open restore of the same snapshot and path to the same target."""
    with world.inventory.reading() as tx:
        return _same_open(tx, plan, target)


def find_restore(world_inventory: Inventory, words: str) -> Restore:
    """The restore of an id or a unique prefix. `UsageError` otherwise."""
    with world_inventory.reading() as tx:
        found = [one for one in retrievals.list_restores(tx) if words and one.id.startswith(words)]
    if len(found) != 1:
        raise UsageError(
            f"{'several restores begin with' if found else 'no restore'} {words!r}",
            advice="`nightvault restores` lists them",
        )
    return found[0]


def cancel(restore: Restore, world_inventory: Inventory, key_directory: str, clock: Clock) -> None:
    """Give an open restore up: what was asked for is not fetched, and its keys are wiped."""
    with alone_with(world_inventory, restore):
        with world_inventory.writing() as tx:
            retrievals.close_restore(tx, restore.number, "cancelled", clock.now())
        PackKeyFile(key_directory, restore.id).wipe()


def _same_open(tx: Transaction, plan: RestorePlan, target: bytes) -> Restore | None:
    for one in retrievals.list_restores(tx, only_open=True):
        if (one.snapshot, one.path, one.target) == (plan.snapshot.id, plan.path, target):
            return one
    return None


def _open_packs(plan: RestorePlan, ask: Callable[[], RecoveryKey], world: RestoreWorld) -> dict[int, bytes]:
    """The keys of the plan's packs; a pack that was sealed wrongly is left out, and its files reported."""
    if not plan.archives:
        return {}
    key = ask()
    opened: dict[int, bytes] = {}
    for number, archive in plan.archives.items():
        try:
            opened[number] = open_header(parse_header(archive.header), key)
        except FormatError as error:
            world.progress.note(f"archive {number} cannot be opened: {error}")
    return opened


def _record(
    tx: Transaction,
    plan: RestorePlan,
    target: bytes,
    pack_keys: dict[int, bytes],
    world: RestoreWorld,
    tier: Tier,
) -> Restore:
    """Record restore and retrievals, and keep the keys before that becomes true."""
    still_open = {one.id for one in retrievals.list_restores(tx, only_open=True)}
    wipe_others(world.key_directory, still_open)
    restore_id = os.urandom(8).hex()
    number = retrievals.open_restore(
        tx,
        restore_id=restore_id,
        snapshot=plan.snapshot.id,
        vault=world.vault.name,
        path=plan.path,
        target=target,
        tier=tier,
        now=world.clock.now(),
    )
    ranges = [one for one in plan.ranges if one.archive in pack_keys]
    retrievals.plan_retrievals(
        tx, number, [(one.archive, one.extent, os.urandom(12).hex()) for one in ranges], tier
    )
    PackKeyFile(world.key_directory, restore_id).write(pack_keys)
    return retrievals.find_restore(tx, number)
