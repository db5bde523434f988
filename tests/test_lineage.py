"""Who follows whom: what is proven, and that nobody proves it without a recovery key or the signer."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from backup.format.enrolment import HeirMark, enrol, enrolment_key, slots
from backup.format.header import CatalogFields, Header, HeaderFields, parse_header, seal_header
from backup.format.keys import RecoveryKey, Signer
from backup.format.records import Start
from backup.lineage import NO_JOB, Family, Stranger, Voucher, heirs_by_marks, strangers
from backup.model import ArchiveLabel, Generation, InventoryId, PackId, PackKind

KEY, OLDER = RecoveryKey.from_seed(bytes(range(32))), RecoveryKey.from_seed(bytes(range(32, 64)))
OURS, THEIRS = Signer(b"o" * 32), Signer(b"t" * 32)
JOB = b"j" * 16
CHAIN = [InventoryId(bytes([number]) * 16) for number in range(1, 5)]  # the oldest first
STRANGE = [InventoryId(bytes([number]) * 16) for number in range(101, 104)]

ids = st.sampled_from([*CHAIN, *STRANGE])


class Catalog(Struct, frozen=True):
    """What a writer says: who it is, whom it followed, and what a recovery key signed of that."""

    inventory: InventoryId
    signer: Signer
    ancestors: Sequence[InventoryId] = ()
    signed: Sequence[InventoryId] | None = None  # by the key: of this inventory and signer
    by: RecoveryKey = KEY
    is_old: bool = False  # of a version that names its predecessor alone

    def header(self) -> Header:
        public, recipient = self.signer.public, self.by.recipient
        signatures = {}
        if self.signed is not None:
            signatures[recipient.id] = enrol(self.by, self.inventory, public, self.signed)
        tags = {recipient.id: self.by.enrolment_tag(self.inventory, public)}
        place = CatalogFields(JOB, 1, Generation.DELTA, enrolments=slots([recipient.id], tags, signatures))
        fields = HeaderFields(PackKind.CATALOG, PackId(b"p" * 16), self.inventory, public, place)
        made = seal_header(fields, pack_key=b"k" * 32, recipients=[recipient], signer=self.signer)
        return parse_header(made)

    def start(self) -> Start:
        before = self.ancestors[0] if self.ancestors else None
        line: list[bytes] = [] if self.is_old else list(self.ancestors)
        return Start(1, 1, 1, JOB, "job", 0, "host", "program", before, line)


def family(*catalogs: Catalog, keys: Sequence[RecoveryKey] = (KEY,)) -> Family:
    found = Family([Voucher.of(key) for key in keys])
    for catalog in catalogs:
        found.note(catalog.header(), catalog.start(), list(keys).index(catalog.by))
    return found


def line_of(number: int) -> list[InventoryId]:
    """The ancestors of the chain's inventory, nearest first."""
    return CHAIN[:number][::-1]


def honest(number: int, *, is_signed: bool, is_old: bool = False) -> Catalog:
    line = line_of(number)
    return Catalog(CHAIN[number], OURS, line, line if is_signed else None, is_old=is_old)


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 3), st.booleans())
def test_every_way_in_which_an_honest_server_was_rebuilt_is_proven(
    signed: list[bool], last: int, is_old: bool
) -> None:
    """By signatures, and where there are none by the signer that a rebuild brings back."""
    found = family(
        *(honest(n, is_signed=signed[n], is_old=is_old and not signed[n]) for n in range(last + 1))
    )
    assert found.ancestors(CHAIN[last]) == tuple(line_of(last))
    assert found.last(CHAIN[: last + 1]) == [CHAIN[last]]
    assert found.heirs(CHAIN[0]) == set(CHAIN[1 : last + 1])


claims = st.lists(ids, max_size=4, unique=True)


@given(st.lists(st.tuples(st.sampled_from(STRANGE), claims, st.booleans()), max_size=5), st.booleans())
def test_another_server_proves_nothing_whatever_it_says(
    forged: list[tuple[InventoryId, list[InventoryId], bool]], is_signed: bool
) -> None:
    """It has its own signer and its own enrolment: of itself, or of a rebuild of its own."""
    catalogs = [honest(number, is_signed=is_signed) for number in range(4)]
    for inventory, said, own in forged:
        enrolled = [inventory_id for inventory_id in STRANGE if inventory_id != inventory][:1] if own else []
        catalogs.append(Catalog(inventory, THEIRS, said, enrolled))
    found = family(*catalogs)
    for number, inventory_id in enumerate(CHAIN):
        assert found.lineage(inventory_id) == set(CHAIN[: number + 1])
        assert found.heirs(inventory_id) == set(CHAIN[number + 1 :])
    for inventory_id in STRANGE:
        assert not found.lineage(inventory_id) & set(CHAIN)


def test_a_signature_is_of_one_inventory_one_signer_and_one_line() -> None:
    signed = enrol(KEY, CHAIN[1], OURS.public, [CHAIN[0]])
    key = enrolment_key(KEY)
    assert key.vouches(CHAIN[1], OURS.public, [CHAIN[0]], signed)
    assert not key.vouches(CHAIN[2], OURS.public, [CHAIN[0]], signed)
    assert not key.vouches(CHAIN[1], THEIRS.public, [CHAIN[0]], signed)
    for line in ([], [CHAIN[2]], [CHAIN[0], CHAIN[2]]):
        assert not key.vouches(CHAIN[1], OURS.public, line, signed)


def test_a_later_key_proves_nothing_of_what_an_earlier_one_vouches_for() -> None:
    """The later one may be in strange hands: it is named to open old packs."""
    victim = Catalog(CHAIN[0], OURS)
    thief = Catalog(STRANGE[0], THEIRS, [CHAIN[0]], [CHAIN[0]], by=OLDER)
    assert family(victim, thief, keys=(KEY, OLDER)).heirs(CHAIN[0]) == set()
    older = Catalog(CHAIN[0], OURS, by=OLDER)
    heir = Catalog(CHAIN[1], THEIRS, [CHAIN[0]], [CHAIN[0]], by=OLDER)
    assert family(older, heir, keys=(KEY, OLDER)).heirs(CHAIN[0]) == {CHAIN[1]}


def test_what_is_said_and_not_proven_is_known_as_that() -> None:
    found = family(Catalog(CHAIN[0], OURS), Catalog(STRANGE[0], THEIRS, [CHAIN[0], STRANGE[1]]))
    assert found.claimed(STRANGE[0]) == (CHAIN[0], STRANGE[1])
    assert found.unproven(STRANGE[0]) == (CHAIN[0],)
    found.accept(STRANGE[0], CHAIN[0])
    assert found.ancestors(STRANGE[0]) == (CHAIN[0],)


def test_a_later_key_vouches_for_no_claim_while_an_ancestor_cannot_be_read() -> None:
    """Junk under its name may hide that the first key says otherwise of it."""
    heir = Catalog(CHAIN[1], THEIRS, CHAIN[:1], CHAIN[:1], by=OLDER)
    found = family(heir, keys=[KEY, OLDER])
    found.note_unread([STRANGE[0]])
    assert found.ancestors(CHAIN[1]) == (CHAIN[0],)
    found.note_unread([CHAIN[0]])
    assert found.ancestors(CHAIN[1]) == ()
    honest_one = family(Catalog(CHAIN[1], OURS, CHAIN[:1], CHAIN[:1]), keys=[KEY, OLDER])
    honest_one.note_unread([CHAIN[0]])
    assert honest_one.ancestors(CHAIN[1]) == (CHAIN[0],)


# By labels and marks: hints.


def label(inventory: InventoryId, job: bytes, number: int, kind: PackKind = PackKind.CATALOG) -> ArchiveLabel:
    pack = PackId(inventory[:1] + job[:1] + number.to_bytes(14, "big"))
    return ArchiveLabel(kind, pack, inventory, number, Generation.DELTA, job)


def test_strangers_are_one_for_each_inventory_and_job() -> None:
    other = b"k" * 16
    labels = [label(STRANGE[0], JOB, 3), label(STRANGE[0], JOB, 9), label(STRANGE[0], other, 1)]
    labels += [label(STRANGE[1], b"of others" + bytes(7), 1), label(CHAIN[0], JOB, 99)]
    labels += [label(STRANGE[1], JOB, 5, PackKind.DATA)]
    found = strangers(labels, {CHAIN[0]}, {JOB, other})
    assert [(stranger.inventory_id, stranger.job_id, stranger.number) for stranger in found] == [
        (STRANGE[0], JOB, 9),
        (STRANGE[0], other, 1),
    ]


def test_marks_are_proven_or_hints() -> None:
    line = [CHAIN[1], CHAIN[0]]
    proven = HeirMark(CHAIN[1], CHAIN[2], OURS.public, enrol(KEY, CHAIN[2], OURS.public, line))
    empty = HeirMark(CHAIN[1], STRANGE[0], THEIRS.public, bytes(64))
    copied = HeirMark(CHAIN[1], STRANGE[1], THEIRS.public, proven.signature)
    of_others = HeirMark(STRANGE[2], CHAIN[2], OURS.public, proven.signature)
    keys = [enrolment_key(KEY)]
    found = heirs_by_marks([proven, empty, copied, copied, of_others], CHAIN[1], [CHAIN[0]], keys)
    assert found[0] == [proven]
    assert found[1] == [Stranger(inventory_id, NO_JOB, PackId(inventory_id)) for inventory_id in STRANGE[:2]]
    assert heirs_by_marks([proven], CHAIN[1], [], keys)[0] == []


def test_an_heir_of_an_ancestor_is_a_hint_unless_it_is_of_the_lineage() -> None:
    """It may go on with other jobs, and need what the ancestor stored."""
    signature = enrol(KEY, STRANGE[0], THEIRS.public, CHAIN[:1])
    other = HeirMark(CHAIN[0], STRANGE[0], THEIRS.public, signature)
    own = [HeirMark(CHAIN[0], heir, OURS.public, signature) for heir in CHAIN[1:3]]
    found = heirs_by_marks([other, *own], CHAIN[2], [CHAIN[1], CHAIN[0]], [enrolment_key(KEY)])
    assert found == ([], [Stranger(STRANGE[0], NO_JOB, PackId(STRANGE[0]))])


def test_hundreds_of_thousands_of_claims_are_followed_in_no_time() -> None:
    """Anybody may name a thousand ancestors in each of many catalogs; each was looked up among all others."""
    catalog, count = Catalog(STRANGE[0], THEIRS), 600
    found = Family([Voucher.of(KEY)])
    for number in range(count):
        claims = [InventoryId(b"%08d%08d" % (number, place)) for place in range(1000)]
        found.note(catalog.header(), msgspec.structs.replace(catalog.start(), ancestors=list(claims)))
    began = time.process_time()
    assert len(found.claimed(STRANGE[0])) == count * 1000
    assert found.ancestors(STRANGE[0]) == ()
    assert time.process_time() - began < 20
