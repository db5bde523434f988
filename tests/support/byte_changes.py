"""Bytes flipped, cut and inserted by chance, for parsers that must survive it."""

from __future__ import annotations

from hypothesis import strategies as st

CHANGES = st.lists(
    st.tuples(st.integers(0, 4000), st.sampled_from(["flip", "cut", "insert"]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: list[tuple[int, str, int]]) -> bytes:
    out = bytearray(data)
    for place, how, value in changes:
        at = place % (len(out) + 1)
        if how == "cut":
            del out[at : at + 1 + value % 8]
        elif how == "insert":
            out[at:at] = bytes([value])
        elif at < len(out):
            out[at] = value
    return bytes(out)
