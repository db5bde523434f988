"""Two vaults whose server is lost and rebuilt, whose keys change, and whose source is not sound."""

from __future__ import annotations

import random
from dataclasses import dataclass

from msgspec.structs import replace

from backup.inventory.content import copied, identities
from backup.inventory.content.archives import ArchiveState
from backup.inventory.store.driver import raw_rows
from backup.model import ArchiveId, ByteRange, Fetched, InventoryId, RetrievalId, Tier
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from tests.copier.two_vaults import TwoVaults
from tests.support.backups import enrolled
from tests.support.doubles import FaultyVault
from tests.support.holding import Holding
from tests.support.rebuilds import Bare
from tests.support.recovery_keys import NEW, OLD

RECIPIENTS = (NEW,), (NEW, OLD), (OLD,)


class Unsound(FaultyVault):
    """A vault that gives other bytes of one archive: a bit is flipped, or another's, or made-up ones."""

    def __init__(self, vault: Vault, victim: str, other: str, how: int) -> None:
        super().__init__(vault)
        self._victim, self._other, self._how = victim, other, how % 3
        self._spoiled: set[RetrievalId] = set()

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        """See `Vault`."""
        found = super().request_retrieval(archive_id, extent, tier, token)
        if archive_id == self._victim:
            self._spoiled.add(found)
        return found

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """See `Vault`."""
        fetched = super().fetch(retrieval_id, extent)
        if retrieval_id not in self._spoiled:
            return fetched
        data = bytes(fetched.data)
        if self._how == 0:
            data = data[:-1] + bytes([data[-1] ^ 1])
        elif self._how == 1:
            token = "another"
            found = self.vault.request_retrieval(ArchiveId(self._other), None, Tier.STANDARD, token)
            data = bytes(self.vault.fetch(found, ByteRange(0, 1000)).data)[: len(data)].ljust(
                len(data), b"\0"
            )
        else:
            data = random.Random(len(data)).randbytes(len(data))
        return replace(fetched, data=data)


@dataclass
class LostServers(TwoVaults):
    """The world, and how often a server was lost in it."""

    lives: int = 0

    def rebuild_here(self, _which: int = 0) -> None:
        """The server is lost; its inventory is rebuilt from its own vault."""
        self._rebuild(self.here)

    def rebuild_there(self, _which: int = 0) -> None:
        """The server is lost with its vault: it goes on in that of the copies, and copies into another."""
        fresh = self.pair.fresh
        if fresh is None or self.has_lost or self.there.traits.waits or not self._rebuild(self.there):
            return
        self.here = self.there
        self._begin_there(fresh(f"after-{self.lives}"))
        self.site = replace(self.site, vault=self.here)

    def _rebuild(self, vault: Holding) -> bool:
        """Rebuild from what the vault shows; False if it has nothing."""
        before = self.site.inventory
        writers = {
            line.label.inventory_id
            for writer in (before.id, *before.ancestors)
            for line in vault.newest_catalogs(writer, {})
            if line.label is not None and line.label.job_id is not None
        }
        newest = next((writer for writer in (before.id, *before.ancestors) if writer in writers), None)
        if newest is None:
            return False
        self.lives += 1
        key, more = self.site.key, self.site.more_keys
        machine = Bare(self.folder / f"life {self.lives}", vault, self.site, key, more)
        machine.new_id = InventoryId(f"life {self.lives}".encode().ljust(16, b"."))
        machine.rebuild(Wish(inventory=newest.hex()), wait=self.site.wait)
        self.site.close()
        built = machine.site()  # all keys that are given vouch for it
        keys = enrolled(built.keys, built.inventory.id, [key, *more], built.inventory.ancestors)
        self.site = replace(built, vault=self.here, keys=keys)
        return True

    def accept_there(self, which: int) -> None:
        """An empty vault takes the place of the one with copies, and a person says that it is right."""
        if self.pair.fresh is None:
            return
        self._begin_there(self.pair.fresh(self.there.name))
        inventory = self.site.inventory
        with inventory.locked("backup"):
            with inventory.writing() as tx:
                identities.set_state_of_contents(tx, self.there.name, ArchiveState.LOST)
            self.there.add_identity(inventory.id, f"{which:032x}")
            with inventory.writing() as tx:
                identity = self.there.identities(inventory.id)[0]
                identities.set_vault_identity(tx, self.there.name, identity)

    def _begin_there(self, vault: Vault) -> None:
        self.there = Holding(vault, self.clock.now, tells_time=self.pair.tells_time)
        self.vanished.clear()
        self.unsent.clear()
        self.has_lost = False

    def change_keys(self, which: int) -> None:
        """Other recipients, and a backup of each job that accepts them."""
        some = RECIPIENTS[which % len(RECIPIENTS)]
        inventory, site = self.site.inventory, self.site
        keys = replace(site.keys, recipients=tuple(key.recipient for key in some))
        keys = enrolled(keys, inventory.id, [NEW, OLD], inventory.ancestors)
        others = [key for key in (NEW, OLD) if key is not some[0]]
        self.site = replace(site, keys=keys, key=some[0], more_keys=others)
        for job in (which, which + 1):
            self.back_up(job)

    def copy_what_is_unsound(self, which: int) -> None:
        """A copy while the source gives an archive otherwise than it was stored: no copy of that is made."""
        sql = "SELECT number, archive_id FROM archives WHERE kind = 1 AND state = 'stored' ORDER BY number"
        with self.site.inventory.reading() as tx:
            stored = list(raw_rows(tx, sql, ()))
            is_known = not self.site.inventory.ancestors or copied.is_known(tx, self.there.name)
        if not stored or not is_known:
            return
        number, victim = stored[which % len(stored)]
        other = stored[(which + 1) % len(stored)][1]
        was = self._is_there(number)
        with self.around(lambda vault: Unsound(vault, victim, other, which), source=True):
            self.copy(which)
        assert was or not self._is_there(number), "what is not sound counts as a copy"

    def _is_there(self, number: int) -> bool:
        """Whether a copy of the archive is, or may be, at the destination."""
        with self.site.inventory.reading() as tx:
            found = copied.states_there(tx, self.vault(), [number])
        return any(state not in {ArchiveState.LOST, ArchiveState.DELETED} for _, state, _ in found)
