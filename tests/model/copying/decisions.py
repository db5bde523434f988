"""Decisions on copies that the program does not make yet; they move to `retention/copies.py` as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from backup.inventory.content.archives import REMAIN, ArchiveState
from backup.retention.copies import (
    ArchiveThere,
    Needs,
    Pack,
    chunks_missing,
    kept_for,
)


def is_copied(needs: Needs, copied: AbstractSet[Pack], *, is_said: bool) -> bool:
    """Whether a snapshot is copied: a catalog there names it, and (by then or since) all that it needs."""
    return is_said and not chunks_missing(needs, copied)


def cannot_be_made(
    needs: Needs, archives: Iterable[ArchiveThere], source: Mapping[Pack, ArchiveState]
) -> bool:
    """Whether a copy cannot be made any more: a chunk that the destination lacks is not at the source."""
    there = {archive.pack for archive in archives if archive.state in REMAIN}
    return any(not kept_for(packs, source) for packs in chunks_missing(needs, there))


def may_change(vault_is_read: Iterable[bool]) -> bool:
    """Whether anything may be condemned, deleted or said in either vault: after a rebuild, not before the
    catalogs of both were read and the destination was listed.
    """
    return all(vault_is_read)
