"""The user's wish and the context of a rebuild: inventory, vault, clock and so on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from msgspec import Struct, field

from backup.format.keys import ChunkSecret, RecoveryKey, Signer
from backup.format.line import RecoveryLine
from backup.model import InventoryId, Tier
from backup.protocols import Clock, Progress, Vault
from backup.rebuilder.fetching.fetch import CatalogFetcher
from backup.rebuilder.fetching.journal import Journal
from backup.rebuilder.fetching.wants import LimitOnWants
from backup.rebuilder.floor import Floor
from backup.rebuilder.members import Trust
from backup.transfer.retry import RetryLimit, RetryPolicy


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


class RebuildContext(Struct, frozen=True):
    """All inputs of a rebuild except the user's options.

    There may be several `recovery_keys`: older catalogs may be sealed for others than the newest. `url` is
    the place of the new inventory, `folder` that of the journal and retrieved files; `keep_keys` stores the
    server's keys for that inventory just before it gets its final name, and may refuse. All retrievals are
    held to `limit_on`. `keeps_what_came`: `folder` is not cleared at the end, as another rebuild uses it.
    """

    vault: Vault
    clock: Clock
    progress: Progress
    recovery_keys: Sequence[RecoveryKey]
    url: str
    folder: str
    new_id: InventoryId
    keep_keys: Callable[[InventoryId, ServerKeys], None]
    limit_on: LimitOnWants
    retry_limit: RetryLimit = field(default_factory=RetryLimit)
    keeps_what_came: bool = False

    @property
    def patience(self) -> RetryPolicy:
        """The retry policy for requests to the vault."""
        return self.retry_limit.patience(self.clock, self.progress)

    def fetcher(self, journal: Journal, tier: Tier) -> CatalogFetcher:
        """Return what requests and downloads archives, as the journal has it."""
        return CatalogFetcher(
            *(self.vault, self.clock, self.progress, journal),
            limit_on=self.limit_on,
            tier=tier,
            patience=self.patience,
        )
