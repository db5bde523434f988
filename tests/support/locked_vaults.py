"""A directory that locks what is stored, as a bucket does: for fast tests of locks and their ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from backup.cost import Price
from backup.errors import ArchiveMissingError, DeniedError, NightvaultError
from backup.inventory.content.locks import lock_ends
from backup.locker.extend import LockContext, extend
from backup.locker.report import ExtendReport
from backup.model import ArchiveId, InventoryId, ObjectLock, Refusal, SnapshotId, VaultName
from backup.protocols import Clock, LockableObjects
from backup.pruner.needed import needed_archives
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Trust
from backup.retention.locks import LockRules, locked_until, longest_lock
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.integrity import list_now
from tests.support.nightly_servers import DAY, Nights
from tests.support.rebuilds import Bare
from tests.support.trees import assert_same_tree

RULES = LockRules(60 * DAY, 10 * DAY)
IDENTITY = ArchiveId("the vault's identity")


class LockedDirectory(DirectoryVault):
    """A vault with locks; `asked` counts what was asked of them, `most` cuts the power after so many."""

    def __init__(self, folder: Path, clock: Clock, rules: LockRules) -> None:
        super().__init__(VaultName("disk"), str(folder), clock)
        self.clock = clock
        self.rules = rules
        self.ends: dict[ArchiveId, datetime] = {}
        self.holds: set[ArchiveId] = set()
        self.asked: list[tuple[str, ArchiveId]] = []
        self.most: int | None = None
        self.is_unknown = False  # its identity was deleted
        self._listed = frozenset[ArchiveId]()  # what the last look at the directory showed
        self._is_looked_at = False  # since then nothing was stored or deleted

    @property
    def locks(self) -> bool:
        """Always."""
        return True

    def vault_time(self) -> datetime:
        """That of the tests."""
        return self.clock.now()

    def lock_new(self) -> None:
        """Lock what was stored since, as a bucket does with each upload."""
        for key in (*self.look(), IDENTITY):
            self.ends.setdefault(key, locked_until(self.clock.now(), self.rules))

    def look(self) -> frozenset[ArchiveId]:
        """What is in the directory now; read anew if anything was stored or deleted since."""
        if not self._is_looked_at:
            self._listed = frozenset(line.archive_id for line in list_now(self).archives)
            self._is_looked_at = True
        return self._listed

    def complete_upload(self, *upload: Any, **told: Any) -> ArchiveId:
        """As of a directory."""
        try:
            return super().complete_upload(*upload, **told)
        finally:
            self._is_looked_at = False

    def lockable(self, inventory_ids: Collection[InventoryId]) -> LockableObjects:
        """What is listed, and the identity."""
        assert inventory_ids
        return LockableObjects(self.look(), frozenset({IDENTITY}))

    def lock_of(self, key: ArchiveId) -> ObjectLock | None:
        """The lock, if it has one."""
        self._meet("look", key)
        end = self.ends.get(key)
        return None if end is None else ObjectLock("GOVERNANCE", end)

    def lock_until(self, key: ArchiveId, until: datetime) -> ObjectLock:
        """Lock it; nobody may for longer than the policy allows, and nothing is shortened."""
        self._meet("lock", key)
        if until > longest_lock(self.clock.now(), self.rules):
            raise DeniedError("the policy does not allow that")
        self.ends[key] = max(until, self.ends.get(key, until))
        return ObjectLock("GOVERNANCE", self.ends[key])

    def hold(self, key: ArchiveId, *, is_on: bool) -> None:
        """Hold it, or end that."""
        self._meet("hold" if is_on else "lift", key)
        (self.holds.add if is_on else self.holds.discard)(key)

    def _meet(self, what: str, key: ArchiveId) -> None:
        if self.most is not None and len(self.asked) >= self.most:
            raise DeniedError("there is no power")
        self.asked.append((what, key))
        if key != IDENTITY and key not in self._listed and key not in self.look():
            raise ArchiveMissingError(f"there is no {key}")

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], _: object = None
    ) -> Mapping[ArchiveId, Refusal]:
        """Refuse what is locked."""
        now = self.clock.now()
        held = {key: self.ends[key] for key in stored if self.ends.get(key, now) > now}
        on_hold = dict.fromkeys(stored.keys() & self.holds, Refusal("it is under a legal hold"))
        free = {key: at for key, at in stored.items() if key not in held and key not in on_hold}
        self._listed, self._is_looked_at = frozenset(), False
        refused = super().delete_archives(free)
        locked = {key: Refusal("object lock keeps it", end) for key, end in held.items()}
        return {**refused, **locked, **on_hold}

    def destroy(self) -> None:
        """What an intruder with all rights of the host does: delete all that can be deleted."""
        self.delete_archives(dict.fromkeys(self.look()))
        self.is_unknown |= self.ends[IDENTITY] <= self.clock.now() and IDENTITY not in self.holds


def lock_context(
    site: Site, vault: LockedDirectory, price: Price | None = None, *, every: timedelta = DAY
) -> LockContext:
    """The context of a renewal; one request after the other, so that a cut meets the planned one."""
    world = replace(site.world, vault=vault)
    fields = {name: asdict(world)[name] for name in ("clock", "progress", "stop", "retry_limit", "inventory")}
    return LockContext(
        **fields,
        vault=vault,
        locks=vault,
        rules=vault.rules,
        needed=needed_archives,
        price=price,
        every=every,
        threads=1,
    )


def renew(site: Site, vault: LockedDirectory, *, only_plan: bool = False) -> ExtendReport:
    """One renewal."""
    return partial(extend, only_plan=only_plan)(lock_context(site, vault))


class LockedNights(Nights):
    """A server with a vault that locks."""

    vault: LockedDirectory

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.vault = LockedDirectory(folder / "vault", self.clock, RULES)
        self.site = replace(self.site, vault=self.vault)

    def night(self, name: str | None = None, contents: bytes | None = None) -> int:
        """A backup, all of which is locked."""
        made = super().night(name, contents)
        self.vault.lock_new()
        return made

    def known(self) -> dict[ArchiveId, datetime]:
        """The ends that the inventory knows."""
        with self.site.inventory.reading() as tx:
            return dict(lock_ends(tx, self.vault.name))

    def asked(self, what: str) -> list[ArchiveId]:
        """What the vault was asked since the last time."""
        found = [key for kind, key in self.vault.asked if kind == what]
        self.vault.asked.clear()
        return found


def restores(nights: LockedNights, snapshots: list[SnapshotId], folder: Path, as_of: datetime) -> bool:
    """Whether a bare machine restores these snapshots from what the vault has, by the state of that time."""
    if nights.vault.is_unknown:
        return False
    bare = Bare(folder, nights.vault, nights.site)
    try:
        bare.rebuild(Wish(trust=Trust(), before=as_of))
    except NightvaultError:
        return False
    with_all = bare.site()
    try:
        numbers = {snapshot.id: snapshot.number for snapshot in with_all.snapshots(also_forgotten=True)}
        for snapshot in snapshots:
            target = folder / "out" / snapshot
            with_all.restore(snapshot, target)
            assert_same_tree(nights.trees[numbers[snapshot]], target)
    except (NightvaultError, KeyError):
        return False
    finally:
        with_all.close()
    return True


def attacked(nights: LockedNights, until: datetime) -> None:
    """An intruder with all rights of the host deletes what can be deleted, at each day until then."""
    while nights.clock.now() < until:
        nights.clock.advance(min(DAY, until - nights.clock.now()))
        nights.vault.destroy()
