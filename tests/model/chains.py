"""A job's catalogs as a model: nights, full catalogs that fail, prunes of older ones, one loss, a rebuild.

What a rebuild would give is asked of `TrustedCatalogs.chain` itself, with real headers; what a prune does is
decided by `plan_prune`, what is due by the rules of `full_due`, stated here a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from msgspec import Struct
from msgspec.structs import replace

from backup.format.header import (
    NO_FEATURE,
    NO_HASH,
    CatalogFeature,
    CatalogFields,
    Header,
    HeaderFields,
    parse_header,
    seal_header,
)
from backup.model import ArchiveId, Generation, InventoryId, PackId, PackKind
from backup.rebuilder.catalogs.chain import TrustedCatalogs
from backup.rebuilder.members import Trust
from backup.retention.prune import DEFAULT_GRACE, PrunedArchive, PruneRules, plan_prune
from tests.model.plain import CatalogRow, needed_catalogs
from tests.model.search import Step
from tests.model.world import CONDEMNED, DELETED, LOST, NEVER, STORED, at, put
from tests.support.packs import KEY, SIGNER

_JOB, _INVENTORY = b"j" * 16, InventoryId(b"i" * 16)
_DELTAS_A_FULL = 2


class Link(Struct, frozen=True, array_like=True):
    """A catalog: its place in the list is its number; `follows`: the number of the delta whose state it has.

    A delta follows the delta before it; a job's first catalog is full, and a delta, too.
    """

    is_full: bool
    follows: int
    state: str
    there: bool
    told: int = NEVER


class Links(Struct, frozen=True, array_like=True):
    """All catalogs of a job; `lost` is the number of the one that the vault lost."""

    now: int
    links: tuple[Link, ...]
    lost: int = NEVER
    was_seen: bool = False
    fails: int = 0


class Chains:
    """The model; `catalogs` is how many there are at most, `periods` how long it takes."""

    def __init__(self, catalogs: int, periods: int, fails: int = 1) -> None:
        self._catalogs, self._periods, self._fails = catalogs, periods, fails

    @property
    def initial(self) -> Links:
        """A vault without catalogs."""
        return Links(0, ())

    def broken(self, world: Links) -> str:
        """A rebuild gives the newest state, where one loss cannot have taken it away."""
        tip = _tip(world)
        if tip < 0 or self._is_excused(world):
            return ""
        links = world.links
        found = _rebuilt(
            tuple(
                (number, _path(links, number), link.is_full)
                for number, link in enumerate(links)
                if link.there
            )
        )
        return "" if found == tip else f"a rebuild gives state {found}, and the newest is {tip}"

    def _is_excused(self, world: Links) -> bool:
        """Whether the one loss may hide the newest state, until a full catalog follows, which is due.

        A full catalog that is lost hides nothing, but for the first of all.
        """
        lost = world.lost
        if lost < 0 or any(link.is_full and link.there and link.follows >= lost for link in world.links):
            return False
        if world.links[lost].is_full and lost:
            return False
        return not world.was_seen or self.due(world) == "broken"

    def steps(self, world: Links) -> Iterator[Step[Links]]:
        """All that may happen next."""
        if len(world.links) + 2 <= self._catalogs:
            yield from self._stored("a night", world)
            yield from self._pruned(world)
        if world.now < self._periods:
            yield Step("a period passes", replace(world, now=world.now + 1))
        if world.lost < 0:
            for number, link in enumerate(world.links):
                if link.there and link.state == STORED:
                    links = put(world.links, number, replace(link, there=False))
                    yield Step(f"the vault loses catalog {number}", replace(world, links=links, lost=number))
        elif not world.was_seen:
            link = world.links[world.lost]
            state = LOST if link.state == STORED else DELETED
            links = put(world.links, world.lost, replace(link, state=state))
            yield Step("a check sees the loss", replace(world, links=links, was_seen=True))

    def _stored(self, story: str, world: Links) -> Iterator[Step[Links]]:
        """A delta is stored; then a full one, if it is due, or not."""
        tip = _tip(world)
        number = len(world.links)
        is_first = tip < 0
        delta = Link(is_first, tip, STORED, there=True)
        after = replace(world, links=(*world.links, delta))
        due = "" if is_first else self.due(after)
        if not due:
            yield Step(f"{story}: delta {number}", after)
            return
        full = replace(after, links=(*after.links, Link(True, number, STORED, there=True)))
        yield Step(f"{story}: delta {number}, and full {number + 1}", full)
        if world.fails < self._fails:
            left = replace(after, fails=world.fails + 1)
            yield Step(f"{story}: delta {number}; the full one that is due does not come", left)

    def due(self, world: Links) -> str:
        """Whether a full catalog is due, as `full_due` says: what a rebuild needs is lost, or many deltas."""
        fulls = [number for number, link in enumerate(world.links) if link.is_full and link.state == STORED]
        if not fulls:
            return "broken"
        since = [link for link in world.links[fulls[-1] + 1 :] if not link.is_full]
        if any(link.state == LOST for link in world.links[fulls[-1] + 1 :]):
            return "broken"
        return "long" if len(since) >= _DELTAS_A_FULL else ""

    def needed(self, world: Links) -> set[int]:
        """The catalogs that stay."""
        return needed_catalogs(
            [
                CatalogRow(number, 1, number, link.is_full, link.state)
                for number, link in enumerate(world.links)
            ]
        )

    def _pruned(self, world: Links) -> Iterator[Step[Links]]:
        """A prune deletes what is due, then a delta says what is condemned."""
        now = at(world.now)
        pruned = [
            PrunedArchive(
                number,
                bytes([number]),
                1,
                now,
                now,
                is_condemned=link.state == CONDEMNED,
                condemned_at=None if link.told < 0 else at(link.told),
                told_at=None if link.told < 0 else at(link.told),
                kind=PackKind.CATALOG,
            )
            for number, link in enumerate(world.links)
            if link.state in {STORED, CONDEMNED}
        ]
        plan = plan_prune(
            pruned, self.needed(world), PruneRules(DEFAULT_GRACE, now), now=now, fee=lambda *_: None
        )
        links = list(world.links)
        for archive in plan.delete:
            links[archive.number] = replace(links[archive.number], state=DELETED, there=False)
        for archive in plan.condemn:
            links[archive.number] = replace(links[archive.number], state=CONDEMNED, told=world.now)
        for archive in plan.take_up:
            links[archive.number] = replace(links[archive.number], state=STORED, told=NEVER)
        after = replace(world, links=tuple(links))
        deleted = tuple(archive.number for archive in plan.delete)
        said = tuple(archive.number for archive in (*plan.condemn, *plan.take_up))
        story = f"a prune deletes {deleted or 'nothing'}, says {said or 'nothing'}"
        if said:
            yield from self._stored(story, after)
        elif deleted:
            yield Step(story, after)


def _tip(world: Links) -> int:
    """The number of the newest delta."""
    return max(
        (number for number, link in enumerate(world.links) if not link.is_full or not number), default=NEVER
    )


@cache
def _header(number: int, path: tuple[int, ...], *, is_full: bool) -> Header:
    """A catalog's header; `path` are the numbers of the deltas before it, the nearest last."""
    parent = _header(path[-1], path[:-1], is_full=not path[:-1]).hash if path else NO_HASH
    tag = KEY.enrolment_tag(_INVENTORY, SIGNER.public)
    place = CatalogFields(
        _JOB,
        number + 1,
        Generation.FULL if is_full else Generation.DELTA,
        bytes(16),
        parent,
        ((KEY.recipient.id, tag),),
        NO_FEATURE if path else CatalogFeature.FIRST_DELTA,
    )
    pack = PackId(number.to_bytes(16, "big"))
    fields = HeaderFields(PackKind.CATALOG, pack, _INVENTORY, SIGNER.public, place)
    return parse_header(seal_header(fields, pack_key=b"k" * 32, recipients=[KEY.recipient], signer=SIGNER))


def _path(links: tuple[Link, ...], number: int) -> tuple[int, ...]:
    """The numbers of the deltas before a catalog."""
    found: list[int] = []
    at_delta = links[number].follows
    while at_delta >= 0:
        found.append(at_delta)
        at_delta = links[at_delta].follows
    return tuple(reversed(found))


@cache
def _rebuilt(there: tuple[tuple[int, tuple[int, ...], bool], ...]) -> int:
    """The number of the delta whose state a rebuild gives; -1 if none."""
    trusted = TrustedCatalogs([KEY], Trust())
    numbers: dict[bytes, int] = {}
    for number, path, is_full in there:
        header = _header(number, path, is_full=is_full)
        trusted.add(ArchiveId(str(number)), header)
        if is_full and path:
            numbers[_header(path[-1], path[:-1], is_full=not path[:-1]).hash] = path[-1]
        else:
            numbers[header.hash] = number
    chain = trusted.chain(_JOB, _INVENTORY, only_whole=True)
    return NEVER if chain is None else numbers[chain.tip]
