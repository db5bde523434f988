"""The servers that write into a vault: inventories of which catalogs prove that one followed the other. Pure.

A server whose inventory was rebuilt goes on with its jobs under a new inventory id. Everything that the vault
holds of a lineage must be known before anything is deleted (`require_covered`), and nobody else may have
written of its jobs, unless a person said that it takes no part (`require_its_own`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.format.enrolment import HeirMark
from backup.lineage import NO_JOB, Family, Stranger, is_named, marks_in, require_one, strangers
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    Generation,
    InventoryId,
    ListedArchive,
    Listing,
    PackKind,
)
from backup.pruner.keeper.state import State
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.catalogs.candidates import candidates_of
from backup.rebuilder.floor import acceptance
from backup.transfer.succession import MOST_NAMED, one_each

_STOPPING = {
    "refused", "other-key", "relabelled", "damaged", "missing", "newer", "newer-format", "out-of-range",
    "too-large",
}  # fmt: skip


class Lineage(Struct, frozen=True):
    """A server: its inventories, the newest of them, its catalogs, when each was accepted, the whole list.

    `signers` are those of its inventories, none where no catalog of it can be believed; `replaced`: when the
    first sign of an heir of an inventory came, by the vault's dates; `strangers` (a second heir, too) wrote
    of its jobs, or say that they follow it; `unread` are inventories of the same signer of which no catalog
    can be read; `ancestors` are proven to be before it, also those without a catalog; `named_by` tells of
    every inventory which others have catalogs of it, or claim it.
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
    ancestors: frozenset[InventoryId] = frozenset()
    named_by: Mapping[InventoryId, Collection[InventoryId]] = {}

    @property
    def name(self) -> str:
        """What stays the same of it as long as no other inventory is found to be of it."""
        return min(self.inventories).hex()

    def is_named_by_others(self, inventory_id: InventoryId) -> bool:
        """Whether another server has catalogs of an inventory, or says that it follows it."""
        return not self.inventories >= set(self.named_by.get(inventory_id, ()))


def pair_of(stranger: Stranger) -> str:
    """The name of a pair of inventory and job, under which a person's answer to it is kept."""
    return f"{stranger.inventory_id.hex()} {stranger.job_id.hex()}"


def _pair(catalog: ListedArchive) -> str:
    return _pair_of_label(catalog.label) if catalog.label else ""


def _pair_of_label(label: ArchiveLabel) -> str:
    return f"{label.inventory_id.hex()} {(label.job_id or NO_JOB).hex()}"


def lineages(
    listing: Listing,
    family: Family,
    answered: Collection[tuple[str, str]] = (),
    *,
    has_clock: bool = True,
) -> list[Lineage]:
    """All servers with catalogs in a list, in the order of their newest inventories' ids.

    `answered` are who asked (`Lineage.name`, empty for all) and a pair (`pair_of`) that takes no part in it,
    by a person's word; `has_clock`: the list's dates are
    the vault's own.
    """
    shown = _IndexedList(listing, family, has_clock=has_clock)
    found = [shown.lineage(ids, answered) for ids in _joined(shown.of_inventory, family)]
    return sorted(found, key=lambda one: one.newest)


def _joined(every: Collection[InventoryId], family: Family) -> list[set[InventoryId]]:
    """Sets of inventories of which each was rebuilt from another, as far as that is proven."""
    group_of: dict[InventoryId, set[InventoryId]] = {}
    for inventory_id in sorted(every):
        joined = {inventory_id} | group_of.get(inventory_id, set())
        for one in family.ancestors(inventory_id):
            if one in every:
                joined |= group_of.get(one, {one})
        group_of |= dict.fromkeys(joined, joined)
    return list({id(group): group for group in group_of.values()}.values())


class _IndexedList:
    """A list, by inventory and by job: there may be thousands of servers in it."""

    def __init__(self, listing: Listing, family: Family, *, has_clock: bool) -> None:
        self._family = family
        self._lines = {one.archive_id: one for one in listing.archives}
        self._accepted = acceptance(candidates_of(listing), listing.as_of, has_clock=has_clock)
        self.of_inventory: dict[InventoryId, list[ListedArchive]] = defaultdict(list)
        self._writers: dict[bytes, set[InventoryId]] = defaultdict(set)  # of a job
        self._marks: list[tuple[HeirMark, datetime]] = []
        for line in listing.archives:
            label = line.label
            if label is None:
                self._marks += [(mark, line.created_at) for mark in marks_in([line.description])]
            elif label.kind is PackKind.CATALOG:
                self.of_inventory[label.inventory_id].append(line)
                self._writers[label.job_id or NO_JOB].add(label.inventory_id)
        self._named_by: dict[InventoryId, set[InventoryId]] = defaultdict(set)
        self._signed_by: dict[bytes, set[InventoryId]] = defaultdict(set)
        for one in self.of_inventory:
            for other in (one, *family.claimed(one)):
                self._named_by[other].add(one)
            for signer in family.signers(one):
                self._signed_by[signer].add(one)

    def lineage(self, ids: Collection[InventoryId], answers: Collection[tuple[str, str]]) -> Lineage:
        """The server of these inventories."""
        answered = {pair for asker, pair in answers if asker in {"", min(ids).hex()}}
        every = [line for one in sorted(ids) for line in self.of_inventory[one]]
        own = [line for line in every if _pair(line) not in answered] or every
        newest = self._newest(own)
        line = set(self._family.lineage(newest)) & set(ids) | {newest}  # without a second heir beside it
        signers = frozenset(signer for one in ids for signer in self._family.signers(one))
        beside = {one for signer in signers for one in self._signed_by[signer]} - set(ids)
        return Lineage(
            frozenset(ids),
            newest,
            own,
            self._accepted,
            self._lines,
            signers=signers,
            replaced=self._replaced(ids),
            strangers=[one for one in self._strangers(line, own) if pair_of(one) not in answered]
            if signers
            else [],
            unread=sorted(one for one in beside if not self._family.is_read(one)),
            ancestors=frozenset[InventoryId]().union(*map(self._family.ancestors, ids)),
            named_by=self._named_by,
        )

    def _newest(self, own: Sequence[ListedArchive]) -> InventoryId:
        """The inventory that was rebuilt last; of several, the one that stored last: the others stop it.

        Not one that takes no part by a person's word.
        """
        stored: dict[InventoryId, tuple[datetime, int]] = {}
        for line in own:
            if line.label is not None:
                at = self._accepted[line.archive_id], line.label.number
                stored[line.label.inventory_id] = max(at, stored.get(line.label.inventory_id, at))
        return max(self._family.last(sorted(stored)), key=lambda one: stored[one])

    def _replaced(self, ids: Collection[InventoryId]) -> dict[InventoryId, datetime]:
        """When the first sign of an heir of each came: a mark, or a catalog by one that followed."""
        found: dict[InventoryId, datetime] = {}

        def note(inventory_id: InventoryId, at: datetime) -> None:
            found[inventory_id] = min(at, found.get(inventory_id, at))

        for heir in ids:
            first = min(line.created_at for line in self.of_inventory[heir])
            for one in self._family.ancestors(heir):
                note(one, first)
        for mark, at in self._marks:  # anybody can leave one: it counts for what catalogs prove
            if mark.heir in ids and mark.predecessor in self._family.ancestors(mark.heir):
                note(mark.predecessor, at)
        return found

    def _strangers(self, ids: Collection[InventoryId], own: Sequence[ListedArchive]) -> list[Stranger]:
        """Others that wrote of its jobs, or say without a proof that they follow it, or it them."""
        jobs = {line.label.job_id for line in own if line.label and line.label.job_id}
        writers = {one for job in jobs for one in self._writers[job]} - set(ids)
        labels = [line.label for one in writers for line in self.of_inventory[one] if line.label]
        found = strangers(labels, ids, jobs)
        saying = {one for inventory_id in ids for one in self._named_by[inventory_id]}
        saying |= {other for one in ids for other in self._family.unproven(one) if other in self.of_inventory}
        for other in sorted(saying - writers - set(ids)):
            newest = max((line.label for line in self.of_inventory[other] if line.label), key=_number)
            found.append(Stranger(other, NO_JOB, newest.pack_id, newest.number))
        return found


def _number(label: ArchiveLabel) -> int:
    return label.number


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
        for one in lineage.strangers[:MOST_NAMED]
    )
    options = " ".join(f"--accept {one.pack_id.hex()}" for one in one_each(lineage.strangers)[:MOST_NAMED])
    raise PruneStoppedError(
        "not-its-own: others have stored catalogs of this server's jobs, and nothing proves that they are "
        f"this server: {told}",
        advice="if this server was rebuilt, enrol it again (`nightvault key request` there, `nightvault key "
        "enroll --heir-of`, `nightvault key accept`). If not, another server that may store in this vault "
        "wrote it, or a second machine that was rebuilt from the same state: look at it; with "
        f"`nightvault prune --delete-only --key FILE {options}` it takes no part, and deleting goes on",
    )


def meant_by(known: Sequence[Lineage], listing: Listing, word: str) -> list[tuple[str, Stranger]]:
    """The pairs that a person's word answers: who asks, and each stranger of that inventory. `UsageError`.

    Any catalog of an inventory and job stands for the pair: since it was named a newer one may have come.
    """
    every = [(lineage.name, stranger) for lineage in known for stranger in lineage.strangers]
    asked = {stranger.inventory_id for _, stranger in every}
    shown = [(label.inventory_id, label.job_id, label.pack_id) for label in _catalogs(listing)]
    shown += [(stranger.inventory_id, stranger.job_id, stranger.pack_id) for _, stranger in every]
    named = [each for each in shown if each[0] in asked and is_named(each[0], each[2], word)]
    require_one([(inventory, pack) for inventory, _, pack in named], word)
    pairs = {(inventory, job) for inventory, job, _ in named}
    inventories = {inventory for inventory, _ in pairs}
    asks = {
        name
        for name, stranger in every
        if (stranger.inventory_id, stranger.job_id) in pairs
        or (stranger.is_mark and stranger.inventory_id in inventories)
    }
    return [
        (name, stranger) for name, stranger in every if name in asks and stranger.inventory_id in inventories
    ]


def was_answered(answers: Collection[tuple[str, str]], listing: Listing, word: str) -> bool:
    """Whether a person's word means what was answered to before: a step that waited is repeated."""
    pairs = {pair for _, pair in answers}
    named = [one for one in _catalogs(listing) if is_named(one.inventory_id, one.pack_id, word)]
    return any(_pair_of_label(one) in pairs for one in named)


def _catalogs(listing: Listing) -> list[ArchiveLabel]:
    labels = [line.label for line in listing.archives if line.label is not None]
    return [label for label in labels if label.kind is PackKind.CATALOG]


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
