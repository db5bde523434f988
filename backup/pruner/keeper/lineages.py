"""The servers that write into a vault: inventories of which catalogs prove that one followed the other. Pure.

A server whose inventory was rebuilt goes on with its jobs under a new inventory id. Everything that the vault
holds of a lineage must be known before anything is deleted (`require_covered`), and nobody else may have
written of its jobs, unless a person said that it takes no part (`require_its_own`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.lineage import NO_JOB, Family, Stranger, marks_in, strangers
from backup.model import ArchiveId, Generation, InventoryId, ListedArchive, Listing, PackId, PackKind
from backup.pruner.keeper.state import State
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.candidates import candidates_of
from backup.rebuilder.floor import acceptance

_STOPPING = {
    "refused", "other-key", "relabelled", "damaged", "missing", "newer", "newer-format", "out-of-range",
}  # fmt: skip


class Lineage(Struct, frozen=True):
    """A server: its inventories, the newest of them, its catalogs, when each was accepted, the whole list.

    `signers` are those of its inventories; `replaced`: when the first sign of an heir of an inventory came,
    by the vault's dates; `strangers` (a second heir, too) wrote of its jobs, or say that they follow it;
    `unread` are inventories of the same signer of which no catalog can be read; `foreign` are those that
    others have catalogs of, or claim.
    """

    inventories: frozenset[InventoryId]
    newest: InventoryId
    catalogs: Sequence[ListedArchive]
    accepted: Mapping[ArchiveId, datetime]
    lines: Mapping[ArchiveId, ListedArchive]
    signers: frozenset[bytes] = frozenset()
    replaced: Mapping[InventoryId, datetime] = {}
    strangers: Sequence[Stranger] = ()
    unread: Sequence[InventoryId] = ()
    foreign: frozenset[InventoryId] = frozenset()


def pair_of(stranger: Stranger) -> str:
    """The name of a pair of inventory and job, under which a person's answer to it is kept."""
    return f"{stranger.inventory_id.hex()} {stranger.job_id.hex()}"


def _pair(catalog: ListedArchive) -> str:
    label = catalog.label
    return f"{label.inventory_id.hex()} {(label.job_id or NO_JOB).hex()}" if label else ""


def lineages(listing: Listing, family: Family, answered: Collection[str] = ()) -> list[Lineage]:
    """All servers with catalogs in a list, in the order of their newest inventories' ids.

    `answered` are pairs (`pair_of`) that take no part, by a person's word.
    """
    catalogs = [one for one in listing.archives if one.label and one.label.kind is PackKind.CATALOG]
    lines = {one.archive_id: one for one in listing.archives}
    accepted = acceptance(candidates_of(listing), listing.as_of)
    every = {one.label.inventory_id for one in catalogs if one.label}
    found: list[Lineage] = []
    for ids in _joined(every, family):
        own = [one for one in catalogs if one.label and one.label.inventory_id in ids]
        own = [one for one in own if _pair(one) not in answered] or own
        newest = _newest(ids, own, accepted, family)
        line = set(family.lineage(newest)) & ids | {newest}  # without a second heir beside it
        others = [one for one in _strangers(line, own, catalogs, family) if pair_of(one) not in answered]
        signers = frozenset(signer for one in ids for signer in family.signers(one))
        found.append(
            Lineage(
                frozenset(ids),
                newest,
                own,
                accepted,
                lines,
                signers=signers,
                replaced=_replaced(ids, listing, family),
                strangers=others,
                unread=[one for one in sorted(every - ids) if family.is_unread(one, signers)],
                foreign=frozenset(every - ids).union(*map(family.claimed, every - ids)),
            )
        )
    return sorted(found, key=lambda one: one.newest)


def _joined(every: Collection[InventoryId], family: Family) -> list[set[InventoryId]]:
    """Sets of inventories of which each was rebuilt from another, as far as that is proven."""
    joined: list[set[InventoryId]] = []
    for inventory_id in sorted(every):
        group = set(family.lineage(inventory_id)) & set(every) | {inventory_id}
        touching = [one for one in joined if one & group]
        joined = [one for one in joined if not one & group]
        joined.append(group.union(*touching))
    return joined


def _newest(
    ids: Collection[InventoryId],
    own: Sequence[ListedArchive],
    accepted: Mapping[ArchiveId, datetime],
    family: Family,
) -> InventoryId:
    """The inventory that was rebuilt last; of several, the one that stored last: the others stop it.

    Not one that takes no part by a person's word.
    """
    wrote = {one.label.inventory_id for one in own if one.label}
    last = family.last(sorted(wrote))
    stored = [one for one in own if one.label and one.label.inventory_id in last]
    newest = max(stored, key=lambda one: (accepted[one.archive_id], one.label.number if one.label else 0))
    return newest.label.inventory_id if newest.label else min(ids)


def _replaced(ids: Collection[InventoryId], listing: Listing, family: Family) -> dict[InventoryId, datetime]:
    """When the first sign of an heir of each inventory came: a mark, or a catalog by one that followed."""
    found: dict[InventoryId, datetime] = {}
    for line in listing.archives:
        followed: Iterable[InventoryId] = ()
        if line.label is not None and line.label.inventory_id in ids:
            followed = family.ancestors(line.label.inventory_id)
        elif line.label is None:
            followed = [mark.predecessor for mark in marks_in([line.description]) if mark.heir in ids]
        for one in followed:
            found[one] = min(line.created_at, found.get(one, line.created_at))
    return found


def _strangers(
    ids: Collection[InventoryId],
    own: Sequence[ListedArchive],
    catalogs: Sequence[ListedArchive],
    family: Family,
) -> list[Stranger]:
    """Others that wrote of its jobs, and others that say without a proof that they follow it, or it them."""
    jobs = {one.label.job_id for one in own if one.label and one.label.job_id}
    labels = [one.label for one in catalogs if one.label]
    found = strangers(labels, ids, jobs)
    newest = {label.inventory_id: label for label in sorted(labels, key=lambda one: one.number)}
    named = {one.inventory_id for one in found}
    for other, label in sorted(newest.items()):
        says = set(family.claimed(other)) & set(ids) or any(other in family.unproven(one) for one in ids)
        if other not in ids and other not in named and says:
            found.append(Stranger(other, NO_JOB, PackId(label.pack_id), label.number))
    return found


def require_its_own(lineage: Lineage) -> None:
    """`PruneStoppedError` if others wrote of its jobs, and nobody answered to that."""
    if lineage.unread:
        ids = ", ".join(one.hex() for one in lineage.unread)
        raise PruneStoppedError(
            f"not one catalog of inventory {ids}, which this server's own key signed, can be read",
            advice="give the recovery keys that they were sealed for, too; nothing is deleted for this "
            "server until one of them is read",
        )
    if not lineage.strangers:
        return
    told = "; ".join(
        f"catalog {one.number} (pack {one.pack_id.hex()}) by inventory {one.inventory_id.hex()}"
        for one in lineage.strangers
    )
    options = " ".join(f"--accept {one.pack_id.hex()}" for one in lineage.strangers)
    raise PruneStoppedError(
        f"not-its-own: nothing proves that this server wrote what is stored of its jobs: {told}",
        advice="if this server was rebuilt, enrol it again (`nightvault key request` there, `nightvault key "
        "enroll --heir-of`, `nightvault key accept`). If not, another server that may store in this vault "
        "wrote it, or a second machine that was rebuilt from the same state: look at it; with "
        f"`nightvault prune --delete-only {options}` it takes no part, and deleting goes on",
    )


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
    """Whether a catalog is older than where its job's state begins, which holds what it says.

    Not one that an inventory wrote when an heir of it was at work already.
    """
    label = one.label
    replaced = lineage.replaced.get(label.inventory_id) if label else None
    if replaced is not None and one.created_at > replaced:
        return False
    job = label.job_id if label else None
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
