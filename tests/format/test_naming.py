"""Names of chunks and contents: keyed, and different for whatever differs."""

from __future__ import annotations

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
