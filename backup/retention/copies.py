"""Decisions on copies of snapshots in a second vault: states and sets in, sets out; pure.

    packs = packs_to_send(wanted, archives, source, now)

A job's vault is the *source*, the vault with the copies is the *destination*. What a snapshot needs is, for
each of its chunks, the packs in which the chunk lies: any of them will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.content.archives import REMAIN, ArchiveState
from backup.inventory.content.copied import REQUESTS_END, CopiedArchive
from backup.inventory.content.snapshots import Snapshot
from backup.retention.forget import plan_forget
from backup.retention.history import Candidate
from backup.retention.policy import Policy, decide

Pack = int
"""A pack, by a number that it has in both vaults (the program's: its pack id)."""
Needs = Sequence[Collection[Pack]]
"""For each chunk of a snapshot the packs in which it lies."""

_MAY_COUNT_AGAIN = frozenset({ArchiveState.SUBMITTED, ArchiveState.UNCONFIRMED, ArchiveState.CONDEMNED})


class ArchiveThere(Struct, frozen=True):
    """An archive at the destination, as the inventory has it; two may hold one pack.

    `since`: when it came into its state. `is_said`: a catalog at the destination names it.
    """

    number: int
    pack: Pack
    state: ArchiveState
    since: datetime
    is_said: bool


class CopyRule(Struct, frozen=True):
    """The snapshots of a job that another vault keeps: by a policy (None: all), in the job's time zone.

    Those younger than `delay` are not copied yet, so that a bad night can be forgotten first.
    """

    policy: Policy | None
    zone: ZoneInfo
    delay: timedelta = timedelta()
    may_shrink: bool = False  # nobody is asked of a source that loses nearly everything

    def due(self, source: Iterable[Snapshot], there: Iterable[Snapshot], now: datetime) -> set[int]:
        """The numbers of those at the source that are to be copied now; `there` has what is kept there."""
        old = {snapshot.number: snapshot for snapshot in source if snapshot.started_at <= now - self.delay}
        held = {snapshot.number: snapshot for snapshot in there}
        candidates = [Candidate.of_snapshot(snapshot, now) for snapshot in (old | held).values()]
        decided = decide(self.policy, candidates, now=now, zone=self.zone)
        kept = {decision.number for decision in decided if decision.is_kept}
        return (kept & old.keys()) - held.keys()

    def goes(
        self, there: Iterable[Snapshot], read_by_restores: Collection[int], now: datetime, *, waits: bool
    ) -> list[int]:
        """The numbers of those there that the policy does not keep; `waits`: a person has to answer first."""
        candidates = [Candidate.of_snapshot(snapshot, now) for snapshot in there]
        decided = decide(self.policy, candidates, now=now, zone=self.zone)
        plan = plan_forget(candidates, decided, read_by_restores=read_by_restores, waits=waits)
        return plan.numbers

    def wanted(self, source: Iterable[Snapshot], there: Iterable[Snapshot], now: datetime) -> set[int]:
        """The numbers of those at the source that are to be copied now or later, as far as is known now."""
        return replace(self, delay=timedelta()).due(source, there, now)


def packs_stored(archives: Iterable[ArchiveThere]) -> set[Pack]:
    """The packs on which a copy may be built: stored there, and seen by a list; nothing else will do."""
    return {archive.pack for archive in archives if archive.state is ArchiveState.STORED}


def is_whole(needs: Needs, stored: AbstractSet[Pack]) -> bool:
    """Whether all that a snapshot needs is there, so that a catalog there may say that it is copied."""
    return not chunks_missing(needs, stored)


def chunks_missing(needs: Needs, there: AbstractSet[Pack]) -> list[Collection[Pack]]:
    """Of the chunks that a snapshot needs those that the destination lacks."""
    return [packs for packs in needs if there.isdisjoint(packs)]


def packs_to_send(
    wanted: Iterable[Needs],
    archives: Sequence[ArchiveThere],
    source: Mapping[Pack, ArchiveState],
    now: datetime,
) -> set[Pack]:
    """The packs that a copier is ordered to send now.

    A chunk waits while a pack with it is on its way, or may be taken up again: the next prune there does so.
    """
    stored = packs_stored(archives)
    coming = {archive.pack for archive in archives if archive.state in _MAY_COUNT_AGAIN}
    by_pack = _by_pack(archives)
    ordered: set[Pack] = set()
    for packs in _all_missing(wanted, stored | coming):
        kept = kept_for(packs, source)
        sendable = [pack for pack in kept if may_be_sent(by_pack.get(pack, ()), now)]
        if sendable and ordered.isdisjoint(packs):
            ordered.add(sendable[0])
    return ordered


def may_be_sent(archives: Collection[ArchiveThere], now: datetime) -> bool:
    """Whether a pack of which these are all archives there may be sent (again): none of them is there, and no
    deletion of one can still come.

    Where an object's name is its pack's, a deletion that comes late deletes what was sent after it.
    """
    gone = {ArchiveState.LOST, ArchiveState.DELETED}
    return all(archive.state in gone for archive in archives) and not may_be_deleted(archives, now)


def may_be_deleted(archives: Iterable[ArchiveThere], at: datetime) -> bool:
    """Whether a deletion that was asked for may be carried out after that time."""
    return any(
        archive.state is ArchiveState.DELETING
        or (archive.state is ArchiveState.DELETED and archive.since + REQUESTS_END > at)
        for archive in archives
    )


def _all_missing(wanted: Iterable[Needs], there: AbstractSet[Pack]) -> Iterator[Collection[Pack]]:
    for needs in wanted:
        yield from chunks_missing(needs, there)


def kept_for(packs: Collection[Pack], source: Mapping[Pack, ArchiveState]) -> list[Pack]:
    """The packs at the source from which a chunk is taken: the first that is stored, else all that remain."""
    stored = [pack for pack in sorted(packs) if source.get(pack) is ArchiveState.STORED]
    return stored[:1] or [pack for pack in sorted(packs) if source.get(pack) in REMAIN]


def packs_copied(archives: Iterable[ArchiveThere]) -> set[Pack]:
    """The packs that are copied: stored there, and named by a catalog there, so that a rebuild finds them."""
    return packs_stored(archive for archive in archives if archive.is_said)


def held_for_copies(
    wanted: Iterable[tuple[Needs, bool]], copied: AbstractSet[Pack], source: Mapping[Pack, ArchiveState]
) -> set[Pack]:
    """The packs that the source may not condemn, of the snapshots that are wanted, and whether a catalog of
    the destination names them.

    Of one that is named what the destination lacks, of one that is not yet all: where the source deletes a
    pack of a forgotten snapshot it gives up what it knows of it, and nobody could say what was copied.
    """
    held: set[Pack] = set()
    for needs, is_said in wanted:
        for packs in chunks_missing(needs, copied) if is_said else needs:
            held.update(kept_for(packs, source))
    return held


def needed_there(wanted: Iterable[Needs], archives: Sequence[ArchiveThere]) -> set[int]:
    """The numbers of the archives at the destination that its snapshots need, those on their way included.

    Of two stored archives with one chunk the first keeps it; where none is stored, all that remain do.
    """
    by_pack = _by_pack(archives)
    needed: set[int] = set()
    for needs in wanted:
        for packs in needs:
            holding = [archive for pack in packs for archive in by_pack.get(pack, ())]
            stored = [archive.number for archive in holding if archive.state is ArchiveState.STORED]
            if stored:
                needed.add(min(stored))
            else:
                needed.update(archive.number for archive in holding if archive.state in REMAIN)
    return needed


def may_be_confirmed(archive: ArchiveThere, archives: Iterable[ArchiveThere], listed_at: datetime) -> bool:
    """Whether a list of that time that shows an archive proves that it stays.

    One that was taken up again may yet go by a deletion that was asked for before; one that an old order
    brought, by a deletion of its pack that is not over.
    """
    if may_be_deleted((other for other in archives if other.pack == archive.pack), listed_at):
        return False
    return not archive.is_said or archive.since + REQUESTS_END <= listed_at


def archives_there(copies: Iterable[CopiedArchive]) -> list[ArchiveThere]:
    """The copies in a vault as decisions take them."""
    return [ArchiveThere(copy.archive, copy.archive, copy.state, copy.since, copy.is_said) for copy in copies]


def _by_pack(archives: Iterable[ArchiveThere]) -> dict[Pack, list[ArchiveThere]]:
    found: dict[Pack, list[ArchiveThere]] = {}
    for archive in archives:
        found.setdefault(archive.pack, []).append(archive)
    return found
