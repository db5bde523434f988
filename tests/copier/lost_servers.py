"""Two vaults whose server is lost and rebuilt, whose keys change, and whose source is not sound."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from fractions import Fraction

from msgspec.structs import replace

from backup.checker.read_sample import begin_reading, find_open, give_up, go_on, plan_sample
from backup.checker.sample import Amount
from backup.inventory.content import archives, copied, identities
from backup.inventory.content.archives import SOUND, ArchiveState
from backup.inventory.content.snapshots import Snapshot, list_snapshots
from backup.inventory.records.runs import find_job
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows
from backup.model import ArchiveId, ByteRange, Fetched, InventoryId, JobName, RetrievalId, Tier
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from tests.copier.two_vaults import JOBS, TwoVaults
from tests.support.backups import Site, enrolled
from tests.support.checks import check_world
from tests.support.doubles import NO_LIMIT, FaultyVault
from tests.support.holding import Holding
from tests.support.rebuilds import Bare
from tests.support.recovery_keys import NEW, OLD
from tests.support.trees import assert_same_tree

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


class Lacking(FaultyVault):
    """A vault that has lost some archives: asked for one of them it looks for one that it never had."""

    def __init__(self, vault: Vault, gone: set[str]) -> None:
        super().__init__(vault)
        self._gone = gone

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        """See `Vault`."""
        if archive_id in self._gone:
            archive_id = ArchiveId(archive_id[:-1] + ("0" if archive_id[-1] != "0" else "1"))
        return super().request_retrieval(archive_id, extent, tier, token)


@dataclass
class LostServers(TwoVaults):
    """The world, and how often a server was lost; of the jobs `unsaved` the source has nothing now."""

    lives: int = 0
    unsaved: set[str] = field(default_factory=set)

    def back_up(self, which: int) -> None:
        """As before; then the source has a full catalog of the job."""
        super().back_up(which)
        self.unsaved.discard(JOBS[which % len(JOBS)])

    def rebuild_here(self, _which: int = 0) -> None:
        """The server is lost; its inventory is rebuilt from its own vault, if all jobs are there."""
        if not self.unsaved:
            self._rebuild(self.here)

    def rebuild_there(self, _which: int = 0) -> None:
        """The server is lost with its vault: it goes on in that of the copies, and copies into another."""
        fresh = self.pair.fresh
        if fresh is None or self.has_lost or self.there.traits.waits or not self._rebuild(self.there):
            return
        self.here = self.there
        self.unsaved.clear()
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
        self._accept(self.there, which)

    def accept_here(self, which: int) -> None:
        """The same with the source: its archives are lost, but for what the copies have."""
        if self.pair.fresh_source is None:
            return
        self.here = self._holding(self.pair.fresh_source(self.here.name))
        self.site = replace(self.site, vault=self.here)
        self._accept(self.here, which)
        self.unsaved = {name for name in JOBS if self.row(name) is not None}

    def _accept(self, vault: Holding, which: int) -> None:
        inventory = self.site.inventory
        with inventory.locked("backup"):
            with inventory.writing() as tx:
                identities.set_state_of_contents(tx, vault.name, ArchiveState.LOST)
            vault.add_identity(inventory.id, f"{which:032x}")
            with inventory.writing() as tx:
                identity = vault.identities(inventory.id)[0]
                identities.set_vault_identity(tx, vault.name, identity)

    def _holding(self, vault: Vault) -> Holding:
        return Holding(vault, self.clock.now, tells_time=self.pair.tells_time)

    def _begin_there(self, vault: Vault) -> None:
        self.there = self._holding(vault)
        self.vanished.clear()
        self.unsent.clear()
        self.has_lost = False

    # What is in either vault.

    def _sound(self, tx: Transaction) -> tuple[dict[int, str], dict[int, str]]:
        """The data archives that each vault holds, and may be read there: numbers and ids."""
        every = archives.list_archives(tx, self.site.inventory.id, vault=self.here.name)
        own = {archive.number: archive for archive in every if archive.label.generation is None}
        known = {copy.archive for copy in copied.list_copies(tx, copied.vault_number(tx, self.there.name))}
        named = archives.get_archives(tx, sorted(known), self.site.inventory.id)
        copies = [copy for copy in copied.copies_of(tx, named) if copy.vault == self.there.name]
        here, there = (
            {
                archive.number: str(archive.archive_id)
                for archive in some
                if archive.state in SOUND and archive.archive_id in vault.held
            }
            for some, vault in ((own.values(), self.here), (copies, self.there))
        )
        return here, there

    def _can_come(self, tx: Transaction, snapshot: Snapshot, lies: set[int]) -> bool:
        """Whether each chunk of a snapshot lies in one of these archives."""
        row = find_job(tx, snapshot.job)
        assert row is not None
        return not any(map(lies.isdisjoint, copied.needs_of(tx, {row.number: [snapshot.number]})))

    def is_gone_for_good(self, job: str, number: int) -> bool:
        """Whether neither vault has something that a snapshot needs: it was lost with the source."""
        with self.site.inventory.reading() as tx:
            here, there = self._sound(tx)
            (snapshot,) = (s for s in list_snapshots(tx, job=JobName(job)) if s.number == number)
            return not self._can_come(tx, snapshot, {*here, *there})

    def bring_back_from_both(self, which: int) -> None:
        """Half of what both vaults have is gone from each, never from both: all that they had comes back."""
        if not self.vault():
            return
        draw = random.Random(which)
        copies = {*self.said(copied.KeptThere.COPIED)}
        with self.site.inventory.reading() as tx:
            here, there = self._sound(tx)
            every = list_snapshots(tx, also_forgotten=True, also_alone=True)
            listed = {(s.job, s.number) for s in list_snapshots(tx)}
            some = [s for s in every if (s.job, s.number) in copies | listed]
            wanted = [s for s in some if self._can_come(tx, s, {*here, *there})]
        twice = sorted(here.keys() & there.keys())
        half = {number for number in twice if draw.random() < 0.5}
        gone_here = {here[number] for number in half}
        gone_there = {there[number] for number in twice if number not in half}
        image = self._image()
        both = replace(image, vault=Lacking(self.here, gone_here), copies=(Lacking(self.there, gone_there),))
        for snapshot in wanted:
            first = self.there.name if (snapshot.job, snapshot.number) not in listed else None
            target = self.folder / "from both"
            read = replace(both, reads_first=first or draw.choice([None, self.there.name]))
            job = read.with_job(sources=[self.folder / snapshot.job], name=snapshot.job)
            report = job.restore(snapshot.id, target)
            if report.problems and self.vanished:  # only now it is seen: the next one looks for its chunks
                shutil.rmtree(target)
                report = job.restore(snapshot.id, target)
            assert not report.problems, report
            assert_same_tree(target, self.trees[snapshot.job, snapshot.number])
            shutil.rmtree(target)
        image.close()
        shutil.rmtree(image.folder)

    def _image(self) -> Site:
        """The server's state, to be used and thrown away."""
        self.site.close()
        folder = self.folder / "image"
        shutil.copytree(self.site.folder, folder)
        image = replace(self.site, folder=folder).reopen()
        self.site = self.site.reopen(self.here)
        return image

    def read_there(self, _which: int = 0) -> None:
        """A check that reads all copies back: what is held there is never called missing or damaged."""
        world = check_world(replace(self.site, vault=self._there))
        run = find_open(world)
        pieces = plan_sample(Amount(share=Fraction(1)), world) if run is None and self.vault() else []
        if run is None and not pieces:
            return
        run = begin_reading(pieces, world, NO_LIMIT) if run is None else run
        with self.site.inventory.reading() as tx:
            _, before = self._sound(tx)
        for _ in range(8):
            report = go_on(run, world)
            if report.state == "done":
                break
            self.site.wait()
        else:
            give_up(run, world)
        with self.site.inventory.reading() as tx:
            _, after = self._sound(tx)
        assert before.items() <= after.items(), report.findings
        assert all(finding.kind == "missing" for finding in report.findings if finding.is_grave)

    # What else happens.

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
