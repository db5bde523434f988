"""The tree hash agrees with AWS's algorithm at every split; ranges and parts follow Glacier's rules."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format import treehash
from backup.format.treehash import (
    PackHasher,
    TreeHasher,
    aligned_pieces,
    is_tree_aligned,
    part_size_for,
    tree_hash,
)
from backup.model import MIB, ByteRange
from tests.support.archives import part_hashes

PATTERN = bytes(i % 251 for i in range(251)) * (8 * MIB // 251 + 1)
VECTORS = [
    (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    (MIB - 1, "8b55c6a2d3444092a316985030e00c1e6f8608eaf912c896dee7c374d440ed11"),
    (MIB, "631b84027d6b9e52b539c4e8373622d23032dfadc64d60af87339c9037e4f769"),
    (MIB + 1, "a9c574ce937d2371daf87cdd0e75396b096d7f74a66c764e4c656bd12b2e7bf9"),
    (2 * MIB, "bf4dff263ae686b64403208c35a3767e38453d6477e841947588d13d04e1d816"),
    (3 * MIB, "2e7d51c0ffe06ce95fe74beed9a4ab35d18837f4ab2a9f4f066a60359eb999a1"),
    (4 * MIB, "c7d749cd55cefa8ed8fbc208202e18d019b7701f29886f7c5d662d77b3903833"),
    (5767168, "3493387cee361be12e24da9c024bf3e2a55f81df464f6ae822209f79a92248f5"),
    (6815744, "8bcaa7b4b8f991ca140f306627f2c4e84601364cde8e054b6e0924433ca7482f"),
    (7 * MIB + 1, "3105acdc933c7cf0db853a027647f6670634b8927c37d0be473be0d148a40e03"),
]
PARTS = [
    (0, 2 * MIB, "bf4dff263ae686b64403208c35a3767e38453d6477e841947588d13d04e1d816"),
    (2 * MIB, 4 * MIB, "9e217b1ceb8db81071f9c6e4a2bf0401a83491d10751ce858a2628f5d699dbdb"),
    (4 * MIB, 5767168, "496d4d95e43c393168f28a6532fd3e158a8477d949db92d5b7df78090fd5ec27"),
]


def by_definition(data: bytes, leaf: int) -> bytes:
    """AWS's text, word for word: halves split at the largest power of two of leaves."""
    leaves = max(1, -(-len(data) // leaf))
    if leaves == 1:
        return hashlib.sha256(data).digest()
    left = 1 << (leaves - 1).bit_length() - 1
    halves = by_definition(data[: left * leaf], leaf), by_definition(data[left * leaf :], leaf)
    return hashlib.sha256(halves[0] + halves[1]).digest()


@pytest.mark.parametrize(("size", "expected"), VECTORS)
def test_vectors(size: int, expected: str) -> None:
    data = PATTERN[:size]
    assert tree_hash(data).hex() == expected
    tree, linear = part_hashes(memoryview(data))
    assert tree.hex() == expected
    assert linear == hashlib.sha256(data).digest()
    hasher = TreeHasher()
    hasher.update(data)
    assert hasher.digest().hex() == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (MIB, "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"),
        (3 * MIB, "ca6cc129a4514ec765de86a4e7a49adf44842c9cac213c383ebe4071271bdf21"),
        (5767168, "a3a82dbe3644dd6046be472f2e3ec1f8ef47f8f3adb86d0de4de7a254f255455"),
    ],
)
def test_vectors_of_zeros(size: int, expected: str) -> None:
    assert tree_hash(bytes(size)).hex() == expected


def test_parts_combine_to_the_whole() -> None:
    data = PATTERN[:5767168]
    hashes = [tree_hash(data[start:end]) for start, end, _ in PARTS]
    assert [h.hex() for h in hashes] == [expected for _, _, expected in PARTS]
    assert treehash.combine(hashes) == tree_hash(data)


def test_three_mib_parts_would_not_combine() -> None:
    data = PATTERN[: 7 * MIB]
    hashes = [tree_hash(data[start : start + 3 * MIB]) for start in range(0, len(data), 3 * MIB)]
    assert treehash.combine(hashes) != tree_hash(data)


@given(st.binary(max_size=100), st.integers(1, 9))
def test_small_leaves_follow_the_definition(data: bytes, leaf: int) -> None:
    assert tree_hash(data, leaf) == by_definition(data, leaf)
    assert part_hashes(data, leaf) == (tree_hash(data, leaf), hashlib.sha256(data).digest())
    assert treehash.combine(treehash.leaf_hashes(data, leaf)) == tree_hash(data, leaf)


@given(st.lists(st.binary(max_size=12), max_size=12), st.integers(1, 7))
def test_a_hasher_takes_any_split(pieces: list[bytes], leaf: int) -> None:
    hasher = TreeHasher(leaf)
    for piece in pieces:
        hasher.digest()
        hasher.update(piece)
    data = b"".join(pieces)
    assert hasher.digest() == tree_hash(data, leaf)
    assert hasher.digests == treehash.leaf_hashes(data, leaf)


@given(st.lists(st.integers(0, 2 * MIB), max_size=4), st.sampled_from([None, MIB, 2 * MIB]))
def test_a_pack_hasher_hashes_parts_as_well(sizes: list[int], part: int | None) -> None:
    hasher, start = PackHasher(part), 0
    for size in sizes:
        hasher.update(PATTERN[start : start + size])
        start += size
    data = PATTERN[:start]
    assert hasher.tree.digest() == tree_hash(data)
    assert hasher.parts == (treehash.leaf_hashes(data, part) if part else [])


def test_every_split_around_the_leaf_edges() -> None:
    data, leaf = bytes(range(23)), 4
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            hasher = TreeHasher(leaf)
            for piece in (data[:first], data[first:second], data[second:]):
                hasher.update(bytearray(piece))
            assert hasher.digest() == by_definition(data, leaf)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 5), st.integers(0, 4))
def test_parts_of_a_power_of_two_combine(data: bytes, leaf: int, power: int) -> None:
    part = leaf << power
    hashes = [tree_hash(data[start : start + part], leaf) for start in range(0, len(data), part)]
    assert treehash.combine(hashes) == tree_hash(data, leaf)


def test_nothing_has_no_root() -> None:
    with pytest.raises(FormatError):
        treehash.combine([])


@given(st.integers(1, 40_000 * 1024 * MIB), st.integers(0, 12))
def test_a_part_size_is_the_smallest_that_fits(size: int, power: int) -> None:
    preferred = MIB << power
    part = part_size_for(size, preferred)
    assert part & (part - 1) == 0
    assert MIB <= part <= 4096 * MIB
    assert part >= preferred
    assert -(-size // part) <= 10_000
    assert part == preferred or -(-size // (part // 2)) > 10_000


def test_part_sizes_by_example() -> None:
    assert part_size_for(1, 32 * MIB) == 32 * MIB
    assert part_size_for(1, 3 * MIB) == 4 * MIB
    assert part_size_for(10_000 * MIB, MIB) == MIB
    assert part_size_for(10_000 * MIB + 1, MIB) == 2 * MIB
    with pytest.raises(FormatError, match="more than a vault takes"):
        part_size_for(40_000 * 1024 * MIB + 1, MIB)


@given(st.integers(1, 500), st.data(), st.integers(1, 9))
def test_align_gives_the_smallest_aligned_range(size: int, data: st.DataObject, leaf: int) -> None:
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    extent = treehash.align(ByteRange(start, end), size, leaf)
    assert extent.start % leaf == 0
    assert extent.end % leaf == 0 or extent.end == size
    assert extent.start <= start < extent.start + leaf
    assert extent.end - leaf < end <= extent.end


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (0, 0), (5, 4), (0, 11), (10, 11)])
def test_align_refuses_what_is_not_there(start: int, end: int) -> None:
    with pytest.raises(FormatError):
        treehash.align(ByteRange(start, end), 10)


def nodes(first: int, after: int) -> set[tuple[int, int]]:
    """Every node of the tree over leaves [first, after), by its definition."""
    found = {(first, after)}
    if after - first > 1:
        middle = first + (1 << (after - first - 1).bit_length() - 1)
        found |= nodes(first, middle) | nodes(middle, after)
    return found


@pytest.mark.parametrize("leaves", range(1, 34))
def test_aligned_means_a_node_of_the_tree(leaves: int) -> None:
    size, leaf = leaves * 4 - 1, 4
    expected = nodes(0, leaves)
    for first in range(leaves):
        for after in range(first + 1, leaves + 1):
            extent = ByteRange(first * leaf, min(after * leaf, size))
            assert is_tree_aligned(extent, size, leaf) == ((first, after) in expected)


def test_six_and_a_half_mib() -> None:
    size = 6815744
    aligned = {
        (p, q)
        for p in range(7)
        for q in range(p + 1, 8)
        if is_tree_aligned(ByteRange(p * MIB, min(q * MIB, size)), size)
    }
    expected = ["01", "02", "04", "07", "12", "23", "24", "34", "45", "46", "47", "56", "67"]
    assert aligned == {(int(pair[0]), int(pair[1])) for pair in expected}


def test_unaligned_ranges_are_not_aligned() -> None:
    for extent in (ByteRange(1, 8), ByteRange(0, 7), ByteRange(0, 20), ByteRange(8, 8)):
        assert not is_tree_aligned(extent, 10, 4)


@given(st.integers(1, 300), st.data(), st.integers(1, 5), st.integers(1, 40))
def test_pieces_cover_the_range_and_are_nodes(size: int, data: st.DataObject, leaf: int, room: int) -> None:
    start = data.draw(st.integers(0, size - 1))
    extent = treehash.align(ByteRange(start, data.draw(st.integers(start + 1, size))), size, leaf)
    largest = leaf * room
    pieces = list(aligned_pieces(extent, size, largest, leaf))
    assert pieces[0].start == extent.start
    assert pieces[-1].end == extent.end
    assert all(span.end == two.start for span, two in itertools.pairwise(pieces))
    assert all(is_tree_aligned(piece, size, leaf) and piece.length <= largest for piece in pieces)
    total = -(-size // leaf)
    for piece in pieces:
        first, after = piece.start // leaf, -(-piece.end // leaf)
        larger = [q for p, q in nodes(0, total) if p == first and q > after]
        assert all(q * leaf > extent.end + leaf - 1 or (q - first) > room for q in larger)


def test_pieces_refuse_what_is_not_aligned() -> None:
    for extent, largest in ((ByteRange(1, 8), 8), (ByteRange(0, 8), 3), (ByteRange(0, 12), 8)):
        with pytest.raises(FormatError):
            list(aligned_pieces(extent, 10, largest, 4))
