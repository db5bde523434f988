"""What the search says of copies where a guard is missing, and of designs that are simpler than ours.

.venv/bin/python -m tests.model.copying.mutants        # each with its shortest story
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from backup.inventory.content.archives import ArchiveState
from backup.retention import copies as decisions
from backup.retention.copies import ArchiveThere, Needs
from tests.model.copying.copies import Copies
from tests.model.copying.two_vaults import FORGOTTEN, KEPT, NOW, CopyCast, CopyRules, Saved, TwoVaults
from tests.model.search import Found, search


class CopyMutant(NamedTuple):
    """A guard taken out, or a simpler design; the law that breaks, as its words begin or end."""

    name: str
    law: str
    rules: CopyRules
    cast: CopyCast
    model: type[Copies] = Copies
    is_design: bool = False

    def found(self) -> Found:
        """What the search finds."""
        return search(self.model(self.cast, self.rules))


def _in_states(*states: ArchiveState) -> Callable[[Iterable[ArchiveThere]], set[int]]:
    def packs(archives: Iterable[ArchiveThere]) -> set[int]:
        return {archive.pack for archive in archives if archive.state in states}

    return packs


def _whatever_is_said(needs: Needs, copied: AbstractSet[int], *, is_said: bool) -> bool:
    return decisions.is_whole(needs, copied)


def _held_until_arrived(
    wanted: Iterable[tuple[Needs, bool]], copied: AbstractSet[int], source: Mapping[int, ArchiveState]
) -> set[int]:
    return decisions.held_for_copies([(needs, True) for needs, _ in wanted], copied, source)


def _held_until_copied_once(
    wanted: Iterable[tuple[Needs, bool]], copied: AbstractSet[int], source: Mapping[int, ArchiveState]
) -> set[int]:
    return decisions.held_for_copies([some for some in wanted if not some[1]], copied, source)


def _sent_again_at_once(
    wanted: Iterable[Needs],
    archives: Sequence[ArchiveThere],
    source: Mapping[int, ArchiveState],
    now: datetime,
) -> set[int]:
    left = [row for row in archives if row.state is not ArchiveState.DELETED]
    return decisions.packs_to_send(wanted, left, source, now)


def _sent_where_condemned(
    wanted: Iterable[Needs],
    archives: Sequence[ArchiveThere],
    source: Mapping[int, ArchiveState],
    now: datetime,
) -> set[int]:
    left = [row for row in archives if row.state is not ArchiveState.CONDEMNED]
    return decisions.packs_to_send(wanted, left, source, now)


def _confirmed_beside_deletions(
    archive: ArchiveThere, archives: Iterable[ArchiveThere], listed_at: datetime
) -> bool:
    return decisions.may_be_confirmed(archive, (), listed_at)


def _all_stored_needed(wanted: Iterable[Needs], archives: Sequence[ArchiveThere]) -> set[int]:
    return {row.number for needs in wanted for packs in needs for row in archives if row.pack in packs}


class _NeedsWhatIsSaid(Copies):
    """At the destination only what its catalogs name is needed there."""

    def wanted(self, world: TwoVaults) -> list[Needs]:
        return [
            self.needs(world, night)
            for night in self.known(world)
            if self.rules.wants(night) and night.there == KEPT
        ]

    def to_send(self, world: TwoVaults) -> set[int]:
        wanted = [needs for needs, _ in self.wanted_and_said(world)]
        found = self.rules.packs_to_send(wanted, self.archives(world), self.source(world), NOW)
        return {pack for pack in found if (pack, True) not in world.flights}


def _kept_at_both(night: Saved) -> bool:
    return CopyRules().wants(night) and night.here != FORGOTTEN


_NONE = CopyCast(forgets=0, forgets_there=0, faults=0, crashes=0, rebuilds=0)
_ALONE = ((0,), (1,))


def _cast(**more: object) -> CopyCast:
    return replace(_NONE, **more)


MUTANTS = (
    CopyMutant(
        "a copy counts on what no list has shown",
        "the destination alone does not give it back",
        CopyRules(
            stored=_in_states(ArchiveState.STORED, ArchiveState.UNCONFIRMED),
            copied=_in_states(ArchiveState.STORED, ArchiveState.UNCONFIRMED),
        ),
        _cast(faults=1),
    ),
    CopyMutant(
        "a copy counts on what is condemned there",
        "the destination alone does not give it back",
        CopyRules(
            stored=_in_states(ArchiveState.STORED, ArchiveState.CONDEMNED),
            copied=_in_states(ArchiveState.STORED, ArchiveState.CONDEMNED),
        ),
        _cast(nights=((0,), (0,)), forgets_there=1, faults=1, rebuilds=1),
    ),
    CopyMutant(
        "a copy counts on what is being deleted there",
        "the destination alone does not give it back",
        CopyRules(
            stored=_in_states(ArchiveState.STORED, ArchiveState.DELETING),
            copied=_in_states(ArchiveState.STORED, ArchiveState.DELETING),
        ),
        _cast(nights=((0,), (0, 1)), forgets_there=1),
    ),
    CopyMutant(
        "a pack that was sent again counts before a catalog names its new place",
        "the destination alone does not give it back",
        CopyRules(copied=decisions.packs_stored),
        _cast(nights=_ALONE, faults=1),
    ),
    CopyMutant(
        "a source holds nothing for copies",
        "lacks",
        CopyRules(held=lambda *_: set()),
        _cast(nights=_ALONE, forgets=1),
    ),
    CopyMutant(
        "what was deleted is sent again and counts at once, though an older request may still come",
        "the destination alone does not give it back",
        CopyRules(packs_to_send=_sent_again_at_once, may_be_confirmed=_confirmed_beside_deletions),
        _cast(nights=((0,), (0,)), forgets_there=1, faults=1),
    ),
    CopyMutant(
        "what was taken up again is confirmed by any list",
        "the destination alone does not give it back",
        CopyRules(may_be_confirmed=lambda *_: True),
        _cast(nights=((0,), (0,)), forgets_there=1, faults=1, rebuilds=1),
    ),
    CopyMutant(
        "what an old order brought is confirmed beside a deletion that is not over",
        "the destination alone does not give it back",
        CopyRules(may_be_confirmed=_confirmed_beside_deletions),
        _cast(nights=((0,), (0,)), forgets_there=1, faults=1, again=1),
    ),
    CopyMutant(
        "after a rebuild changes are made before both vaults were read",
        "the catalogs of the destination lose",
        CopyRules(may_change=lambda _: True),
        _cast(nights=_ALONE, forgets=1, forgets_there=1, rebuilds=1),
    ),
    CopyMutant(
        "what a copy wants is not needed there before a catalog says so",
        "it never comes to an end",
        CopyRules(),
        _cast(),
        _NeedsWhatIsSaid,
    ),
    CopyMutant(
        "what a list shows and nobody knows is left alone",
        "which nothing needs, stays at the destination",
        CopyRules(adopts=False),
        _cast(nights=_ALONE, is_named=False, faults=1),
    ),
    CopyMutant(
        "of two archives of one pack both are kept",
        "which nothing needs, stays at the destination",
        CopyRules(needed_there=_all_stored_needed),
        _cast(nights=_ALONE, is_named=False, again=1),
    ),
    CopyMutant(
        "a copy counts as soon as its packs have arrived",
        "no catalog of the destination has it",
        CopyRules(is_copied=_whatever_is_said),
        _cast(),
        is_design=True,
    ),
    CopyMutant(
        "the copier's word is enough",
        "the destination alone does not give it back",
        CopyRules(trusts_copier=True),
        _cast(faults=1),
        is_design=True,
    ),
    CopyMutant(
        "the source may condemn a pack as soon as it has arrived",
        "is never made",
        CopyRules(held=_held_until_arrived),
        _cast(forgets=1),
        is_design=True,
    ),
    CopyMutant(
        "the source may condemn a pack once it was copied",
        "lacks",
        CopyRules(held=_held_until_copied_once),
        _cast(nights=_ALONE, forgets=1, faults=1),
        is_design=True,
    ),
    CopyMutant(
        "what is forgotten at the source is forgotten at the destination",
        "is never made",
        CopyRules(wants=_kept_at_both),
        _cast(nights=_ALONE, forgets=1),
        is_design=True,
    ),
    CopyMutant(
        "what is condemned there is sent again, and not taken up",
        "it never comes to an end",
        CopyRules(packs_to_send=_sent_where_condemned),
        _cast(nights=((0,), (0, 1)), forgets_there=1),
        is_design=True,
    ),
)


def main() -> None:
    """Print each mutant with its shortest story."""
    for mutant in MUTANTS:
        found = mutant.found()
        print(f"\n{mutant.name}\n{found.text() if found.broken else found}")


if __name__ == "__main__":
    main()
