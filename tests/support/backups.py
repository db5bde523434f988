"""A small installation for tests: state folder, keys, inventory, vault and one job, ready to run.

site = Site.create(tmp_path / "state", vault, [tmp_path / "source"])
report = site.backup()
site.restore(report.snapshot, tmp_path / "out")       # what the first source held
site = site.reopen()                                  # as a new process would
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import cast

from msgspec import Struct, field
from msgspec.structs import asdict, replace

from backup.archiver.backup import run_backup
from backup.catalogs.amend import Amended, amending
from backup.catalogs.context import BackupContext, BackupJob, Keys
from backup.catalogs.report import BackupReport
from backup.cost import Price
from backup.cost.limit import CostLimit
from backup.format.catalog import Record
from backup.format.enrolment import enrol, enrolment_key, slots
from backup.format.keys import ChunkSecret, RecoveryKey, Signer
from backup.inventory.content import snapshots
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records.runs import find_job
from backup.inventory.store.database import Inventory, create_inventory, open_inventory
from backup.kinds import RunKind
from backup.model import MIB, InventoryId, JobName, Tier, VaultName
from backup.protocols import Clock, Vault
from backup.pruner.context import PruneContext
from backup.pruner.prune import prune
from backup.pruner.report import PruneReport
from backup.restorer.context import CHECKPOINT
from backup.restorer.places import JoinedVaults
from backup.restorer.restore import (
    RestoreContext,
    RestoreReport,
    advance,
    begin_restore,
    deliver,
    is_ready,
    plan_restore,
)
from backup.restorer.selection.choice import Choice
from backup.restorer.selection.column import MOST_IN_MEMORY
from backup.retention.prune import DEFAULT_GRACE, DEFAULT_KEEP_RUNS
from backup.source.filters import Filters
from backup.source.freshness import stamp_clock
from tests.support.doubles import NO_LIMIT, ManualClock, Silent

AN_HOUR = 3600 * 10**9
PART = MIB
PACK = 3 * MIB
INVENTORY_ID = InventoryId(b"inventory of 16b")


@cache
def recovery_key() -> RecoveryKey:
    """The tests' recovery key: always the same."""
    return RecoveryKey.from_seed(bytes(range(32)))


def server_keys(inventory_id: InventoryId = INVENTORY_ID, ancestors: Sequence[InventoryId] = ()) -> Keys:
    """What the tests' server seals with, enrolled by the recovery key: always the same."""
    keys = Keys(Signer(b"s" * 32), ChunkSecret(b"c" * 32), (recovery_key().recipient,), ())
    return enrolled(keys, inventory_id, [recovery_key()], ancestors)


def enrolled(
    keys: Keys,
    inventory_id: InventoryId,
    by: Sequence[RecoveryKey],
    ancestors: Sequence[InventoryId] = (),
) -> Keys:
    """The keys with enrolments by these recovery keys, in both versions."""
    public = keys.signer.public
    tags = {key.recipient.id: key.enrolment_tag(inventory_id, public) for key in by}
    signed = {key.recipient.id: enrol(key, inventory_id, public, ancestors) for key in by}
    filled = slots([recipient.id for recipient in keys.recipients], tags, signed)
    vouching = tuple(enrolment_key(key) for key in by)
    return replace(keys, enrolments=filled, vouching=vouching, signature=next(iter(signed.values()), b""))


class Site(Struct):
    """One server: its inventory, its vault, its keys and its job. Small packs of small parts by default."""

    folder: Path
    inventory: Inventory
    vault: Vault
    job: BackupJob
    keys: Keys
    key: RecoveryKey
    clock: Clock
    progress: Silent = field(default_factory=Silent)
    wait: Callable[[], object] = lambda: None  # lets the hours pass that a cold vault takes
    stop: Callable[[], bool] = lambda: False
    stamps: Callable[[], int] = lambda: stamp_clock() + AN_HOUR  # so that what was just written is not fresh
    checkpoint: int = CHECKPOINT  # bytes after which a restore syncs and records
    column: int = MOST_IN_MEMORY  # bytes from which a column of a restore's plan goes to a file
    most_deltas: int | None = None  # after so many a full catalog is due
    askers: int = 1  # one after the other, so that a fault meets the request it was planned for
    makers: int = 1  # processes that make a restore's small files, beside this one
    more_keys: Sequence[RecoveryKey] = ()  # with which its restores open packs, too
    copies: Sequence[Vault] = ()  # other vaults, with copies, that restores read from, too
    reads_first: VaultName | None = None  # which of all; None: the job's own
    limit: CostLimit = NO_LIMIT  # of what its restores retrieve
    cost_of: Callable[[VaultName, int, int, Tier], Decimal | None] = lambda *_: Decimal(
        0
    )  # of what was not planned

    @classmethod
    def create(
        cls,
        folder: Path,
        vault: Vault,
        sources: Sequence[Path | bytes | str],
        *,
        filters: Filters | None = None,
        name: str = "job",
        clock: Clock | None = None,
        wait: Callable[[], object] = lambda: None,
        pack_size: int = PACK,
        part_size: int = PART,
    ) -> Site:
        """A new one in `folder`; the vault must have been made."""
        clock = clock or ManualClock()
        keys = server_keys()
        for path in (folder, folder / "spool", folder / "restores"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        inventory = create_inventory(
            _url(folder),
            inventory_id=INVENTORY_ID,
            signer_public=keys.signer.public,
            now=clock.now(),
            lock_directory=str(folder),
        )
        paths = tuple(os.fsencode(source) for source in sources)
        job = BackupJob(JobName(name), paths, filters or Filters(), pack_size, part_size)
        return cls(folder, inventory, vault, job, keys, recovery_key(), clock, wait=wait)

    @classmethod
    def attach(
        cls,
        folder: Path,
        vault: Vault,
        sources: Sequence[Path | bytes | str],
        *,
        clock: Clock,
        pack_size: int = PACK,
        part_size: int = PART,
    ) -> Site:
        """The one that is in `folder` already, or else a new one."""
        if not (folder / "inventory.sqlite").exists():
            return cls.create(folder, vault, sources, clock=clock, pack_size=pack_size, part_size=part_size)
        inventory = open_inventory(_url(folder), lock_directory=str(folder))
        paths = tuple(os.fsencode(source) for source in sources)
        job = BackupJob(JobName("job"), paths, Filters(), pack_size, part_size)
        return cls(folder, inventory, vault, job, server_keys(), recovery_key(), clock)

    @property
    def spool(self) -> Path:
        """Where its packs are written."""
        return self.folder / "spool"

    @property
    def world(self) -> BackupContext:
        """Where its backups touch the world."""
        return BackupContext(
            inventory=self.inventory,
            vault=self.vault,
            clock=self.clock,
            progress=self.progress,
            spool=str(self.spool),
            host="host",
            program="nightvault 0",
            stop=self.stop,
            stamps=self.stamps,
            most_deltas=self.most_deltas,
        )

    @property
    def restore_world(self) -> RestoreContext:
        """Where its restores touch the world."""
        joined = None
        if self.copies:
            every = {vault.name: partial(_same, vault) for vault in (self.vault, *self.copies)}
            first = self.reads_first or self.vault.name
            joined = JoinedVaults(every, home=self.vault.name, first=first)
        return RestoreContext(
            inventory=self.inventory,
            vault=self.vault if joined is None else cast("Vault", joined),
            joined=joined,
            cost_of=self.cost_of,
            clock=self.clock,
            progress=self.progress,
            secret=self.keys.secret,
            key_directory=str(self.folder / "restores"),
            askers=self.askers,
            makers=self.makers,
            stop=self.stop,
            checkpoint=self.checkpoint,
            column=self.column,
        )

    def backup(self) -> BackupReport:
        """Run the job once."""
        return run_backup(self.job, self.keys, self.world)

    def amend(self, *amendment: Record, kind: RunKind = RunKind.FORGET) -> Amended:
        """Change what was saved before, by catalog records."""
        with self.inventory.reading() as tx:
            row = find_job(tx, self.job.name)
        assert row is not None
        with amending(self.keys, self.world, self.job.sending) as amender:
            return amender.amend(kind, row, amendment, {})

    def prune(
        self,
        *,
        max_fee: Decimal = Decimal(0),
        only_plan: bool = False,
        deletes: bool = True,
        grace: timedelta = DEFAULT_GRACE,
        price: Price | None = None,
        keep_runs: timedelta = DEFAULT_KEEP_RUNS,
        copied_to: Iterable[VaultName] = (),
    ) -> PruneReport:
        """One step of a prune; `deletes`: this server may delete."""
        context = PruneContext(
            **asdict(self.world),
            keys=self.keys,
            sending=self.job.sending,
            deleting=self.vault if deletes else None,
            price=price,
            grace=grace,
            keep_runs=keep_runs,
            copied_to=frozenset(copied_to),
        )
        return prune(context, max_fee=max_fee, only_plan=only_plan)

    def snapshot(self, words: str = "latest") -> Snapshot:
        """A snapshot by its id, a prefix, or `latest`."""
        with self.inventory.reading() as tx:
            return snapshots.find_snapshot(tx, words, job=self.job.name, copied_to=self.reads_first)

    def snapshots(self, *, also_forgotten: bool = False) -> list[Snapshot]:
        """All of the job's kept snapshots, oldest first."""
        with self.inventory.reading() as tx:
            return snapshots.list_snapshots(tx, job=self.job.name, also_forgotten=also_forgotten)

    def restore(
        self,
        snapshot: str,
        target: Path | bytes,
        *,
        path: Path | bytes | None = None,
        choice: Choice | None = None,
    ) -> RestoreReport:
        """Restore `path` (the first source by default) of a snapshot below `target`, waiting as needed."""
        world = self.restore_world
        wanted = self.job.sources[0] if path is None else os.fsencode(path)
        plan = plan_restore(self.snapshot(snapshot), wanted, world, choice or Choice())
        restore = begin_restore(
            plan,
            os.fsencode(target),
            world,
            self.limit,
            tier=Tier.STANDARD,
            keys=lambda: [self.key, *self.more_keys],
        )
        known = advance(restore, world)
        for _ in range(12):  # outputs of other restores, which this one shares, may expire meanwhile
            if not is_ready(known):
                self.wait()
                known = advance(restore, world)
        assert is_ready(known)
        return deliver(restore, known, world)

    def with_job(
        self,
        *,
        sources: Sequence[Path | bytes | str] | None = None,
        filters: Filters | None = None,
        name: str | None = None,
    ) -> Site:
        """The same server with another job, or its job changed."""
        job = self.job
        if sources is not None:
            job = replace(job, sources=tuple(os.fsencode(source) for source in sources))
        if filters is not None:
            job = replace(job, filters=filters)
        if name is not None:
            job = replace(job, name=JobName(name))
        return replace(self, job=job)

    def rereading(self) -> Site:
        """The same server, whose job reads every file again."""
        return replace(self, job=replace(self.job, reread=True))

    def reopen(self, vault: Vault | None = None) -> Site:
        """The same installation as a new process finds it, with another vault (wrapper) if given."""
        self.inventory.close()
        inventory = open_inventory(_url(self.folder), lock_directory=str(self.folder))
        return replace(
            self, inventory=inventory, vault=vault or self.vault, progress=Silent(), stop=lambda: False
        )

    def close(self) -> None:
        """Let go of the inventory."""
        self.inventory.close()


def _same(vault: Vault) -> Vault:
    return vault


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'inventory.sqlite'}"
