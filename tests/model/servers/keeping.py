"""What a keeper deletes in a vault of several inventories, by the program: lineages, states, rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import Condemnation, StoredArchive
from backup.inventory.store.states import StepStage
from backup.model import ArchiveId, InventoryId, PackKind, VaultName
from backup.pruner.keeper import lineages as servers
from backup.pruner.keeper import rules as deciding
from backup.pruner.keeper.lineages import Lineage
from backup.pruner.keeper.rules import KeeperRules
from backup.pruner.keeper.state import State
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.floor import Floor
from backup.rebuilder.report import RebuildReport, RebuiltJob, Suspicion
from tests.model.plain import Packs
from tests.model.servers.rebuilding import RebuildableVault, Rebuilt, Stopped
from tests.model.servers.vault import IDS, INVENTORIES, JOB, PUBLIC, Shown, pack_id
from tests.model.servers.vault import archive_id as named
from tests.model.servers.world import CONDEMNED, IN_VAULT, LOOKS, NOBODY, PERIOD, Pack, now

JOB_NUMBER = 1
_NOBODY = frozenset[int]()


class Keeper:
    """One step of a keeper for each server of a list."""

    def __init__(self, vault: RebuildableVault) -> None:
        self._vault = vault
        self._decided: dict[object, tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]] = {}

    def decide(
        self, shown: Shown, answers: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
        """The packs that go, the tips of the servers of which something goes, and what stops it."""
        key = shown, answers
        if key not in self._decided:
            self._decided[key] = self._decide(shown, answers)
        return self._decided[key]

    def rules(self, shown: Shown) -> KeeperRules:
        """By the earlier of the two clocks; half a day less than whole periods."""
        here, listed = self._vault.cast.clocks
        at = self.time(now(shown.period) + here * PERIOD, shown.at + listed * PERIOD)
        floor = max(self._vault.cast.floor * PERIOD - LOOKS, self._vault.cast.grace)
        return KeeperRules(at, at - floor, {PackKind.DATA: self.minimum, PackKind.CATALOG: timedelta(0)})

    def time(self, clock: datetime, listed: datetime) -> datetime:
        """The time by which it goes."""
        return min(clock, listed)

    @property
    def minimum(self) -> timedelta:
        """The minimum duration."""
        periods = self._vault.cast.minimum
        return periods * PERIOD - LOOKS if periods else timedelta(0)

    def lineages(self, shown: Shown, answers: tuple[int, ...]) -> list[Lineage]:
        """The servers of a list; `answers` are inventories that a person said to ignore."""
        family = self._vault.family(shown.catalogs)
        pairs = [("", f"{IDS[other].hex()} {job.hex()}") for other in answers for job in (JOB, bytes(16))]
        return servers.lineages(self._vault.listing(shown), family, pairs)

    def _decide(
        self, shown: Shown, answers: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
        rules = self.rules(shown)
        due: list[int] = []
        tips: list[int] = []
        stops: list[str] = []
        for lineage in self.lineages(shown, answers):
            try:
                found, tip = self._of_server(lineage, shown, rules)
            except PruneStoppedError as error:
                stops.append(str(error)[:60])
                continue
            due += found
            tips += [tip] * bool(found)
        return tuple(sorted(due)), tuple(tips), tuple(stops)

    def _of_server(self, lineage: Lineage, shown: Shown, rules: KeeperRules) -> tuple[list[int], int]:
        self.require_its_own(lineage)
        which = INVENTORIES[lineage.newest]
        before = self._vault.rebuild(shown, which, Floor(rules.floor, lineage.inventories))
        newest = self._vault.rebuild(shown, which)
        for state in (before, newest):
            if isinstance(state, Stopped):
                raise PruneStoppedError(state.why)
        assert isinstance(before, Rebuilt)
        assert isinstance(newest, Rebuilt)
        held, now_held = self._state(before, shown), self._state(newest, shown)
        self.require_covered(lineage, now_held, held)
        decision = self.decide_on(lineage, now_held, held, rules)
        return [int(archive.archive_id[1:]) for archive in decision.delete], newest.tip

    # The guards, each of which a mutant takes out.

    def require_its_own(self, lineage: Lineage) -> None:
        """Strangers wrote of its jobs."""
        servers.require_its_own(lineage)

    def require_covered(self, lineage: Lineage, newest: State, floor: State) -> None:
        """A catalog is in no state."""
        servers.require_covered(lineage, newest, floor)

    def decide_on(
        self, lineage: Lineage, newest: State, floor: State, rules: KeeperRules
    ) -> deciding.Decision:
        """What goes."""
        return deciding.decide(lineage, newest, floor, rules)

    def _state(self, rebuilt: Rebuilt, shown: Shown) -> State:
        packs = {pack.order: pack for pack in shown.packs}
        archives = _archives(rebuilt, packs)
        catalogs = {order: named(order) for order in rebuilt.members}
        suspicions = tuple(Suspicion(kind, "", "") for kind, _ in rebuilt.suspicions)
        job = RebuiltJob("job", rebuilt.number, 0, 0, rebuilt.not_covered)
        report = RebuildReport(
            StepStage.DONE, VaultName("v"), predecessor=IDS[rebuilt.owner], jobs=(job,), suspicions=suspicions
        )
        return State(
            report=report,
            archives={archive.archive_id: archive for archive in archives.values()},
            needed=frozenset(needed_by_any(rebuilt, packs)),
            packs=frozenset(
                [archive.pack_id for archive in archives.values()] + [pack_id(at) for at in rebuilt.members]
            ),
            jobs={JOB: "job"},
            applied=dict.fromkeys(catalogs.values(), JOB),
            bases={JOB: named(rebuilt.base)},
            writers={
                archive.archive_id: _writer(packs.get(order), order in rebuilt.forging)
                for order, archive in archives.items()
            },
            snapshots=(),
        )


def _writer(pack: Pack | None, forged: bool) -> tuple[InventoryId, bytes]:
    """Inventory and signer of a pack as a catalog records its header: its writer chooses it."""
    if pack is None:
        return IDS[NOBODY], b""
    return IDS[pack.writer], PUBLIC[3 if forged else pack.signer]


def needed_by_any(rebuilt: Rebuilt, packs: Mapping[int, Pack]) -> set[int]:
    """The packs that any snapshot of a state needs, forgotten or not."""
    chunks = {order: pack.chunk for order, pack in packs.items()}
    states = {row.pack: row.state for row in rebuilt.folded.rows}
    contents = {order: (chunks[order],) for order in states if order in chunks}
    places = {(night.pack, chunks[night.pack]) for night in rebuilt.folded.nights if night.pack in chunks}
    plain = Packs({order: state for order, state in states.items() if order in contents}, contents)
    return plain.needed(places)


def _archives(rebuilt: Rebuilt, packs: Mapping[int, Pack]) -> dict[int, StoredArchive]:
    found: dict[int, StoredArchive] = {}
    for row in rebuilt.folded.rows:
        if row.state not in IN_VAULT:
            continue
        pack = packs.get(row.pack)
        told = _told(row.said)
        found[row.pack] = StoredArchive(
            row.pack,
            pack_id(row.pack),
            ArchiveId(named(row.pack)),
            PackKind.DATA,
            ArchiveState(row.state),
            1,
            now(pack.period if pack else 0),
            frozenset({JOB_NUMBER}),
            {JOB_NUMBER: Condemnation(told, told)} if row.state == CONDEMNED else {},
            None,
            "",
            run_is_open=False,
        )
    return found


def _told(period: int) -> datetime:
    return now(period) - LOOKS
