"""Names of chunks and contents: keyed, and different for whatever differs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from backup.format import naming

SEEDS = st.binary(min_size=32, max_size=32)


@given(st.lists(st.tuples(SEEDS, st.integers(0, 2**32 - 1)), max_size=6))
def test_a_content_id_tells_every_list_apart(chunks: list[tuple[bytes, int]]) -> None:
    ids, lengths = [c[0] for c in chunks], [c[1] for c in chunks]
    named = naming.content_id(bytes(32), ids, lengths)
    assert len(named) == 16
    assert named != naming.content_id(b"k" * 32, ids, lengths)
    assert named != naming.content_id(bytes(32), [*ids, bytes(32)], [*lengths, 0])
    if chunks:
        assert named != naming.content_id(bytes(32), ids, [lengths[0] ^ 1, *lengths[1:]])
        assert (named == naming.content_id(bytes(32), ids[::-1], lengths[::-1])) == (chunks == chunks[::-1])


def test_ids_are_keyed_blake3() -> None:
    key = bytes(range(32))
    assert naming.chunk_id(key, b"abc") == blake3(b"abc", key=key).digest()
    assert naming.chunk_id(key, memoryview(b"abc")) == naming.chunk_id(key, b"abc")
    joined = b"i" * 32 + (5).to_bytes(4, "little")
    assert naming.content_id(key, [b"i" * 32], [5]) == blake3(joined, key=key).digest()[:16]
    sparse = naming.content_id(key, [b"i" * 32], [5], b"holes")
    assert sparse == blake3(joined + bytes(36) + b"holes", key=key).digest()[:16]
    with pytest.raises(ValueError, match="zip"):
        naming.content_id(key, [b"i" * 32], [])


@given(st.lists(st.integers(1, 300), max_size=12), st.data())
def test_ids_of_chunks_in_pieces_are_those_of_the_whole(lengths: list[int], data: st.DataObject) -> None:
    """However it is cut; bytes behind the last chunk, and a last chunk that lacks some, are no chunk."""
    key, whole = bytes(range(32)), bytes(place % 251 for place in range(sum(lengths)))
    behind = data.draw(st.binary(max_size=5))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole + behind)), max_size=8)))
    ends = [0, *cuts, len(whole + behind)]
    pieces = [memoryview(whole + behind)[start:end] for start, end in pairwise(ends)]
    ids = naming.chunk_ids(key, memoryview(whole), lengths)
    assert naming.ids_of_pieces(key, pieces, lengths) == ids
    if lengths:
        assert naming.ids_of_pieces(key, [whole[:-1]], lengths) == ids[:-1]
