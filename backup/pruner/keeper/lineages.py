"""The servers that write into a vault: inventories whose catalogs prove that one followed the other. Pure.

A server whose inventory was rebuilt goes on with its jobs under a new inventory id. Everything that the vault
holds of a lineage must be known before anything is deleted (`require_covered`), and no stranger may have
written of its jobs, unless a person said to ignore it (`require_its_own`).
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
    """A server: its inventories, its catalogs with their dates of acceptance, and the whole list.

    `newest` is the newest of its inventories; `signers` are those of its inventories, none if no catalog of
    it can be believed; `replaced`: when the first sign of an heir of an inventory came, by the vault's dates;
    `strangers` (a second heir, too) wrote of its jobs, or say that they follow it; `unread` are inventories
    of the same signer of which no catalog can be read; `ancestors` are its proven ancestors, also those
    without a catalog; `named_by` has, for each inventory, which others have catalogs of it or claim it.
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
        """The name, which is the same until another inventory is found to belong to the server."""
        return min(self.inventories).hex()

    def is_named_by_others(self, inventory_id: InventoryId) -> bool:
        """Whether another server has catalogs of an inventory, or says that it follows it."""
        return not self.inventories >= set(self.named_by.get(inventory_id, ()))


def pair_of(stranger: Stranger) -> str:
    """Return the key under which a person's answer about an inventory and job is saved."""
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
    """Return all servers with catalogs in a list, sorted by the ids of their newest inventories.

    `answered` are askers (`Lineage.name`, empty for all), each with a pair (`pair_of`) that a person said to
    ignore for it; `has_clock`: the list's dates are the vault's own.
    """
    shown = _IndexedList(listing, family, has_clock=has_clock)
    found = [shown.lineage(ids, answered) for ids in _joined(shown.of_inventory, family)]
    return sorted(found, key=lambda lineage: lineage.newest)


def _joined(every: Collection[InventoryId], family: Family) -> list[set[InventoryId]]:
    """Sets of inventories of which each was rebuilt from another, as far as that is proven."""
    group_of: dict[InventoryId, set[InventoryId]] = {}
    for inventory_id in sorted(every):
        joined = {inventory_id} | group_of.get(inventory_id, set())
        for ancestor in family.ancestors(inventory_id):
            if ancestor in every:
                joined |= group_of.get(ancestor, {ancestor})
        group_of |= dict.fromkeys(joined, joined)
    return list({id(group): group for group in group_of.values()}.values())


class _IndexedList:
    """A list, by inventory and by job: there may be thousands of servers in it."""

    def __init__(self, listing: Listing, family: Family, *, has_clock: bool) -> None:
        self._family = family
        self._lines = {archive.archive_id: archive for archive in listing.archives}
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
        for inventory_id in self.of_inventory:
            for other in (inventory_id, *family.claimed(inventory_id)):
                self._named_by[other].add(inventory_id)
            for signer in family.signers(inventory_id):
                self._signed_by[signer].add(inventory_id)

    def lineage(self, ids: Collection[InventoryId], answers: Collection[tuple[str, str]]) -> Lineage:
        """Return the server of these inventories."""
        answered = {pair for asker, pair in answers if asker in {"", min(ids).hex()}}
        every = [line for inventory_id in sorted(ids) for line in self.of_inventory[inventory_id]]
        own = [line for line in every if _pair(line) not in answered] or every
        newest = self._newest(own)
        line = set(self._family.lineage(newest)) & set(ids) | {newest}  # without a second heir beside it
        signers = frozenset(signer for inventory_id in ids for signer in self._family.signers(inventory_id))
        beside = {inventory_id for signer in signers for inventory_id in self._signed_by[signer]} - set(ids)
        return Lineage(
            frozenset(ids),
            newest,
            own,
            self._accepted,
            self._lines,
            signers=signers,
            replaced=self._replaced(ids),
            strangers=[
                stranger for stranger in self._strangers(line, own) if pair_of(stranger) not in answered
            ]
            if signers
            else [],
            unread=sorted(inventory_id for inventory_id in beside if not self._family.is_read(inventory_id)),
            ancestors=frozenset[InventoryId]().union(*map(self._family.ancestors, ids)),
            named_by=self._named_by,
        )

    def _newest(self, own: Sequence[ListedArchive]) -> InventoryId:
        """The inventory that was rebuilt last; of several, the one that stored last: the others stop it.

        Not one that a person said to ignore.
        """
        stored: dict[InventoryId, tuple[datetime, int]] = {}
        for line in own:
            if line.label is not None:
                at = self._accepted[line.archive_id], line.label.number
                stored[line.label.inventory_id] = max(at, stored.get(line.label.inventory_id, at))
        return max(self._family.last(sorted(stored)), key=lambda inventory_id: stored[inventory_id])

    def _replaced(self, ids: Collection[InventoryId]) -> dict[InventoryId, datetime]:
        """When the first sign of an heir of each came: a mark, or a catalog by one that followed."""
        found: dict[InventoryId, datetime] = {}

        def note(inventory_id: InventoryId, at: datetime) -> None:
            found[inventory_id] = min(at, found.get(inventory_id, at))

        for heir in ids:
            first = min(line.created_at for line in self.of_inventory[heir])
            for inventory_id in self._family.ancestors(heir):
                note(inventory_id, first)
        for mark, at in self._marks:  # anybody can leave one: it counts for what catalogs prove
            if mark.heir in ids and mark.predecessor in self._family.ancestors(mark.heir):
                note(mark.predecessor, at)
        return found

    def _strangers(self, ids: Collection[InventoryId], own: Sequence[ListedArchive]) -> list[Stranger]:
        """Others that wrote of its jobs, or say without a proof that they follow it, or it them."""
        jobs = {line.label.job_id for line in own if line.label and line.label.job_id}
        writers = {inventory_id for job in jobs for inventory_id in self._writers[job]} - set(ids)
        labels = [
            line.label for inventory_id in writers for line in self.of_inventory[inventory_id] if line.label
        ]
        found = strangers(labels, ids, jobs)
        saying = {stranger for inventory_id in ids for stranger in self._named_by[inventory_id]}
        saying |= {
            other
            for inventory_id in ids
            for other in self._family.unproven(inventory_id)
            if other in self.of_inventory
        }
        for other in sorted(saying - writers - set(ids)):
            newest = max((line.label for line in self.of_inventory[other] if line.label), key=_number)
            found.append(Stranger(other, NO_JOB, newest.pack_id, newest.number))
        return found


def _number(label: ArchiveLabel) -> int:
    return label.number


def require_its_own(lineage: Lineage) -> None:
    """`PruneStoppedError` if strangers wrote of its jobs, and no person has answered."""
    if lineage.unread:
        ids = ", ".join(inventory_id.hex() for inventory_id in lineage.unread)
        raise PruneStoppedError(
            f"not one catalog of inventory {ids}, which this server's own key signed, can be read",
            advice="give the recovery keys that they were sealed for, too; nothing is deleted for this "
            "server until one of them is read",
        )
    if not lineage.strangers:
        return
    told = "; ".join(
        f"catalog {stranger.number} (pack {stranger.pack_id.hex()}) by inventory "
        f"{stranger.inventory_id.hex()}"
        for stranger in lineage.strangers[:MOST_NAMED]
    )
    options = " ".join(
        f"--accept {stranger.pack_id.hex()}" for stranger in one_each(lineage.strangers)[:MOST_NAMED]
    )
    raise PruneStoppedError(
        "not-its-own: others have stored catalogs of this server's jobs, and nothing proves that they are "
        f"this server: {told}",
        advice="if this server was rebuilt, enrol it again (`nightvault key request` there, `nightvault key "
        "enroll --heir-of`, `nightvault key accept`). If not, another server that may store in this vault "
        "wrote it, or a second machine that was rebuilt from the same state: look at it; with "
        f"`nightvault prune --delete-only --key FILE {options}` it takes no part, and deleting goes on",
    )


def answered_pairs(known: Sequence[Lineage], listing: Listing, word: str) -> list[tuple[str, Stranger]]:
    """Return the pairs that a person's answer concerns: asker, and each stranger of that inventory.

    `UsageError`. Any catalog of an inventory and job names the pair, as a newer one may have come since.
    """
    every = [(lineage.name, stranger) for lineage in known for stranger in lineage.strangers]
    asked = {stranger.inventory_id for _, stranger in every}
    shown = [(label.inventory_id, label.job_id, label.pack_id) for label in _catalogs(listing)]
    shown += [(stranger.inventory_id, stranger.job_id, stranger.pack_id) for _, stranger in every]
    named = [label for label in shown if label[0] in asked and is_named(label[0], label[2], word)]
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
    """Whether this answer was given before, as when a waiting step is repeated."""
    pairs = {pair for _, pair in answers}
    named = [label for label in _catalogs(listing) if is_named(label.inventory_id, label.pack_id, word)]
    return any(_pair_of_label(label) in pairs for label in named)


def _catalogs(listing: Listing) -> list[ArchiveLabel]:
    labels = [line.label for line in listing.archives if line.label is not None]
    return [label for label in labels if label.kind is PackKind.CATALOG]


def require_covered(lineage: Lineage, newest: State, floor: State) -> None:
    """`PruneStoppedError` unless both states include each catalog of a server, or begin after it.

    The state of the floor leaves out full catalogs that are newer than the floor: the newest state has these.
    """
    for state in (newest, floor):
        _require_whole(state)
        same = {
            suspicion.archive_id for suspicion in state.report.suspicions if suspicion.kind == "duplicate"
        }
        begins = {job: lineage.accepted.get(base) for job, base in state.bases.items()}
        left = [
            archive
            for archive in lineage.catalogs
            if archive.archive_id not in state.applied
            and archive.archive_id not in same
            and not (state is floor and archive.label and archive.label.generation is Generation.FULL)
            and not _is_before(archive, lineage, begins)
        ]
        if left:
            last = max(left, key=lambda archive: lineage.accepted[archive.archive_id])
            number = last.label.number if last.label else 0
            raise PruneStoppedError(
                f"{len(left)} catalogs of this server are not part of the state that could be rebuilt, the "
                f"newest number {number} of {last.created_at:%Y-%m-%d %H:%M} UTC ({last.archive_id[:40]})",
                advice="a copy of the server, or somebody else, may write beside it: see "
                f"`nightvault rebuild --inventory {lineage.newest.hex()}` on a machine that you trust",
            )


def _is_before(archive: ListedArchive, lineage: Lineage, begins: Mapping[bytes, datetime | None]) -> bool:
    """Whether a catalog is older than where its job's state begins, which holds what it says.

    Not a catalog that an inventory wrote after an heir of it began.
    """
    label = archive.label
    replaced = lineage.replaced.get(label.inventory_id) if label else None
    if replaced is not None and archive.created_at > replaced:
        return False
    job = label.job_id if label else None
    known = [begins.get(job)] if job is not None else list(begins.values())
    return bool(known) and all(at is not None and lineage.accepted[archive.archive_id] <= at for at in known)


def _require_whole(state: State) -> None:
    """`PruneStoppedError` if a catalog could not be applied, or not all of it."""
    for suspicion in state.report.suspicions:
        if suspicion.kind in _STOPPING:
            raise PruneStoppedError(
                f"a catalog of this server cannot be relied on ({suspicion.kind}): "
                f"{suspicion.archive_id[:40]}: {suspicion.detail}",
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
