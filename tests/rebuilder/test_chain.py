"""Laws of the trusted set: of what is left of a history the newest state, never a wrong one."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from backup.errors import FormatError
from backup.format.header import (
    NO_HASH,
    CatalogFeature,
    CatalogFields,
    Header,
    HeaderFields,
    parse_header,
    seal_header,
)
from backup.format.keys import Signer
from backup.format.line import CatalogAddress, RecoveryLine
from backup.model import ArchiveId, Generation, InventoryId, JobName, PackId, PackKind, VaultName
from backup.rebuilder.catalogs.chain import TrustedCatalogs
from backup.rebuilder.members import ForkError, OlderStateError, Trust, UntrustedError
from tests.support.packs import KEY, SIGNER

JOB, INVENTORY = b"j" * 16, InventoryId(b"i" * 16)
NIGHTS = 8


class History(Struct, frozen=True):
    """Delta n of night n, and a full catalog of its state; numbers are 2n and 2n + 1."""

    deltas: tuple[Header, ...]
    fulls: tuple[Header, ...]


def sealed(number: int, generation: Generation, parent: bytes, *, signer: Signer = SIGNER) -> Header:
    tag = KEY.enrolment_tag(INVENTORY, SIGNER.public)
    place = CatalogFields(JOB, number, generation, bytes(16), parent, ((KEY.recipient.id, tag),))
    pack_id = PackId(number.to_bytes(15, "big") + bytes([generation]))
    fields = HeaderFields(PackKind.CATALOG, pack_id, INVENTORY, signer.public, place)
    return parse_header(seal_header(fields, pack_key=b"k" * 32, recipients=[KEY.recipient], signer=signer))


@cache
def history() -> History:
    deltas: list[Header] = []
    fulls: list[Header] = []
    parent = NO_HASH
    for night in range(1, NIGHTS + 1):
        deltas.append(sealed(2 * night, Generation.DELTA, parent))
        parent = deltas[-1].hash
        fulls.append(sealed(2 * night + 1, Generation.FULL, parent))
    return History(tuple(deltas), tuple(fulls))


def trusted(deltas: set[int], fulls: set[int]) -> TrustedCatalogs:
    known = TrustedCatalogs([KEY], Trust())
    for night in deltas:
        known.add(ArchiveId(f"delta {night}"), history().deltas[night])
    for night in fulls:
        known.add(ArchiveId(f"full {night}"), history().fulls[night])
    return known


def reachable(deltas: set[int], fulls: set[int]) -> set[int]:
    """By brute force: the nights whose state a full catalog and the deltas after it give."""
    found = set(fulls)
    for start in fulls:
        night = start + 1
        while night in deltas:
            found.add(night)
            night += 1
    return found


NIGHT_SETS = st.sets(st.integers(0, NIGHTS - 1))


@given(NIGHT_SETS, NIGHT_SETS)
def test_the_newest_state_without_a_gap(deltas: set[int], fulls: set[int]) -> None:
    chain = trusted(deltas, fulls).chain(JOB, INVENTORY, only_whole=True)
    possible = reachable(deltas, fulls)
    if not possible:
        assert chain is None
        return
    assert chain is not None
    assert chain.base is not None
    assert chain.tip == history().deltas[max(possible)].hash
    state = chain.base.catalog.parent_header_hash
    for delta in chain.deltas:
        assert delta.catalog.parent_header_hash == state
        state = delta.header.hash
    assert state == chain.tip


def line_of(night: int) -> RecoveryLine:
    delta = history().deltas[night]
    address = CatalogAddress(ArchiveId("delta"), 1)
    names = VaultName("v"), JobName("job"), INVENTORY, JOB
    return RecoveryLine(*names, 2 * (night + 1), delta.hash, address, None)


@given(NIGHT_SETS, NIGHT_SETS, st.integers(0, NIGHTS - 1))
def test_never_older_than_the_line(deltas: set[int], fulls: set[int], night: int) -> None:
    possible = reachable(deltas, fulls)
    try:
        chain = trusted(deltas, fulls).chain(JOB, INVENTORY, line=line_of(night), only_whole=True)
    except OlderStateError:
        assert not possible or max(possible) < night
        return
    assert (chain is None) == (not deltas and not fulls)
    assert chain is None or chain.tip in {header.hash for header in history().deltas[night:]}


@pytest.mark.parametrize(("deltas", "fulls"), [({2, 3}, {1}), ({0, 1, 2, 3}, {0}), ({2, 3}, {1, 3})])
def test_a_line_of_another_history_is_refused(deltas: set[int], fulls: set[int]) -> None:
    """The numbers are above the line's, and what lies before them is not the line's state."""
    line = replace(line_of(2), number=7, header_hash=b"x" * 32)
    with pytest.raises(OlderStateError):
        trusted(deltas, fulls).chain(JOB, INVENTORY, line=line)


def test_an_old_line_is_met_by_numbers() -> None:
    """Nothing is left of before the newest full catalog's state: it is one signer's, and above the line's."""
    known = trusted({5}, {4})
    for number in (2, 9):
        chain = known.chain(JOB, INVENTORY, line=replace(line_of(2), number=number, header_hash=b"x" * 32))
        assert chain is not None
        assert chain.number == 12
    with pytest.raises(OlderStateError):
        known.chain(JOB, INVENTORY, line=replace(line_of(2), number=12, header_hash=b"x" * 32))


def first_catalog(pack: int = 1) -> Header:
    """A job's first catalog: delta and full in one."""
    tag = KEY.enrolment_tag(INVENTORY, SIGNER.public)
    enrolments = ((KEY.recipient.id, tag),)
    place = CatalogFields(JOB, 1, Generation.FULL, enrolments=enrolments, features=CatalogFeature.FIRST_DELTA)
    pack_id = PackId(bytes([pack]) * 16)
    fields = HeaderFields(PackKind.CATALOG, pack_id, INVENTORY, SIGNER.public, place)
    return parse_header(seal_header(fields, pack_key=b"k" * 32, recipients=[KEY.recipient], signer=SIGNER))


def all_of(*headers: Header) -> TrustedCatalogs:
    known = TrustedCatalogs([KEY], Trust())
    for place, header in enumerate(headers):
        assert known.add(ArchiveId(f"catalog {place}"), header)
    return known


def test_a_first_catalog_is_a_state_and_the_next_one_s_parent() -> None:
    first = first_catalog()
    second = sealed(2, Generation.DELTA, first.hash)
    full = sealed(3, Generation.FULL, second.hash)
    later = sealed(4, Generation.DELTA, second.hash)
    for headers, numbers, tip in (
        ([first], [1], first),
        ([first, second], [1, 2], second),
        ([first, second, later], [1, 2, 4], later),
        ([first, second, full], [3], second),
        ([first, second, full, later], [3, 4], later),
        ([first, full, later], [3, 4], later),
    ):
        chain = all_of(*headers).chain(JOB, INVENTORY)
        assert chain is not None
        assert chain.gap is None
        assert ([member.catalog.number for member in chain.members], chain.tip) == (numbers, tip.hash)
    known = all_of(first, second, later)
    assert known.add(ArchiveId("a copy"), first) is None
    known.drop(ArchiveId("catalog 0"))
    assert known.chain(JOB, INVENTORY, only_whole=True) is None


def test_a_line_of_a_first_catalog() -> None:
    first = first_catalog()
    second = sealed(2, Generation.DELTA, first.hash)
    line = replace(line_of(0), number=1, header_hash=first.hash)
    for headers in ([first], [first, second]):
        chain = all_of(*headers).chain(JOB, INVENTORY, line=line)
        assert chain is not None
        assert chain.tip == headers[-1].hash
    with pytest.raises(OlderStateError):
        all_of(first, second).chain(JOB, INVENTORY, line=replace(line, header_hash=b"x" * 32))
    with pytest.raises(OlderStateError):
        all_of(first).chain(JOB, INVENTORY, line=replace(line, number=2, header_hash=second.hash))


def test_two_first_catalogs_are_a_fork() -> None:
    first, other = first_catalog(), first_catalog(2)
    with pytest.raises(ForkError):
        all_of(first, other).chain(JOB, INVENTORY)
    chosen = all_of(first, other).chain(JOB, INVENTORY, chosen="02" * 16)
    assert chosen is not None
    assert chosen.tip == other.hash


def test_a_fork_is_refused_until_one_is_chosen() -> None:
    known = trusted({0, 1}, {0})
    other = sealed(5, Generation.DELTA, history().deltas[0].hash)
    known.add(ArchiveId("other"), other)
    with pytest.raises(ForkError):
        known.chain(JOB, INVENTORY)
    chosen = known.chain(JOB, INVENTORY, chosen=other.fields.pack_id.hex())
    assert chosen is not None
    assert chosen.tip == other.hash
    line = known.chain(JOB, INVENTORY, line=line_of(1))
    assert line is not None
    assert line.tip == history().deltas[1].hash
    with pytest.raises(ForkError):
        known.chain(JOB, INVENTORY, line=line_of(0))


def test_a_number_that_nothing_could_follow_is_refused() -> None:
    """Signed, and absurd: the next catalog's number would not fit."""
    for number in (2**48, 2**63 - 1):
        absurd = sealed(number, Generation.DELTA, history().deltas[-1].hash)
        with pytest.raises(FormatError, match="out of range"):
            trusted({0}, {0}).add(ArchiveId("absurd"), absurd)


def test_who_may_speak() -> None:
    stranger = sealed(2, Generation.DELTA, NO_HASH, signer=Signer(b"x" * 32))
    with pytest.raises(UntrustedError):
        TrustedCatalogs([KEY], Trust()).add(ArchiveId("a"), stranger)
    assert TrustedCatalogs([KEY], Trust(vault=True)).add(ArchiveId("a"), stranger)
    ours = history().deltas[0]
    forged = parse_header(ours.raw[:-64] + bytes(64))
    with pytest.raises(FormatError):
        TrustedCatalogs([KEY], Trust(vault=True)).add(ArchiveId("a"), forged)
    known = TrustedCatalogs([KEY], Trust())
    assert known.add(ArchiveId("a"), ours)
    assert known.add(ArchiveId("copy of a"), ours) is None
