"""Decides which catalogs make a job's newest state; pure: headers in, a chain or what is missing out.

The rules, each of which holds before a byte of a catalog's body is believed:

 1. A header must be signed by the key it names, and that key must be vouched for: by an enrolment tag that
    a recovery key makes itself, by the fingerprint that the user gave, or by his word that he trusts the
    vault. A tag says of a signer, not of a catalog, that it is ours: one tag in any header of an inventory
    vouches for all that this signer signed in that inventory, whichever came first. Anything else is refused
    and named. Of several keys the first one's word counts; the others', who may have been given up because
    somebody got hold of them, only for inventories of which the first says nothing, and last.
 2. The header decides. A description that says otherwise is named; one of two archives with the same header
    is enough.
 3. A delta applies to the one state that its parent's header hash names; a full catalog holds that state.
    So a swapped, replayed or left-out delta leaves a gap, never another state. Numbers only rise. A job's
    first catalog is both, and its state is its own.
 4. Two deltas with one parent are a fork: both are named, and the user chooses; nothing is ever merged.
 5. A state older than the recovery line's is refused: the line's delta must be the tip or among its parents.
 6. A catalog that cannot be opened counts as missing: an older full catalog and more deltas take its place.
 7. An inventory has one signer. Where two are vouched for, a recovery key is in strange hands: neither is
    believed until the user names one.
 8. A state is made of catalogs of one lineage (`backup/lineage.py`): those of the inventory that is asked for
    and of its proven ancestors, from younger to older on the way back. A full catalog counts for a state only
    if its inventory wrote the delta of that state, or the delta that follows it on the way. One that does not
    count and is the only way to a state is a question to the user.

    trusted = TrustedCatalogs(keys, trust)
    trusted.add(archive_id, header)                     # rule 1; FormatError, UntrustedError
    chain = trusted.chain(job_id, inventory_id, line)   # rules 3 to 6; ForkError, OlderStateError
    if chain.gap: ...                                   # fetch older catalogs, or say what is not covered
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from backup.errors import FormatError
from backup.format.header import NO_HASH, Header, is_enrolled, verify_header
from backup.format.keys import RecoveryKey, fingerprint_of
from backup.format.line import RecoveryLine
from backup.format.records import Start
from backup.lineage import Family, Voucher, is_named, require_one
from backup.model import ArchiveId, Generation, InventoryId
from backup.rebuilder.members import (
    Chain,
    ForkError,
    Member,
    OlderStateError,
    QuestionError,
    Trust,
    TwoSignersError,
    UntrustedError,
)
from backup.rebuilder.record_ranges import MOST_NUMBERS

_MOST_NAMED = 20  # branches of a fork


class TrustedCatalogs:
    """The set of trusted catalogs; see the rules above. Holds headers, no bodies."""

    def __init__(self, keys: Sequence[RecoveryKey], trust: Trust, accepted: Collection[str] = ()) -> None:
        """`accepted`: beginnings of pack ids in hex, of catalogs that the user says belong there."""
        self._keys = keys
        self._trust = trust
        self._accepted = accepted
        self.family = Family([Voucher.of(key) for key in keys])
        self._vouched: dict[
            InventoryId, dict[bytes, int]
        ] = {}  # signers, each with the first key that vouches
        self._believes_others = False
        self._deltas: dict[bytes, Member] = {}  # by header hash
        self._fulls: dict[bytes, list[Member]] = {}  # by the header hash of the state they hold
        self._seen: set[ArchiveId] = set()

    def add(self, archive_id: ArchiveId, header: Header) -> Member | None:
        """Add a catalog and return it; None if another archive holds the same one. Rule 1: `FormatError`.

        After an `UntrustedError` it may be added again: later catalogs may vouch for its signer.
        """
        catalog = header.fields.catalog
        if catalog is None:
            raise FormatError("it is no catalog, whatever its description says")
        if catalog.number >= MOST_NUMBERS:
            raise FormatError("its number is out of range")
        verify_header(header, header.fields.signer_public)
        self._note_tags(header)
        if not self.vouches_for(header):
            fingerprint = fingerprint_of(header.fields.signer_public).hex()
            whom = "this recovery key" if len(self._keys) == 1 else "any of these recovery keys"
            raise UntrustedError(
                f"its signer {fingerprint} is not enrolled by {whom}"
                if self._trust.signer is None
                else f"its signer is {fingerprint}, another than the one that was named",
                advice="compare it with the fingerprint that you noted, then give --signer FINGERPRINT",
            )
        member = Member(archive_id, header)
        if member.is_delta:
            known = self._deltas.setdefault(header.hash, member)
            if known is not member or catalog.generation is Generation.DELTA:
                return member if known is member else None
        same = self._fulls.setdefault(member.state, [])
        if any(other.header.hash == header.hash for other in same):
            return None
        same.append(member)
        return member

    def vouches_for(self, header: Header) -> bool:
        """Whether a header's signer is vouched for by any catalog so far."""
        signer = header.fields.signer_public
        if self._trust.vault:
            return True
        if self._trust.signer is not None:
            return self._trust.signer == fingerprint_of(signer)
        ranks = self._vouched.get(header.fields.inventory_id, {})
        if self._believes_others and 0 not in ranks.values():
            return signer in ranks
        return ranks.get(signer) == 0

    def is_older(self, header: Header) -> bool:
        """Whether the first key vouches for no signer of its inventory, and a later key for this signer."""
        ranks = self._vouched.get(header.fields.inventory_id, {})
        return 0 not in ranks.values() and header.fields.signer_public in ranks

    def believe_others(self) -> bool:
        """Also trust signers by keys after the first from now on; False if that changes nothing."""
        before, self._believes_others = self._believes_others, True
        return not before and any(0 not in ranks.values() for ranks in self._vouched.values())

    def rank_of(self, header: Header) -> int | None:
        """Return the place of the first key that vouches for a header's signer; None if none does."""
        return self._vouched.get(header.fields.inventory_id, {}).get(header.fields.signer_public)

    def note_start(self, header: Header, start: Start) -> None:
        """Record the ancestors that a catalog's first record names; its signer is vouched for."""
        self.family.note(header, start, self.rank_of(header) or 0)

    def accept(self, inventory_id: InventoryId) -> None:
        """Trust that the writers of accepted catalogs are ancestors of that inventory."""
        others = [(member.inventory_id, member.header.fields.pack_id) for member in self._all()]
        others = [other for other in others if other[0] != inventory_id]
        for word in self._accepted:
            meant = [other for other in others if is_named(*other, word)]
            require_one(meant, word)
            for other, _ in meant:
                self.family.accept(inventory_id, other)

    def is_accepted(self, inventory_id: InventoryId, pack_id: bytes) -> bool:
        """Whether the user said that a pack belongs to this server."""
        return any(is_named(inventory_id, pack_id, word) for word in self._accepted)

    def _is_accepted(self, member: Member) -> bool:
        return self.is_accepted(member.inventory_id, member.header.fields.pack_id)

    def _note_tags(self, header: Header) -> None:
        signers = self._vouched.setdefault(header.fields.inventory_id, {})
        signer = header.fields.signer_public
        ranks = [rank for rank, key in enumerate(self._keys) if is_enrolled(header, key)]
        if ranks:
            signers[signer] = min(ranks[0], signers.get(signer, ranks[0]))
        if signer in signers:
            self.family.note_signer(header.fields.inventory_id, signer, signers[signer])

    def drop(self, archive_id: ArchiveId) -> None:
        """Remove a catalog whose body is damaged (rule 6)."""
        self._deltas = {key: delta for key, delta in self._deltas.items() if delta.archive_id != archive_id}
        for state, fulls in self._fulls.items():
            self._fulls[state] = [full for full in fulls if full.archive_id != archive_id]

    def jobs(self, inventory_id: InventoryId) -> set[bytes]:
        """Return the ids of the jobs of which the inventory wrote catalogs."""
        return {member.catalog.job_id for member in self._all() if member.inventory_id == inventory_id}

    def of_inventory(self, inventory_id: InventoryId) -> list[Member]:
        """Return all trusted catalogs of an inventory, the newest last."""
        return sorted((member for member in self._all() if member.inventory_id == inventory_id), key=_number)

    def members(self, job_id: bytes) -> list[Member]:
        """Return all trusted catalogs of a job, of any inventory."""
        return [member for member in self._all() if member.catalog.job_id == job_id]

    def inventories(self, job_id: bytes) -> set[InventoryId]:
        """Return the inventories that wrote catalogs of a job."""
        return {member.inventory_id for member in self.members(job_id)}

    def outside(self, job_id: bytes, inventory_id: InventoryId) -> list[Member]:
        """Return the catalogs of a job by inventories that are neither of that lineage nor its heirs."""
        own = self.family.lineage(inventory_id) | self.family.heirs(inventory_id)
        return [member for member in self.members(job_id) if member.inventory_id not in own]

    def chain(
        self,
        job_id: bytes,
        inventory_id: InventoryId,
        *,
        line: RecoveryLine | None = None,
        chosen: str | None = None,
        only_whole: bool = False,
    ) -> Chain | None:
        """Return the job's newest state of that inventory; None if it has none.

        `chosen` is the beginning of a pack id in hex: the tip, or one before it, where there is a fork. With
        `only_whole` the newest state without a gap. `ForkError` (rule 4), `OlderStateError` (rule 5),
        `TwoSignersError` (rule 7); with `only_whole` also `QuestionError` (rule 8).
        """
        self._hold_to_one_signer(job_id, inventory_id)
        tips = self._tips(job_id, inventory_id)
        if chosen is not None:
            tips = [tip for tip in tips if self._passes_through(tip, chosen)]
        tips = self._decided(tips, job_id, inventory_id, line)
        chains = [self._walk(tip, job_id, inventory_id) for tip in tips]
        if only_whole:
            self._ask(chains)
            chains = [chain for chain in chains if chain.gap is None]
        if line is not None:
            if tips and not any(self._is_as_new(chain, line) for chain in chains):
                raise OlderStateError(
                    f"the vault does not show catalog {line.number} of job {line.job}, which the recovery "
                    "line names, or anything newer that can be read",
                    advice="it may be too new for the vault's list, damaged or kept back: without the line "
                    "an older state can be had",
                )
            chains = [chain for chain in chains if self._is_as_new(chain, line)]
        return max(chains, key=lambda chain: chain.number, default=None)

    def beyond(self, chain: Chain, job_id: bytes, inventory_id: InventoryId) -> list[Member]:
        """Return the deltas of the job, by that lineage, that are newer than a chain."""
        own = self.family.lineage(inventory_id)
        newer = [
            delta
            for delta in self._deltas.values()
            if delta.catalog.job_id == job_id and delta.inventory_id in own
        ]
        newer = [
            delta for delta in newer if delta.catalog.number > chain.number and delta not in chain.deltas
        ]
        return sorted(newer, key=lambda member: member.catalog.number)

    # Rules 3 and 8.

    def _walk(self, tip: bytes, job_id: bytes, inventory_id: InventoryId) -> Chain:
        """Back from a state to the newest full catalog on its way that counts."""
        deltas: list[Member] = []
        doubtful: Member | None = None
        state, below, writer = tip, None, inventory_id
        while True:
            delta = self._delta_of(state, job_id, writer, below)
            full, other = self._full_of(state, job_id, writer, delta)
            doubtful = doubtful or other
            if full is not None:
                number = deltas[0].catalog.number if deltas else full.catalog.number
                return Chain(tip, number, full, tuple(reversed(deltas)))
            if delta is None:
                number = deltas[0].catalog.number if deltas else 0
                return Chain(tip, number, None, tuple(reversed(deltas)), gap=state, doubtful=doubtful)
            deltas.append(delta)
            state, below, writer = delta.catalog.parent_header_hash, delta, delta.inventory_id

    def _delta_of(
        self, state: bytes, job_id: bytes, writer: InventoryId, below: Member | None
    ) -> Member | None:
        """The delta of a state that may come before what `writer` wrote."""
        delta = self._deltas.get(state)
        if delta is None or delta.catalog.job_id != job_id or not _rises(delta, below):
            return None
        return delta if delta.inventory_id in self.family.lineage(writer) else None

    def _full_of(
        self, state: bytes, job_id: bytes, writer: InventoryId, delta: Member | None
    ) -> tuple[Member | None, Member | None]:
        """The newest full catalog that counts for a state before what `writer` wrote, and one that does not.

        If the state's delta is not known, an ancestor may have written both.
        """
        found = [
            full for full in self._fulls.get(state, ()) if full.catalog.job_id == job_id and state != NO_HASH
        ]
        lineage = self.family.lineage(writer)
        wrote = {writer, delta.inventory_id} if delta is not None else lineage
        counting = [full for full in found if full.inventory_id in wrote or self._is_accepted(full)]
        others = [full for full in found if full not in counting]
        return max(counting, key=_number, default=None), max(others, key=_number, default=None)

    def _ask(self, chains: Sequence[Chain]) -> None:
        """`QuestionError` if no state can be rebuilt without a full catalog that does not count."""
        doubtful = next((chain.doubtful for chain in chains if chain.doubtful is not None), None)
        if doubtful is None or any(chain.gap is None for chain in chains):
            return
        pack = doubtful.header.fields.pack_id.hex()
        raise QuestionError(
            f"the only full catalog for this state, number {doubtful.catalog.number} (pack {pack}), is by "
            f"inventory {doubtful.inventory_id.hex()}, and nothing proves that this is the same server",
            advice=f"if it is, give --accept {pack}; if it is not, somebody else wrote it: do not accept it; "
            "for an older state give --before TIME or --tip PACK",
        )

    def _tips(self, job_id: bytes, inventory_id: InventoryId) -> list[bytes]:
        """The states of that inventory that nothing of it goes on from, newest number last."""
        ours = [member for member in self.members(job_id) if member.inventory_id == inventory_id]
        states = {member.state: member.catalog.number for member in ours}
        gone_on = {member.catalog.parent_header_hash for member in ours if member.is_delta}
        return sorted((state for state in states if state not in gone_on), key=lambda state: states[state])

    # Rules 4 and 5.

    def _decided(
        self, tips: Sequence[bytes], job_id: bytes, inventory_id: InventoryId, line: RecoveryLine | None
    ) -> list[bytes]:
        """The tips, of those that come from one state by different deltas only the line's. `ForkError`."""
        lost: set[bytes] = set()
        own = self.family.lineage(inventory_id)
        ways: dict[bytes, dict[bytes, bytes]] = {}  # state: the tip, by each delta that follows
        for tip in tips:
            for state in self._ancestors(tip):
                delta = self._deltas.get(state)
                if delta is not None and delta.catalog.job_id == job_id and delta.inventory_id in own:
                    ways.setdefault(delta.catalog.parent_header_hash, {})[state] = tip
        for followers in ways.values():
            if len(followers) > 1:
                branches = list(followers.values())
                meant = [tip for tip in branches if line and self._comes_after(tip, line.header_hash)]
                if len(meant) == 1:
                    lost.update(tip for tip in branches if tip != meant[0])
                    continue
                raise ForkError(
                    f"{'two' if len(branches) == 2 else len(branches)} catalogs go on from the same one, and "
                    f"are never merged: {' and '.join(map(self._name, branches[:_MOST_NAMED]))}",
                    advice="find out who wrote each (a copy of the server?), then choose one with --tip PACK",
                )

        return [tip for tip in tips if tip not in lost]

    def _comes_after(self, tip: bytes, state: bytes) -> bool:
        return state in self._ancestors(tip)

    def _ancestors(self, state: bytes) -> Iterable[bytes]:
        """Return a state and those before it, as far as the known deltas go; the last may be unknown."""
        seen: set[bytes] = set()
        while state not in seen:
            seen.add(state)
            yield state
            delta = self._deltas.get(state)
            if delta is None:
                return
            state = delta.catalog.parent_header_hash

    def _is_as_new(self, chain: Chain, line: RecoveryLine) -> bool:
        """Whether a chain holds the line's state or a later one.

        Where the deltas between were not fetched, as a newer full catalog made them needless, or are not kept
        any more, its number tells: one signer gives rising numbers, and so do the inventories that were
        rebuilt from his. A chain that leads past the line's number, and not through its state, is another
        history.
        """
        before = list(self._ancestors(chain.tip))
        if line.header_hash in before:
            return True
        newest = max((member.catalog.number for member in chain.members), default=0)
        known = [self._deltas[state].catalog.number for state in before if state in self._deltas]
        leads_past = any(number <= line.number for number in known) or before[-1] == NO_HASH
        return newest > line.number and not leads_past

    def _passes_through(self, tip: bytes, pack: str) -> bool:
        on_the_way = set(self._ancestors(tip))
        names = {self._deltas[key].header.fields.pack_id.hex() for key in on_the_way & self._deltas.keys()}
        names |= {full.header.fields.pack_id.hex() for full in self._fulls.get(tip, ())}
        return any(name.startswith(pack.lower()) for name in names)

    def _name(self, tip: bytes) -> str:
        delta = self._deltas.get(tip) or self._fulls[tip][0]
        return f"catalog {delta.catalog.number} (pack {delta.header.fields.pack_id.hex()})"

    def _all(self) -> Iterable[Member]:
        yield from self._deltas.values()
        for fulls in self._fulls.values():
            yield from fulls

    # Rule 7.

    def _hold_to_one_signer(self, job_id: bytes, asked: InventoryId) -> None:
        """`TwoSignersError` where two signers that are believed wrote into one inventory of the lineage."""
        own = self.family.lineage(asked)
        for inventory_id in self.inventories(job_id) & own:
            signers = {member.header.fields.signer_public for member in self.of_inventory(inventory_id)}
            if len(signers) > 1 and not self._trust.vault:
                names = " and ".join(sorted(fingerprint_of(signer).hex() for signer in signers))
                raise TwoSignersError(
                    f"two signers are enrolled in inventory {inventory_id.hex()}: {names}",
                    advice="somebody may have one of your old recovery keys: leave that key out, or name the "
                    "signer that you trust with --signer FINGERPRINT, as `nightvault key status` showed it",
                )


def _number(member: Member) -> int:
    return member.catalog.number


def _rises(delta: Member, child: Member | None) -> bool:
    return child is None or delta.catalog.number < child.catalog.number
