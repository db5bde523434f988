"""The servers that write into a vault, told from its list: inventories that share a job go together. Pure.

A server whose inventory was rebuilt goes on with its jobs under a new inventory id. Everything that the vault
holds of these jobs must be known before anything is deleted (`require_covered`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.model import ArchiveId, Generation, InventoryId, ListedArchive, Listing, PackKind
from backup.pruner.keeper.state import State
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.candidates import candidates_of
from backup.rebuilder.floor import acceptance

_STOPPING = {
    "refused", "other-key", "relabelled", "damaged", "missing", "newer", "newer-format", "out-of-range",
}  # fmt: skip


class Lineage(Struct, frozen=True):
    """A server: its inventories, the newest of them, its catalogs, when each was accepted, the whole list."""

    inventories: frozenset[InventoryId]
    newest: InventoryId
    catalogs: Sequence[ListedArchive]
    accepted: Mapping[ArchiveId, datetime]
    lines: Mapping[ArchiveId, ListedArchive]


def lineages(listing: Listing) -> list[Lineage]:
    """All servers with catalogs in a list, in the order of their newest inventories' ids."""
    catalogs = [one for one in listing.archives if one.label and one.label.kind is PackKind.CATALOG]
    lines = {one.archive_id: one for one in listing.archives}
    accepted = acceptance(candidates_of(listing), listing.as_of)
    found: list[Lineage] = []
    for ids in _joined(catalogs):
        own = [one for one in catalogs if one.label and one.label.inventory_id in ids]
        last = max(own, key=lambda one: (accepted[one.archive_id], one.label.number if one.label else 0))
        newest = last.label.inventory_id if last.label else min(ids)
        found.append(Lineage(frozenset(ids), newest, own, accepted, lines))
    return sorted(found, key=lambda one: one.newest)


def _joined(catalogs: Iterable[ListedArchive]) -> list[set[InventoryId]]:
    """Sets of inventories that share a job."""
    of_job: dict[bytes, set[InventoryId]] = {}
    groups: list[set[InventoryId]] = []
    for one in catalogs:
        if one.label is None:
            continue
        if one.label.job_id is None:
            groups.append({one.label.inventory_id})
        else:
            of_job.setdefault(one.label.job_id, set()).add(one.label.inventory_id)
    joined: list[set[InventoryId]] = []
    for group in (*groups, *of_job.values()):
        touching = [one for one in joined if one & group]
        joined = [one for one in joined if not one & group]
        joined.append(group.union(*touching))
    return joined


def require_covered(lineage: Lineage, newest: State, floor: State) -> None:
    """`PruneStoppedError` unless every catalog of a server is part of a state, or older than where it begins.

    The state of the floor passes over full catalogs that are newer than it: the newest one has these.
    """
    for state in (newest, floor):
        _require_whole(state)
        same = {one.archive_id for one in state.report.suspicions if one.kind == "duplicate"}
        begins = {job: lineage.accepted.get(base) for job, base in state.bases.items()}
        left = [
            one
            for one in lineage.catalogs
            if one.archive_id not in state.applied
            and one.archive_id not in same
            and not (state is floor and one.label and one.label.generation is Generation.FULL)
            and not _is_before(one, lineage, begins)
        ]
        if left:
            last = max(left, key=lambda one: lineage.accepted[one.archive_id])
            number = last.label.number if last.label else 0
            raise PruneStoppedError(
                f"{len(left)} catalogs of this server are not part of the state that could be rebuilt, the "
                f"newest number {number} of {last.created_at:%Y-%m-%d %H:%M} UTC ({last.archive_id[:40]})",
                advice="a copy of the server, or somebody else, may write beside it: see "
                f"`nightvault rebuild --inventory {lineage.newest.hex()}` on a machine that you trust",
            )


def _is_before(one: ListedArchive, lineage: Lineage, begins: Mapping[bytes, datetime | None]) -> bool:
    """Whether a catalog is older than where its job's state begins, which holds what it says."""
    job = one.label.job_id if one.label else None
    known = [begins.get(job)] if job is not None else list(begins.values())
    return bool(known) and all(at is not None and lineage.accepted[one.archive_id] <= at for at in known)


def _require_whole(state: State) -> None:
    """`PruneStoppedError` if a catalog could not be applied, or not all of it."""
    for one in state.report.suspicions:
        if one.kind in _STOPPING:
            raise PruneStoppedError(
                f"a catalog of this server cannot be relied on ({one.kind}): {one.archive_id[:40]}: "
                f"{one.detail}",
                advice=f"`nightvault rebuild --inventory {state.inventory_id.hex()}` on a machine that you "
                "trust tells more; nothing is deleted for this server until it is settled",
            )
    for job in state.report.jobs:
        if job.not_covered:
            numbers = ", ".join(map(str, job.not_covered))
            raise PruneStoppedError(
                f"job {job.name} has newer catalogs that cannot be applied: {numbers}",
                advice="a catalog in between may be missing; nothing is deleted for this server until it is "
                "there",
            )
