"""The tree hash and its ranges, held against the published vectors and against brute force."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.emulator.core.http.treehash import (
    LEAF_BYTES,
    TreeHasher,
    is_megabyte_aligned,
    is_tree_aligned,
    root,
    split,
)
from tests.emulator.glacier.aligned_ranges import SEVEN
from tests.support.emulator_clients import MIB, pattern

VECTORS = [
    (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", None),
    (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", None),
    (1048575, "8b55c6a2d3444092a316985030e00c1e6f8608eaf912c896dee7c374d440ed11", None),
    (1048576, "631b84027d6b9e52b539c4e8373622d23032dfadc64d60af87339c9037e4f769", None),
    (
        1048577,
        "a9c574ce937d2371daf87cdd0e75396b096d7f74a66c764e4c656bd12b2e7bf9",
        "5769f52bc3eef28afa39c6fc68cadb7d0bd69812ae3a3d71452f519ec3c7aa56",
    ),
    (
        2097152,
        "bf4dff263ae686b64403208c35a3767e38453d6477e841947588d13d04e1d816",
        "1e075c8d478ad21844e33e830a695ef03a4d2488b69ee275bd8947618bb1be1e",
    ),
    (
        3145728,
        "2e7d51c0ffe06ce95fe74beed9a4ab35d18837f4ab2a9f4f066a60359eb999a1",
        "a1feacf0d812ba4d0b0e463ed45bbd583cea1de55c54693116754b30b5794745",
    ),
    (
        4194304,
        "c7d749cd55cefa8ed8fbc208202e18d019b7701f29886f7c5d662d77b3903833",
        "a117210941a0b00dcb2d8577e680d84b6fa0eaf760d2afc654c953b9859d54fa",
    ),
    (
        5767168,
        "3493387cee361be12e24da9c024bf3e2a55f81df464f6ae822209f79a92248f5",
        "e06c1178d81a126be5aea1c067d9be2ed1a3ae33a59f1e1633c135d619ab4d53",
    ),
    (
        6815744,
        "8bcaa7b4b8f991ca140f306627f2c4e84601364cde8e054b6e0924433ca7482f",
        "c05bf74d8dfb7c1a1c0e851433c0c8aba70641b14348d1f0fbc1ca560d0a2192",
    ),
    (
        7340033,
        "3105acdc933c7cf0db853a027647f6670634b8927c37d0be473be0d148a40e03",
        "03148e5557a9c605edc6d9af9f0373ceb698487000f049e14c55bcf6bbd1815a",
    ),
]


@pytest.mark.parametrize(("size", "tree", "linear"), VECTORS)
def test_published_vectors(size: int, tree: str, linear: str | None) -> None:
    hasher = TreeHasher()
    hasher.update(pattern(size))
    assert root(split(hasher.leaves())) == tree
    assert hasher.linear() == (linear or tree)
    assert hasher.size == size


def test_file_of_a_real_run() -> None:
    hasher = TreeHasher()
    hasher.update(b"test\n")
    assert root(split(hasher.leaves())) == "f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2"


@given(cuts=st.lists(st.integers(0, 2 * MIB + 77), max_size=4))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    data = pattern(2 * MIB + 77)
    whole, fed = TreeHasher(), TreeHasher()
    whole.update(data)
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        fed.update(data[start:end])
    assert (fed.leaves(), fed.linear(), fed.size) == (whole.leaves(), whole.linear(), whole.size)


def _brute_root(leaves: list[bytes]) -> bytes:
    """Recursively: the left half is the greatest power of two below the count."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(_brute_root(leaves[:half]) + _brute_root(leaves[half:])).digest()


@given(count=st.integers(1, 300))
def test_root_is_that_of_the_recursive_definition(count: int) -> None:
    leaves = [hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(count)]
    assert root(leaves) == _brute_root(leaves).hex()


def _nodes(first: int, last: int) -> set[tuple[int, int]]:
    """All nodes of the tree over leaves [first, last)."""
    if last - first == 1:
        return {(first, last)}
    half = first + (1 << (last - first - 1).bit_length() - 1)
    return {(first, last)} | _nodes(first, half) | _nodes(half, last)


@pytest.mark.parametrize("short", [0, MIB // 2])
def test_aligned_ranges_are_the_nodes_of_the_tree(short: int) -> None:
    for count in range(1, 40):
        size = count * LEAF_BYTES - short
        nodes = _nodes(0, count)
        for first in range(count):
            for last in range(first + 1, count + 1):
                end = min(last * LEAF_BYTES, size)
                assert is_tree_aligned(first * LEAF_BYTES, end, size) == ((first, last) in nodes)


def test_the_list_for_seven_leaves() -> None:
    size = 6 * MIB + MIB // 2
    found = {
        (p, q)
        for p in range(7)
        for q in range(p + 1, 8)
        if is_tree_aligned(p * MIB, min(q * MIB, size), size)
    }
    assert found == SEVEN


@given(start=st.integers(-5, 3 * MIB), end=st.integers(-5, 3 * MIB + 9), size=st.integers(1, 3 * MIB))
def test_bytes_off_the_leaves_are_never_aligned(start: int, end: int, size: int) -> None:
    aligned = is_tree_aligned(start, end, size)
    assert not aligned or is_megabyte_aligned(start, end, size)
    if start % MIB or (end % MIB and end != size) or end > size or start >= end:
        assert not aligned
        assert not is_megabyte_aligned(start, end, size)
