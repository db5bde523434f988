"""Decisions on copies that the program does not make yet; they move to `retention/copies.py` as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from backup.inventory.content.archives import ArchiveState
from backup.retention.copies import (
    REMAIN,
    REQUESTS_END,
    ArchiveThere,
    Needs,
    Pack,
    chunks_missing,
    kept_for,
    may_be_deleted,
    packs_stored,
)


def packs_copied(archives: Iterable[ArchiveThere]) -> set[Pack]:
    """The packs that are copied: stored there, and named by a catalog there, so that a rebuild finds them."""
    return packs_stored(archive for archive in archives if archive.is_said)


def is_copied(needs: Needs, copied: AbstractSet[Pack], *, is_said: bool) -> bool:
    """Whether a snapshot is copied: a catalog there names it, and (by then or since) all that it needs."""
    return is_said and not chunks_missing(needs, copied)


def cannot_be_made(
    needs: Needs, archives: Iterable[ArchiveThere], source: Mapping[Pack, ArchiveState]
) -> bool:
    """Whether a copy cannot be made any more: a chunk that the destination lacks is not at the source."""
    there = {archive.pack for archive in archives if archive.state in REMAIN}
    return any(not kept_for(packs, source) for packs in chunks_missing(needs, there))


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
    needed: set[int] = set()
    for needs in wanted:
        for packs in needs:
            holding = [archive for archive in archives if archive.pack in packs]
            stored = [archive.number for archive in holding if archive.state is ArchiveState.STORED]
            if stored:
                needed.add(stored[0])
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


def may_change(vault_is_read: Iterable[bool]) -> bool:
    """Whether anything may be condemned, deleted or said in either vault: after a rebuild, not before the
    catalogs of both were read and the destination was listed.
    """
    return all(vault_is_read)
