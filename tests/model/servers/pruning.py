"""What a prune of one of several machines decides, and what of it a keeper would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import Condemnation, StoredArchive
from backup.model import PackKind
from backup.pruner.decide import as_pruned, changes
from backup.retention.prune import PruneRules, Why, plan_prune
from tests.model.plain import Packs
from tests.model.servers.keeping import JOB_NUMBER
from tests.model.servers.machines import Machines
from tests.model.servers.rebuilding import RebuildableVault
from tests.model.servers.vault import Shown, archive_id, pack_id
from tests.model.servers.world import (
    CONDEMNED,
    DELETED,
    DELETING,
    IN_VAULT,
    LOOKS,
    LOST,
    PERIOD,
    Cast,
    Machine,
    Night,
    Pack,
    Row,
    Said,
    World,
    dated,
    now,
)


class Prunes(Machines):
    """The decisions of a prune."""

    def __init__(self, cast: Cast, vault: RebuildableVault) -> None:
        super().__init__(cast, vault)
        self._plans: dict[object, tuple[Machine, Said, tuple[int, ...]] | None] = {}

    # A prune.

    def _packs(self, machine: Machine, chunks: Mapping[int, int]) -> Packs:
        return Packs(
            {row.pack: row.state for row in machine.rows},
            {row.pack: (chunks[row.pack],) for row in machine.rows},
        )

    def taken_up_with(self, world: World, machine: Machine, night: Night) -> tuple[int, ...] | None:
        """What an undo takes up; None where it cannot come back."""
        chunks = {pack.order: pack.chunk for pack in world.packs}
        packs = self._packs(machine, chunks)
        place = (night.pack, chunks[night.pack])
        return None if packs.gone([place]) else tuple(sorted(packs.condemned(packs.with_copies([place]))))

    def needed(self, machine: Machine, chunks: Mapping[int, int]) -> set[int]:
        """The packs that kept snapshots and the newest need."""
        kept = {night.pack for night in machine.nights if night.forgotten < 0} | {machine.nights[-1].pack}
        return self._packs(machine, chunks).needed((pack, chunks[pack]) for pack in kept)

    def plan(self, machine: Machine, shown: Shown) -> tuple[Machine, Said, tuple[int, ...]] | None:
        """What a prune does: None if the list must not be used; else what it says, and what it deletes."""
        key = machine.rows, machine.nights, shown.period, shown.packs, shown.every
        if key not in self._plans:
            found = self._plan(machine, shown)
            self._plans[key] = found
            return found
        found = self._plans[key]
        return found and (replace(machine, rows=found[0].rows), *found[1:])

    def _plan(self, machine: Machine, shown: Shown) -> tuple[Machine, Said, tuple[int, ...]] | None:
        there = {pack.order: pack for pack in shown.packs}
        dates = {order: period for order, _, period in shown.every}
        missing = [
            row
            for row in machine.rows
            if row.state in IN_VAULT
            and row.pack not in there
            and (not self.cast.lag or dates[row.pack] < shown.period)
        ]
        if self.is_short(missing):
            return None
        missing = [row for row in missing if row.state in {CONDEMNED, DELETING}]
        archives = {
            row.pack: _as_stored(row, there.get(row.pack), dates[row.pack])
            for row in machine.rows
            if row.state in IN_VAULT
        }
        at, cast = now(shown.period), self.cast
        rules = PruneRules(cast.grace, self.listed_before(shown), may_delete=not cast.keeper)
        needed = self.needed(machine, shown.chunks)
        minimum = cast.minimum * PERIOD - LOOKS if cast.minimum else timedelta(0)
        pruned = [as_pruned(archive, minimum) for archive in archives.values()]
        plan = plan_prune(pruned, needed, rules, now=at, fee=lambda *_: None)
        if missing:
            wanted = {archive.number for archive in plan.take_up}
            gone = {row.pack: Row(row.pack, LOST if row.pack in wanted else DELETED) for row in missing}
            rows = tuple(gone.get(row.pack, row) for row in machine.rows)
            return self._plan(replace(machine, rows=rows), shown)
        change = changes(plan, archives, {JOB_NUMBER}, at).get(JOB_NUMBER)
        said = Said()
        if change is not None:
            condemned, taken_up = (
                tuple(sorted(int.from_bytes(pack, "big") for pack in packs))
                for packs in (change.condemned, change.taken_up)
            )
            said = Said(condemned=condemned, taken_up=taken_up)
        return machine, said, tuple(archive.number for archive in plan.delete)

    def listed_before(self, shown: Shown) -> datetime:
        """Whatever was stored before this, the list shows."""
        return min(shown.at, now(shown.period))

    def is_short(self, missing: Sequence[Row]) -> bool:
        """Whether the list lacks what nobody had condemned: others may seem dispensable because of it."""
        return any(row.state not in {CONDEMNED, DELETING} for row in missing)

    def beyond(self, world: World, machine: Machine, shown: Shown) -> tuple[int, ...]:
        """The forgotten snapshots that it gives up, also for what it would delete itself if it might."""
        if not any(night.forgotten >= 0 for night in machine.nights):
            return ()
        going = self._due_elsewhere(machine, shown) if self.cast.keeper else set()
        live, chunks = machine.nights[-1].pack, shown.chunks
        closed = {
            night.order: [(night.pack, chunks[night.pack])]
            for night in machine.nights
            if night.forgotten >= 0 and night.pack != live
        }
        return tuple(self._packs(machine, chunks).beyond_recall(closed, going))

    def _due_elsewhere(self, machine: Machine, shown: Shown) -> set[int]:
        there = {pack.order: pack for pack in shown.packs}
        dates = {order: period for order, _, period in shown.every}
        archives = [
            _as_stored(row, there.get(row.pack), dates[row.pack])
            for row in machine.rows
            if row.state in IN_VAULT
        ]
        at, cast = now(shown.period), self.cast
        minimum = cast.minimum * PERIOD - LOOKS if cast.minimum else timedelta(0)
        rules = PruneRules(cast.grace, self.listed_before(shown), may_delete=False)
        pruned = [as_pruned(archive, minimum) for archive in archives]
        plan = plan_prune(pruned, self.needed(machine, shown.chunks), rules, now=at, fee=lambda *_: None)
        return {wait.archive.number for wait in plan.waiting if wait.why is Why.OTHERS}


def _as_stored(row: Row, pack: Pack | None, period: int) -> StoredArchive:
    at = dated(period, row.pack)
    told = Condemnation(now(row.said) - LOOKS, now(row.told) - LOOKS)
    said = {JOB_NUMBER: told} if row.state == CONDEMNED else {}
    ids = row.pack, pack_id(row.pack), archive_id(row.pack), PackKind.DATA, ArchiveState(row.state)
    listed = None if pack is None else at
    return StoredArchive(*ids, 1, at, frozenset({JOB_NUMBER}), said, None, "", False, listed)
