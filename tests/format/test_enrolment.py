"""Enrolments of version 2, requests for them, heirs' marks and job ids: each says one thing, and no other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format.enrolment import (
    MOST_SIGNED,
    EnrolmentKey,
    HeirMark,
    enrol,
    enrolment_key,
    heirs_of,
    is_job_of,
    job_id_of,
    sign_request,
    signature_in,
    slots,
    verify_request,
)
from backup.format.keys import RecoveryKey, Signer
from backup.model import InventoryId

SEEDS = st.binary(min_size=32, max_size=32)
IDS = st.binary(min_size=16, max_size=16)
INVENTORIES = IDS.map(InventoryId)
LINES = st.lists(INVENTORIES, max_size=5, unique=True).map(tuple)
SIGNATURES = st.binary(min_size=64, max_size=64)
MOST_SLOTS = 50


@given(st.lists(IDS, max_size=MOST_SLOTS, unique=True), st.data())
def test_a_header_has_all_tags_and_the_first_signatures(recipients: list[bytes], data: st.DataObject) -> None:
    some = st.sets(st.sampled_from(recipients)) if recipients else st.just(set())
    tags = {name: name * 2 for name in data.draw(some)}
    signatures = {name: name * 4 for name in data.draw(some)}
    found = slots(recipients, tags, signatures)
    known = dict(found)
    assert len(known) == len(found) <= MOST_SLOTS
    assert {name: known[name] for name in recipients if name in known} == tags
    carried = [name for name in recipients if signature_in(found, name) is not None]
    room = min(MOST_SIGNED, (MOST_SLOTS - len(tags)) // 2)
    assert carried == [name for name in recipients if name in signatures][:room]
    assert all(signature_in(found, name) == signatures[name] for name in carried)
    assert slots(recipients, tags, signatures) == found


@settings(max_examples=50)
@given(SEEDS, SEEDS, INVENTORIES, SEEDS, LINES, st.data())
def test_a_signature_vouches_for_one_inventory_signer_and_line(
    seed: bytes,
    other_seed: bytes,
    inventory: InventoryId,
    signer: bytes,
    line: tuple[InventoryId, ...],
    data: st.DataObject,
) -> None:
    key = enrolment_key(RecoveryKey(seed))
    signature = enrol(RecoveryKey(seed), inventory, signer, line)
    assert key.vouches(inventory, signer, line, signature)
    other = data.draw(INVENTORIES), data.draw(SEEDS), data.draw(LINES)
    assert key.vouches(*other, signature) is (other == (inventory, signer, line))
    assert key.vouches(inventory, signer, line[::-1], signature) is (len(line) < 2)
    assert not key.vouches(inventory, signer, (*line, inventory), signature)
    place = data.draw(st.integers(0, 511))
    changed = bytearray(signature)
    changed[place // 8] ^= 1 << place % 8
    assert not key.vouches(inventory, signer, line, bytes(changed))
    other_key = enrolment_key(RecoveryKey(other_seed))
    assert other_key.vouches(inventory, signer, line, signature) is (other_seed == seed)
    assert EnrolmentKey.from_text(key.to_text()) == key


@given(st.binary(max_size=40), st.binary(max_size=70), st.lists(st.binary(max_size=20), max_size=2))
def test_other_lengths_are_not_signed_and_never_vouched_for(
    inventory: bytes, signer: bytes, line: list[bytes]
) -> None:
    """15 and 33 bytes joined are what 16 and 32 joined are."""
    if (len(inventory), len(signer), {len(name) for name in line} <= {16}) == (16, 32, True):
        return
    ids = InventoryId(inventory), signer, list(map(InventoryId, line))
    key = RecoveryKey(bytes(32))
    with pytest.raises(FormatError):
        enrol(key, *ids)
    assert not enrolment_key(key).vouches(*ids, bytes(64))


@dataclass(frozen=True)
class Asked:
    """The fields of a request."""

    inventory: InventoryId
    signer: bytes
    recipients: tuple[bytes, ...]
    ancestors: tuple[InventoryId, ...]

    def is_signed_by(self, signature: bytes) -> bool:
        """Whether that is a signature of just these fields."""
        try:
            verify_request(self.inventory, self.signer, self.recipients, self.ancestors, signature)
        except FormatError:
            return False
        return True


@settings(max_examples=50)
@given(SEEDS, INVENTORIES, st.lists(IDS, max_size=3).map(tuple), LINES, st.data())
def test_the_signature_of_a_request_covers_each_field(
    seed: bytes,
    inventory: InventoryId,
    recipients: tuple[bytes, ...],
    line: tuple[InventoryId, ...],
    data: st.DataObject,
) -> None:
    signer = Signer(seed)
    asked = Asked(inventory, signer.public, recipients, line)
    signature = sign_request(signer, inventory, recipients, line)
    assert asked.is_signed_by(signature)
    changes = (
        replace(asked, inventory=data.draw(INVENTORIES)),
        replace(asked, signer=Signer(data.draw(SEEDS)).public),
        replace(asked, recipients=data.draw(st.lists(IDS, max_size=3).map(tuple))),
        replace(asked, ancestors=data.draw(LINES)),
    )
    for changed in changes:
        assert changed.is_signed_by(signature) is (changed == asked)
    for border in range(len(recipients) + len(line) + 1):  # the same bytes, divided elsewhere
        joined = (*recipients, *line)
        moved = replace(asked, recipients=joined[:border], ancestors=tuple(map(InventoryId, joined[border:])))
        assert moved.is_signed_by(signature) is (moved == asked)


@given(INVENTORIES, INVENTORIES, SEEDS, SIGNATURES)
def test_a_mark_comes_back_from_its_name(
    predecessor: InventoryId, heir: InventoryId, signer: bytes, signature: bytes
) -> None:
    mark = HeirMark(predecessor, heir, signer, signature)
    text = mark.to_text()
    assert len(text) == 269
    assert text.startswith(heirs_of(predecessor))
    assert HeirMark.from_text(text) == mark
    for other in (text[:-1], text + "0", text.upper(), f"{text}\n", f" {text}", text.replace("heir", "hair")):
        assert HeirMark.from_text(other) is None


@given(st.one_of(st.text(), st.from_regex(r"meta/[0-9a-f]{0,33}/heir-[0-9a-f-]{0,230}")))
def test_no_text_is_too_odd_for_a_mark(text: str) -> None:
    mark = HeirMark.from_text(text)
    assert mark is None or mark.to_text() == text


@settings(max_examples=30)
@given(SEEDS, INVENTORIES, INVENTORIES, SEEDS, LINES, st.data())
def test_a_mark_is_proven_by_the_heirs_enrolment_alone(
    seed: bytes,
    old: InventoryId,
    heir: InventoryId,
    signer: bytes,
    line: tuple[InventoryId, ...],
    data: st.DataObject,
) -> None:
    key = RecoveryKey(seed)
    mark = HeirMark(old, heir, signer, enrol(key, heir, signer, (old, *line)))
    keys = [enrolment_key(key)]
    assert mark.is_proven(keys, line)
    assert not mark.is_proven([], line)
    other = data.draw(LINES)
    assert mark.is_proven(keys, other) is (other == line)
    assert not HeirMark(old, heir, signer, bytes(64)).is_proven(keys, line)


@given(INVENTORIES, INVENTORIES, IDS, IDS)
def test_a_job_is_of_the_inventory_that_made_it(
    inventory: InventoryId, other: InventoryId, nonce: bytes, other_nonce: bytes
) -> None:
    job = job_id_of(inventory, nonce)
    assert len(job) == 16
    assert is_job_of(job, inventory, nonce)
    assert is_job_of(job, other, nonce) is (other == inventory)
    assert is_job_of(job, inventory, other_nonce) is (other_nonce == nonce)
