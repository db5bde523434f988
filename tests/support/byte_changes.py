"""Bytes flipped, cut and inserted by chance, for parsers that must survive it, and a forged CRC."""

from __future__ import annotations

from hypothesis import strategies as st

from backup.format.crc64 import combine_crc64, crc64

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


def with_crc64(size: int, wanted: int) -> bytes:
    """Bytes of that size with that CRC-64, which is affine in the last 64 bits."""
    head = b"J" * (size - 8)
    whole = combine_crc64([(crc64(head), len(head)), (crc64(bytes(8)), 8)])
    rows = [(crc64((1 << bit).to_bytes(8, "little")) ^ crc64(bytes(8)), 1 << bit) for bit in range(64)]
    left, tail = wanted ^ whole, 0
    for bit in reversed(range(64)):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [
            (row[0] ^ pivot[0], row[1] ^ pivot[1]) if row[0] >> bit & 1 else row
            for row in rows
            if row is not pivot
        ]
        if left >> bit & 1:
            left, tail = left ^ pivot[0], tail ^ pivot[1]
    return head + tail.to_bytes(8, "little")
