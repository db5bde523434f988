"""What a rebuild makes of the vault, by the program's chains; the fold of catalogs is stated again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backup.errors import NightvaultError
from backup.format import records
from backup.inventory.store.times import micros
from backup.model import ArchiveId
from backup.rebuilder.catalogs.candidates import candidates_of
from backup.rebuilder.floor import Floor, acceptance
from backup.rebuilder.members import Chain, Member
from tests.model.servers.vault import IDS, INVENTORIES, JOB, ListedVault, Shown, archive_id
from tests.model.servers.world import (
    CONDEMNED,
    FULL,
    PERIOD,
    START,
    UNCONFIRMED,
    Cast,
    Catalog,
    Folded,
    Night,
    Row,
    now,
)


class Rebuilt(Struct, frozen=True):
    """A state: its catalogs by order, what it holds, and what a report would say of it."""

    owner: int
    members: tuple[int, ...]
    base: int
    tip: int
    number: int
    folded: Folded
    not_covered: tuple[int, ...] = ()
    suspicions: tuple[tuple[str, int], ...] = ()
    forging: frozenset[int] = frozenset()
    """Packs of which a catalog of a hostile signer gives the header."""


class Stopped(Struct, frozen=True):
    """Why there is no state, or why nothing is done."""

    why: str


class RebuildableVault(ListedVault):
    """The vault with what a rebuild gives of it."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast)
        self._rebuilt: dict[tuple[object, ...], Rebuilt | Stopped] = {}

    def passed(self, shown: Shown, state: Rebuilt) -> tuple[int, ...]:
        """The catalogs that a rebuilt inventory knows: its own, and those before them by number and date."""
        every = [self.catalogs[number] for number in shown.catalogs]
        base = next(catalog for catalog in every if catalog.order == state.base)
        line = {state.owner, *self.ancestors(shown.catalogs, state.owner)}
        return tuple(
            catalog.order
            for catalog in every
            if catalog.order in state.members
            or (
                catalog.label in line
                and catalog.number < base.number
                and (catalog.order <= base.order or catalog.label == base.writer)
            )
        )

    # A rebuild.

    def rebuild(self, shown: Shown, inventory: int, floor: Floor | None = None) -> Rebuilt | Stopped:
        """The newest state of the job of an inventory, or the one that holds what was there at the floor."""
        key = shown.catalogs, inventory, floor and floor.at, floor and shown.at
        if key not in self._rebuilt:
            self._rebuilt[key] = self._rebuild(shown, inventory, floor)
        return self._rebuilt[key]

    def _rebuild(self, shown: Shown, inventory: int, floor: Floor | None) -> Rebuilt | Stopped:
        listing = self.listing(Shown(shown.period, shown.at, shown.catalogs, (), ()))
        candidates = candidates_of(listing)
        accepted = acceptance(candidates, shown.at, has_clock=True)
        hidden = floor.hidden(candidates, accepted) if floor else set()
        catalogs = tuple(
            number for number in shown.catalogs if archive_id(self.catalogs[number].order) not in hidden
        )
        trusted, odd = self.trusted(catalogs)
        line = (IDS[inventory], *trusted.family.ancestors(IDS[inventory]))
        owner = next((member for member in line if JOB in trusted.jobs(member)), None)
        if owner is None:
            return Stopped("nothing to rebuild")
        try:
            chain = trusted.chain(JOB, owner)
            if chain is None or chain.gap is not None:
                chain = trusted.chain(JOB, owner, only_whole=True)
        except NightvaultError as error:
            return Stopped(type(error).__name__)
        if chain is None or chain.base is None:
            return Stopped("nothing to rebuild")
        claimed = {INVENTORIES[other] for other in trusted.family.claimed(IDS[inventory])} | {inventory}
        beyond = trusted.beyond(chain, JOB, owner)
        by_order = {self.catalogs[number].order: number for number in catalogs}
        members = [self.catalogs[by_order[_order(member)]] for member in chain.members]
        suspicions = [(kind, label) for kind, label in odd if label in claimed]
        suspicions += [("newer", 0)] * len(self._came_after(catalogs, chain, claimed))
        hostile = {
            row.pack for member in members if member.forges and member.state for row in member.state.rows
        }
        return Rebuilt(
            INVENTORIES[owner],
            tuple(member.order for member in members),
            members[0].order,
            members[-1].order if members[-1].shape != FULL else members[-1].parent,
            chain.number,
            fold(members, floor, accepted),
            tuple(member.catalog.number for member in beyond),
            tuple(suspicions),
            frozenset(hostile),
        )

    def _came_after(self, catalogs: tuple[int, ...], chain: Chain, claimed: set[int]) -> list[int]:
        """Catalogs older by number than where a state begins that are not known to be (`_note_passed`)."""
        base = chain.base
        assert base is not None
        start = next(number for number in catalogs if self.catalogs[number].order == _order(base))
        begins = self.catalogs[start]
        older = [
            self.catalogs[number]
            for number in catalogs
            if self.catalogs[number].label in claimed and self.catalogs[number].number < begins.number
        ]
        places = [(catalog.label, catalog.number) for catalog in older if catalog.shape != FULL]
        return [
            catalog.order
            for catalog in older
            if (catalog.shape != FULL and places.count((catalog.label, catalog.number)) > 1)
            or not (catalog.order <= begins.order or catalog.label == begins.writer)
        ]


def _order(member: Member) -> int:
    return int.from_bytes(member.header.fields.pack_id, "big")


def fold(members: Sequence[Catalog], floor: Floor | None, accepted: dict[ArchiveId, datetime]) -> Folded:
    """What a full catalog and the deltas after it hold, record by record as a floor lets them pass."""
    base = members[0]
    assert base.state is not None
    at = accepted.get(archive_id(base.order))
    rows = {row.pack: _rebuilt_row(row, floor, at) for row in base.state.rows}
    nights = {night.order: night for night in base.state.nights}
    for member in members[1:]:
        apply(member, nights, rows, floor, accepted.get(archive_id(member.order)))
    return Folded(
        tuple(nights[order] for order in sorted(nights)), tuple(rows[pack] for pack in sorted(rows))
    )


def _rebuilt_row(row: Row, floor: Floor | None, at: datetime | None) -> Row:
    if row.state != CONDEMNED:
        return Row(row.pack, UNCONFIRMED, taken_up=row.taken_up)
    record = records.CondemnedRecord([], micros(now(row.said)))
    passes = record if floor is None else floor.amended(record, at)
    if passes is None:
        return Row(row.pack, UNCONFIRMED)
    return Row(row.pack, CONDEMNED, _period(passes.at), row.told)  # type: ignore[union-attr]


def _period(at: int) -> int:
    return (at - micros(START)) // round(PERIOD.total_seconds() * 1_000_000)


def apply(
    catalog: Catalog,
    nights: dict[int, Night],
    rows: dict[int, Row],
    floor: Floor | None,
    at: datetime | None,
) -> None:
    """Apply what a delta says."""
    said = catalog.said
    when = micros(now(catalog.at))

    def passes(record: records.Record) -> records.Record | None:
        return record if floor is None else floor.amended(record, at)

    if said.night >= 0:
        nights[catalog.order] = Night(catalog.order, said.night)
        rows.setdefault(said.night, Row(said.night, UNCONFIRMED))
    for pack in said.taken_up:
        rows[pack] = Row(pack, UNCONFIRMED, taken_up=catalog.period)
    condemned = passes(records.CondemnedRecord([], when)) if said.condemned else None
    if isinstance(condemned, records.CondemnedRecord):
        for pack in said.condemned:
            rows[pack] = Row(pack, CONDEMNED, _period(condemned.at), catalog.period)
    forgotten = passes(records.ForgottenRecord([], when)) if said.forgotten else None
    if isinstance(forgotten, records.ForgottenRecord):
        for order in said.forgotten:
            if order in nights:
                nights[order] = Night(order, nights[order].pack, _period(forgotten.at))
    for order in said.back:
        if order in nights:
            nights[order] = Night(order, nights[order].pack)
    if said.dropped and passes(records.DroppedRecord([])) is not None:
        for order in said.dropped:
            nights.pop(order, None)
