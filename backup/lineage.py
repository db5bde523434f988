"""Who follows whom: the inventories of one server, as far as keys prove it. Pure.

A rebuilt inventory has an id of its own, and its catalogs name its ancestors, nearest first. They are
believed if a recovery key signed them (an enrolment of version 2), or if the very signer of that inventory
also signed what the ancestor stored: a rebuild brings the signing key back, and no other server has it.
Labels, ids of jobs, dates and missing parents prove nothing.

    family = Family(keys); family.note(header, start, rank) ...
    family.lineage(inventory_id)        # it and its proven ancestors
    strangers(labels, lineage, jobs)    # catalogs of its jobs by anybody else
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from backup.errors import UsageError
from backup.format.enrolment import EnrolmentKey, HeirMark, enrolment_key, signature_in
from backup.format.header import Header
from backup.format.keys import RecoveryKey
from backup.format.records import Start
from backup.model import ArchiveLabel, InventoryId, PackId, PackKind

NO_JOB = bytes(16)
"""Stands for the job of a mark, which names none."""

_UNKNOWN_RANK = 2**31
_SHORTEST = 8  # digits of a pack id that are enough to name it


class Voucher(Struct, frozen=True):
    """A recovery key's public halves: the id of its recipient, and what verifies its signatures."""

    recipient: bytes
    key: EnrolmentKey

    @classmethod
    def of(cls, key: RecoveryKey) -> Voucher:
        """The public halves of a recovery key."""
        return cls(key.recipient.id, enrolment_key(key))


class Family:
    """The inventories that wrote into a vault, and which follows which; from catalogs of vouched signers."""

    def __init__(self, vouchers: Sequence[Voucher]) -> None:
        """`vouchers`: the first key takes precedence (docs/format.md, 1.6)."""
        self._vouchers = vouchers
        self._signers: dict[InventoryId, set[bytes]] = {}
        self._ranks: dict[InventoryId, int] = {}
        self._claims: dict[InventoryId, dict[tuple[InventoryId, ...], int | None]] = {}
        self._read: set[InventoryId] = set()
        self._unread: set[InventoryId] = set()
        self._accepted: dict[InventoryId, set[InventoryId]] = {}

    @property
    def keys(self) -> list[EnrolmentKey]:
        """The keys that verify enrolments."""
        return [voucher.key for voucher in self._vouchers]

    def note(self, header: Header, start: Start, rank: int = 0) -> None:
        """Take note of a catalog: `rank` is the index of the key that vouches for its signer."""
        fields = header.fields
        self._read.add(fields.inventory_id)
        self.note_signer(fields.inventory_id, fields.signer_public, rank)
        claim = tuple(map(InventoryId, start.ancestors or ([start.predecessor] if start.predecessor else [])))
        if claim:
            known = self._claims.setdefault(fields.inventory_id, {})
            if known.get(claim) is None:
                known[claim] = self._rank_of_signature(header, claim)

    def note_signer(self, inventory_id: InventoryId, signer_public: bytes, rank: int = _UNKNOWN_RANK) -> None:
        """Take note of who signs in an inventory, by a header whose signature was verified."""
        self._signers.setdefault(inventory_id, set()).add(signer_public)
        self._ranks[inventory_id] = min(rank, self._ranks.get(inventory_id, rank))

    def note_unread(self, inventories: Iterable[InventoryId]) -> None:
        """Take note of inventories that a vault shows, but none of whose catalogs could be verified."""
        self._unread.update(inventories)

    def accept(self, inventory_id: InventoryId, other: InventoryId) -> None:
        """Take the other inventory as an ancestor because a person said so."""
        self._accepted.setdefault(inventory_id, set()).add(other)

    def signers(self, inventory_id: InventoryId) -> frozenset[bytes]:
        """The public keys of those that sign in an inventory, and are vouched for."""
        return frozenset(self._signers.get(inventory_id, ()))

    def is_read(self, inventory_id: InventoryId) -> bool:
        """Whether a catalog of that inventory was read."""
        return inventory_id in self._read

    def knows(self, inventory_id: InventoryId) -> bool:
        """Whether a catalog of that inventory was seen."""
        return inventory_id in self._signers

    def claimed(self, inventory_id: InventoryId) -> tuple[InventoryId, ...]:
        """All ancestors that its catalogs name, and those that theirs name, proven or not; nearest first."""
        found = {inventory_id: None}
        open_ones = deque([inventory_id])
        while open_ones:  # anybody may claim a million of them
            claims = self._claims.get(open_ones.popleft(), {})
            said = (ancestor for claim in sorted(claims, key=len, reverse=True) for ancestor in claim)
            new = dict.fromkeys(ancestor for ancestor in said if ancestor not in found)
            open_ones += new
            found |= new
        return tuple(found)[1:]

    def ancestors(self, inventory_id: InventoryId) -> tuple[InventoryId, ...]:
        """The inventory's proven ancestors, nearest first."""
        signed: set[InventoryId] = set()
        for claim, rank in self._claims.get(inventory_id, {}).items():
            if rank is not None and self._may_vouch(rank, claim):
                signed.update(claim)
        found = [
            ancestor
            for ancestor in self.claimed(inventory_id)
            if ancestor in signed or self._shares_signer(inventory_id, ancestor)
        ]
        proven = dict.fromkeys(found)
        for ancestor in found:
            proven |= dict.fromkeys(
                claimed for claimed in self._signed_claims(ancestor) if claimed != inventory_id
            )
        return (*proven, *sorted(self._accepted.get(inventory_id, set()) - proven.keys()))

    def _signed_claims(self, inventory_id: InventoryId) -> list[InventoryId]:
        """Ancestors that a recovery key signed for one that is an ancestor itself."""
        claims = self._claims.get(inventory_id, {}).items()
        signed = [(claim, rank) for claim, rank in claims if rank is not None]
        return [ancestor for claim, rank in signed if self._may_vouch(rank, claim) for ancestor in claim]

    def _may_vouch(self, rank: int, claim: Sequence[InventoryId]) -> bool:
        """Whether the key of that rank may vouch for these: no key before it does, or might, unread."""
        hides = rank > 0 and not self._unread.isdisjoint(claim)
        return not hides and all(self._ranks.get(inventory_id, rank) >= rank for inventory_id in claim)

    def lineage(self, inventory_id: InventoryId) -> frozenset[InventoryId]:
        """The inventory and its proven ancestors."""
        return frozenset((inventory_id, *self.ancestors(inventory_id)))

    def unproven(self, inventory_id: InventoryId) -> tuple[InventoryId, ...]:
        """Claimed ancestors without a proof of which a catalog was seen."""
        proven = self.lineage(inventory_id)
        return tuple(
            ancestor
            for ancestor in self.claimed(inventory_id)
            if ancestor not in proven and self.knows(ancestor)
        )

    def heirs(self, inventory_id: InventoryId) -> frozenset[InventoryId]:
        """The inventories that were rebuilt from this one, directly or through others."""
        return frozenset(heir for heir in self._signers if inventory_id in self.ancestors(heir))

    def claiming(self, inventory_id: InventoryId) -> frozenset[InventoryId]:
        """The inventories that claim to be its heirs, proven or not."""
        return frozenset(heir for heir in self._signers if inventory_id in self.claimed(heir))

    def last(self, some: Collection[InventoryId]) -> list[InventoryId]:
        """Those among `some` from which no other of them was rebuilt."""
        passed = {ancestor for inventory_id in some for ancestor in self.ancestors(inventory_id)}
        return [inventory_id for inventory_id in some if inventory_id not in passed]

    def _shares_signer(self, inventory_id: InventoryId, other: InventoryId) -> bool:
        return bool(self._signers.get(inventory_id, set()) & self._signers.get(other, set()))

    def _rank_of_signature(self, header: Header, claim: tuple[InventoryId, ...]) -> int | None:
        """The place of the first key that signed the claim; None if none did."""
        fields, place = header.fields, header.fields.catalog
        for rank, voucher in enumerate(self._vouchers):
            signature = signature_in(place.enrolments, voucher.recipient) if place else None
            if signature and voucher.key.vouches(fields.inventory_id, fields.signer_public, claim, signature):
                return rank
        return None


def marks_in(descriptions: Iterable[str]) -> list[HeirMark]:
    """The marks of heirs among the descriptions of a list."""
    return [mark for text in descriptions if (mark := HeirMark.from_text(text)) is not None]


class Stranger(Struct, frozen=True):
    """An inventory outside a lineage that wrote catalogs of one of its jobs, by labels: the newest of them.

    For a mark without catalogs `job_id` is `NO_JOB`, and `pack_id` the id of the heir.
    """

    inventory_id: InventoryId
    job_id: bytes
    pack_id: PackId
    number: int = 0

    @property
    def is_mark(self) -> bool:
        """Whether only a mark shows it, without a catalog."""
        return self.job_id == NO_JOB


def strangers(
    labels: Iterable[ArchiveLabel], lineage: Collection[InventoryId], jobs: Collection[bytes]
) -> list[Stranger]:
    """One for each pair of inventory and job: others that have catalogs of these jobs, in order."""
    found: dict[tuple[InventoryId, bytes], Stranger] = {}
    for label in labels:
        job_id = label.job_id
        if label.kind is not PackKind.CATALOG or job_id not in jobs or label.inventory_id in lineage:
            continue
        pair = label.inventory_id, job_id or NO_JOB
        if pair not in found or found[pair].number < label.number:
            found[pair] = Stranger(*pair, label.pack_id, label.number)
    return [found[pair] for pair in sorted(found)]


def is_named(inventory_id: InventoryId, pack_id: bytes, word: str) -> bool:
    """Whether the text of an answer means this catalog: its pack id, or its first 8 digits or more.

    Who writes a catalog chooses that id. So the id of its inventory, and a colon, may stand before it.
    """
    inventory, _, pack = word.lower().rpartition(":")
    is_meant = len(pack) >= _SHORTEST and pack_id.hex().startswith(pack)
    return is_meant and inventory_id.hex().startswith(inventory)


def require_one(found: Iterable[tuple[InventoryId, bytes]], word: str) -> None:
    """`UsageError` if the text of an answer fits catalogs of several inventories: it must mean one."""
    named = sorted(dict(found).items())
    if len(named) > 1:
        options = ", ".join(f"--accept {inventory_id.hex()}:{pack.hex()}" for inventory_id, pack in named)
        raise UsageError(
            f"catalogs of several inventories begin with {word}: one of them may have been made up to look "
            "like the other",
            advice=f"look at each, and name its inventory, too: {options}",
        )


def heirs_by_marks(
    marks: Iterable[HeirMark],
    inventory_id: InventoryId,
    ancestors: Sequence[InventoryId],
    keys: Sequence[EnrolmentKey],
) -> tuple[list[HeirMark], list[Stranger]]:
    """The marks of an inventory's heirs: those that a key vouches for, and the others, once for each heir.

    Among the others are heirs of its ancestors that are not of its lineage: one of them may go on with other
    jobs, and need what the ancestor stored.
    """
    lineage = {inventory_id, *ancestors}
    ours = [mark for mark in marks if mark.predecessor in lineage and mark.heir not in lineage]
    proven = [mark for mark in ours if mark.predecessor == inventory_id and mark.is_proven(keys, ancestors)]
    known = {mark.heir for mark in proven}
    hints = {
        mark.heir: Stranger(mark.heir, NO_JOB, PackId(mark.heir)) for mark in ours if mark.heir not in known
    }
    return proven, [hints[heir] for heir in sorted(hints)]
