"""The tree of a config's inventory, opened with recovery keys for a way in; a process closed to others."""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from backup.app.base.malloc import share_freed_memory
from backup.app.base.run_context import RunContext
from backup.app.base.state import State
from backup.app.base.vaults import Purpose, make_vault
from backup.browser.contents import FileContents
from backup.browser.frames import Frames
from backup.browser.packs import Packs
from backup.browser.tree import Tree
from backup.format.keys import RecoveryKey
from backup.inventory.content.snapshots import Snapshot
from backup.model import Tier, VaultName
from backup.protocols import Vault
from backup.restorer.writer.owners import Owners
from backup.served.control import ControlFiles
from backup.served.look import Look, OwnerIds
from backup.served.thawing import Thawing

_SET_DUMPABLE: Final = 4  # PR_SET_DUMPABLE
_INVENTORY: Final = 4 * 1024  # KiB that each connection keeps of it; the kernel has the rest in memory anyway


class ServedTree(NamedTuple):
    """A tree that can be looked into; `waits`: cold contents can be asked for by its control file."""

    look: Look
    control: ControlFiles
    thawing: Thawing
    waits: bool


def keep_memory_private() -> None:
    """Leave no core file of this process, and let no other of its user read its memory: keys are in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def served_tree(
    at: RunContext,
    keys: Sequence[RecoveryKey],
    *,
    of: tuple[Snapshot, bytes] | None = None,
    tier: Tier | None = None,
    max_cost: Decimal | None = None,
    numeric: bool = False,
    is_shared: bool = False,
) -> Iterator[ServedTree]:
    """The tree of an inventory, or `of` one snapshot's path alone, as long as the body runs."""
    config, inventory = at.config, at.inventory
    share_freed_memory()
    inventory.connections.keep_less(_INVENTORY)
    tree = Tree(inventory, stamp=_stamp, seconds=time.monotonic)
    if of is not None:
        tree = Tree(inventory, stamp=_stamp, seconds=time.monotonic, top=tree.top_of(*of))

    def vault(name: VaultName) -> Vault:
        return make_vault(config, name, Purpose.RESTORE, at.clock, stop=at.stop)

    packs = Packs(inventory, vault, keys, at.clock, time.monotonic)
    secret, owners = State(config.state_dir).read_secret(), Owners(numeric=numeric)
    frames = Frames(packs, secret.chunk_key, at.clock)
    contents = FileContents(inventory, packs, frames, secret)
    look = Look(tree, contents, OwnerIds(owners.ids, owners.acl), is_shared=is_shared)
    thawing = Thawing(at, tree, keys, came=packs.forget_all, tier=tier, max_cost=max_cost)
    waits = any(settings.kind != "directory" for settings in config.vaults)
    try:
        yield ServedTree(look, ControlFiles(look, thawing), thawing, waits)
    finally:
        frames.close()


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d_%H-%M-%S}"
