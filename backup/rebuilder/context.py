"""The user's wish and the context of a rebuild: vault, keys, limit, and where the new inventory goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from msgspec import Struct, field

from backup.format.keys import ChunkSecret, RecoveryKey, Signer
from backup.format.line import RecoveryLine
from backup.model import InventoryId, Tier
from backup.protocols import Vault
from backup.rebuilder.floor import Floor
from backup.rebuilder.members import Trust
from backup.transfer.fetching.fetch import ArchiveFetcher
from backup.transfer.fetching.journal import Journal
from backup.transfer.fetching.wants import LimitOnWants
from backup.transfer.vault_run import RunBase


class Wish(Struct, frozen=True):
    """The user's options; each may be left out.

    `inventory` and `tip` are beginnings of ids in hex; `jobs` are names; `accepted` are beginnings of pack
    ids of catalogs that the user says are this server's; `deep` reads the directories of packs that no
    catalog covers. With a `floor` the state retains what existed then. Catalogs that the vault accepted after
    `before` are left out.
    """

    lines: Sequence[RecoveryLine] = ()
    inventory: str | None = None
    jobs: frozenset[str] = frozenset()
    tip: str | None = None
    trust: Trust = field(default_factory=Trust)
    tier: Tier = Tier.STANDARD
    deep: bool = False
    floor: Floor | None = None
    before: datetime | None = None
    accepted: Collection[str] = ()


class ServerKeys(Struct, frozen=True):
    """The keys that a rebuilt server seals with; `recipients` are public keys.

    `ancestors` are the inventories that its own was rebuilt from, nearest first.
    """

    signer: Signer
    secret: ChunkSecret
    recipients: Sequence[bytes]
    recipient_ids: Sequence[bytes]
    ancestors: Sequence[InventoryId] = ()


class CatalogRun(RunBase, frozen=True, kw_only=True):
    """Inputs of a run that reads a vault's catalogs, and relies on no inventory.

    There may be several `recovery_keys`: older catalogs may be sealed for others than the newest. All
    retrievals are held to `limit_on`.
    """

    vault: Vault
    recovery_keys: Sequence[RecoveryKey]
    limit_on: LimitOnWants

    def fetcher(self, journal: Journal, tier: Tier) -> ArchiveFetcher:
        """Return what requests and downloads archives, as the journal has it."""
        return ArchiveFetcher(
            *(self.vault, self.clock, self.progress, journal),
            limit_on=self.limit_on,
            tier=tier,
            patience=self.patience,
        )

    def rebuild_at(self, url: str, folder: str) -> RebuildContext:
        """The context of a rebuild that nobody keeps: no key is stored, and `folder` is not cleared."""
        return RebuildContext(
            clock=self.clock,
            progress=self.progress,
            retry_limit=self.retry_limit,
            vault=self.vault,
            recovery_keys=self.recovery_keys,
            limit_on=self.limit_on,
            url=url,
            folder=folder,
            keep_keys=lambda *_: None,
            keeps_what_came=True,
        )


class RebuildContext(CatalogRun, frozen=True, kw_only=True):
    """All inputs of a rebuild except the user's options.

    `url` is the place of the new inventory, `folder` that of the journal and retrieved files; `keep_keys`
    stores the server's keys for that inventory just before it gets its final name, and may refuse.
    `keeps_what_came`: `folder` is not cleared at the end, as another rebuild uses it.
    """

    url: str
    folder: str
    new_id: InventoryId = field(default_factory=lambda: InventoryId(os.urandom(16)))
    keep_keys: Callable[[InventoryId, ServerKeys], None]
    keeps_what_came: bool = False
