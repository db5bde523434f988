"""What a machine with an inventory decides in a vault that others write to, and the laws of all of them.

Decided by the program: marks of heirs, strangers, unknown catalogs of the lineage, what a prune plans, what
its catalog says, how long a keeper's decision is valid. What the program has in SQL or among requests stands
here a second time: which catalogs make an inventory older than the vault (`succession._refuse_older`), which
copies a list confirms (`compared.confirm`), and what is needed (`plain.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from backup.format.enrolment import HeirMark
from backup.inventory.content.identities import KnownCatalog
from backup.inventory.questions.compared import settled_before
from backup.lineage import Stranger, heirs_by_marks, strangers
from backup.model import InventoryId, JobName
from backup.pruner.listed import unknown_of_lineage
from backup.transfer.succession import Ahead, ShownCatalog, as_new_as_known, newer_than_rebuild
from tests.model.servers.rebuilding import RebuildableVault
from tests.model.servers.vault import IDS, JOB, VOUCHING, Shown, mark_of, pack_id
from tests.model.servers.world import (
    CONDEMNED,
    DELETED,
    LOST,
    NEVER,
    STORED,
    UNCONFIRMED,
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


class Machines:
    """The decisions of a machine before it writes, and of its backups."""

    def __init__(self, cast: Cast, vault: RebuildableVault) -> None:
        self.cast, self.vault = cast, vault
        self._stops: dict[object, bool] = {}
        self._prune_stops: dict[object, bool] = {}
        self._careful: dict[object, bool] = {}

    # Before it writes.

    def stops(self, machine: Machine, shown: Shown) -> bool:
        """Whether a run stops before it writes: what the vault shows is newer, or an heir's."""
        key = (
            *(shown.catalogs, shown.marks, machine.inventory, machine.ancestors, machine.number),
            *(machine.known, machine.passed, machine.began),
        )
        if key not in self._stops:
            self._stops[key] = (
                self.is_older(machine, shown)
                or self.is_overtaken(machine, shown)
                or self.has_heir(machine, shown)
            )
        return self._stops[key]

    def is_older(self, machine: Machine, shown: Shown) -> bool:
        """The vault has catalogs of its inventory that it never wrote, as new as its newest."""
        known = {JOB: KnownCatalog(JobName("job"), machine.number, shown.at)}
        found = as_new_as_known(self._catalogs(shown), IDS[machine.inventory], known)
        return self._has_unknown(found, machine, shown)

    def is_overtaken(self, machine: Machine, shown: Shown) -> bool:
        """An ancestor went on after its rebuild: asked until it has stored something."""
        if machine.began >= 0 or not machine.ancestors:
            return False
        begins = {JOB: machine.number + 1}
        found = newer_than_rebuild(self._catalogs(shown), self.ancestors_of(machine), {}, begins)
        return self._has_unknown(found, machine, shown)

    def ancestors_of(self, machine: Machine) -> list[InventoryId]:
        """The ids of its ancestors, nearest first."""
        return [IDS[ancestor] for ancestor in machine.ancestors]

    def _catalogs(self, shown: Shown) -> list[ShownCatalog]:
        return [self.vault.shown_catalog(number) for number in shown.catalogs]

    def _has_unknown(self, found: Sequence[Ahead], machine: Machine, shown: Shown) -> bool:
        """Whether one is unknown, and bears its signature, or cannot be read at once."""
        signers = {
            catalog.order: catalog.signer for catalog in map(self.vault.catalogs.__getitem__, shown.catalogs)
        }
        orders = {int.from_bytes(ahead.label.pack_id, "big") for ahead in found}
        unknown = orders.difference(machine.known, machine.passed)
        return any(self.cast.lag or signers[order] == machine.signer for order in unknown)

    def has_heir(self, machine: Machine, shown: Shown) -> bool:
        """A mark that a key vouches for."""
        return bool(self._by_marks(machine, shown)[0])

    def _by_marks(self, machine: Machine, shown: Shown) -> tuple[list[HeirMark], list[Stranger]]:
        marks = [mark_of(mark) for mark in shown.marks]
        return heirs_by_marks(marks, IDS[machine.inventory], self.ancestors_of(machine), VOUCHING)

    def prune_stops(self, machine: Machine, shown: Shown) -> bool:
        """Whether a prune stops for what others wrote."""
        key = (
            *(shown.catalogs, shown.marks, machine.inventory, machine.ancestors, machine.known),
            *(machine.passed, machine.answered),
        )
        if key not in self._prune_stops:
            self._prune_stops[key] = (
                self.has_heir(machine, shown)
                or self.has_strangers(machine, shown)
                or self.has_unknown(machine, shown)
            )
        return self._prune_stops[key]

    def has_strangers(self, machine: Machine, shown: Shown) -> bool:
        """Others of its jobs, or unproven marks, that nobody answered to (`succession.look_for_others`)."""
        labels = [
            self.vault.label(self.vault.catalogs[number])
            for number in shown.catalogs
            if self.vault.catalogs[number].order not in machine.passed
        ]
        lineage = {IDS[machine.inventory], *self.ancestors_of(machine)}
        found = [*self._by_marks(machine, shown)[1], *strangers(labels, lineage, {JOB})]
        return any(stranger.inventory_id not in self.answered(machine) for stranger in found)

    def answered(self, machine: Machine) -> set[InventoryId]:
        """The inventories that a person said to ignore."""
        return {IDS[other] for other in machine.answered}

    def has_unknown(self, machine: Machine, shown: Shown) -> bool:
        """Catalogs of its lineage that it does not know."""
        known = {pack_id(order) for order in (*machine.known, *machine.passed)}
        numbers = [
            (catalog.number, dated(catalog.period, catalog.order))
            for catalog in (self.vault.catalogs[number] for number in shown.catalogs)
            if catalog.order in machine.known
        ]
        oldest = {JOB: min(numbers)} if numbers else {}
        ids = IDS[machine.inventory], self.ancestors_of(machine)
        has_clock = self.cast.has_clock
        return bool(unknown_of_lineage(self.vault.rows(shown), *ids, known, oldest, has_clock=has_clock))

    def confirmed(self, machine: Machine, shown: Shown) -> Machine:
        """As `compared.confirm`: what a list shows that was made long enough after it was taken up."""
        if not any(row.state == UNCONFIRMED for row in machine.rows):
            return machine
        there = {pack.order for pack in shown.packs}
        rows = tuple(
            Row(row.pack, STORED)
            if row.state == UNCONFIRMED and row.pack in there and self.is_old_enough(row, shown)
            else row
            for row in machine.rows
        )
        return replace(machine, rows=rows)

    def is_old_enough(self, row: Row, shown: Shown) -> bool:
        """Whether a list is new enough to confirm what was taken up."""
        before = settled_before(shown.at, at_once=not self.cast.lag)
        return row.taken_up < 0 or now(row.taken_up) < before

    def only_shown(self, machine: Machine, shown: Shown) -> Machine:
        """What the list must show and does not is lost, or deleted (`run_setup._build_on_what_is_shown`)."""
        states = dict.fromkeys(self.missing(machine, shown), LOST)
        states |= dict.fromkeys(self.missing_condemned(machine, shown), DELETED)
        rows = tuple(Row(row.pack, states[row.pack]) if row.pack in states else row for row in machine.rows)
        return replace(machine, rows=rows) if states else machine

    def missing(self, machine: Machine, shown: Shown) -> set[int]:
        """What it relies on, and the list must show and does not."""
        return self._absent(machine, shown, {STORED, UNCONFIRMED})

    def is_surely_gone(self, night: Night, shown: Shown) -> bool:
        """Whether the list must show a pack with the chunk of a snapshot, and shows none."""
        chunk = shown.chunks[night.pack]
        is_due = not self.cast.lag or shown.periods[night.pack] < shown.period
        return is_due and all(pack.chunk != chunk for pack in shown.packs)

    def missing_condemned(self, machine: Machine, shown: Shown) -> set[int]:
        """What is condemned, and the list must show and does not."""
        return self._absent(machine, shown, {CONDEMNED})

    def _absent(self, machine: Machine, shown: Shown, states: Collection[str]) -> set[int]:
        there, dates = {pack.order for pack in shown.packs}, shown.periods
        return {
            row.pack
            for row in machine.rows
            if row.state in states
            and row.pack not in there
            and (not self.cast.lag or dates[row.pack] < shown.period)
        }

    def is_careful(self, machine: Machine, shown: Shown) -> bool:
        """Whether it builds only on what is shown: rebuilt a short time ago, or beside strangers."""
        if machine.ancestors and (
            machine.began < 0 or (self.cast.lag and not self._is_settled(machine, shown))
        ):
            return True
        key = (
            *(shown.catalogs, shown.marks, machine.inventory, machine.ancestors),
            *(machine.passed, machine.answered),
        )
        if key not in self._careful:
            self._careful[key] = self.has_strangers(machine, shown)
        return self._careful[key]

    def looks_before_taking_back(self, machine: Machine) -> bool:
        """Whether an undo goes by what the list shows (`run_setup.look_before_taking_back`)."""
        return bool(machine.ancestors)

    def _is_settled(self, machine: Machine, shown: Shown) -> bool:
        return now(machine.began) < settled_before(shown.at, at_once=False)

    def ready(self, machine: Machine, shown: Shown) -> Machine:
        """The machine as a run begins to store with it."""
        careful = self.only_shown(machine, shown) if self.is_careful(machine, shown) else machine
        return self.confirmed(careful, shown)

    # A run that slept.

    def looks_again(self, since: int, period: int) -> bool:
        """Whether the last look at the vault was long ago (`run_setup.require_still_ours`)."""
        return period > since

    def is_late(self, since: int, period: int) -> bool:
        """Whether a prune asks for no more deletions, as it decided them long ago (`pruner.delete`)."""
        return period > since

    def still_goes_on(self, machine: Machine, shown: Shown) -> bool:
        """Whether, by a new look, its catalog may be sent, or said to be true."""
        return not (self.stops(machine, shown) or self.missing(machine, shown))

    # A backup.

    def contents(self, world: World, machine: Machine) -> list[int]:
        """The chunks that a snapshot may have: those that it knows, and the next one."""
        chunks = {pack.order: pack.chunk for pack in world.packs}
        found = {chunks[row.pack] for row in machine.rows}
        fresh = len(set(chunks.values()))
        return sorted(found | ({fresh} if fresh < self.cast.chunks else set()))

    def place_of(self, world: World, machine: Machine, chunk: int) -> int | None:
        """The pack that a chunk is not sent again for; None if it is."""
        chunks = {pack.order: pack.chunk for pack in world.packs}
        states = {row.pack: row.state for row in machine.rows}
        if machine.nights:
            newest = machine.nights[-1].pack
            if chunks[newest] == chunk and states[newest] in {STORED, UNCONFIRMED}:
                return newest
        return next(
            (row.pack for row in machine.rows if self.is_built_upon(row) and chunks[row.pack] == chunk), None
        )

    def is_built_upon(self, row: Row) -> bool:
        """Whether a chunk there is not sent again."""
        return row.state == STORED

    def with_pack(self, world: World, machine: Machine, chunk: int) -> tuple[World, int]:
        """A pack is stored."""
        pack = Pack(machine.inventory, machine.signer, chunk, world.order, world.period, True, False)
        return replace(world, packs=(*world.packs, pack), order=world.order + 1), pack.order

    def committed(self, world: World, machine: Machine, said: Said, order: int) -> Machine:
        """The inventory once a catalog is stored that says this."""
        rows = {row.pack: row for row in machine.rows}
        nights = {night.order: night for night in machine.nights}
        at = world.period + machine.ahead
        if said.night >= 0:
            nights[order] = Night(order, said.night)
            rows.setdefault(said.night, Row(said.night, STORED))
        for pack in said.taken_up:
            rows[pack] = Row(pack, UNCONFIRMED, taken_up=world.period)
        for pack in said.condemned:
            rows[pack] = Row(pack, CONDEMNED, at, world.period)
        for night in said.forgotten:
            nights[night] = replace(nights[night], forgotten=max(at, 0))
        for night in said.back:
            nights[night] = replace(nights[night], forgotten=NEVER)
        for night in said.dropped:
            nights.pop(night, None)
        return replace(
            machine,
            rows=tuple(rows[pack] for pack in sorted(rows)),
            nights=tuple(nights[night] for night in sorted(nights)),
        )


def recorded(model: Machines, machine: Machine) -> Machine:
    """A machine that died after its catalog was stored finds it, and makes it true."""
    asleep = machine.asleep
    if asleep is None:
        return machine
    catalog = next(
        catalog
        for catalog in model.vault.catalogs
        if catalog.order == asleep.sent and catalog.said == asleep.said
    )
    world = World(catalog.period, 0, (), (), (), (), None, None, (), ())
    told = model.committed(world, replace(machine, asleep=None), asleep.said, catalog.order)
    return replace(
        told,
        head=catalog.order,
        number=catalog.number,
        deltas=machine.deltas + 1,
        known=(*machine.known, catalog.order),
    )
