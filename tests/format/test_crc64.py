"""CRC-64/NVME against the standard's vectors, and the law that parts give the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.format.crc64 import combine_crc64, crc64

MIB = 1 << 20


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xAE8B14860A799888),  # catalogue of parametrised CRC algorithms, CRC-64/NVME
        (bytes(4096), 0x6482D367EB22B64E),  # NVM Express command set 1.0b, 5.2.1.3.5
        (b"\xff" * 4096, 0xC0DDBA7302ECA3AC),
    ],
)
def test_known_values(data: bytes, expected: int) -> None:
    assert crc64(data) == expected
    assert crc64(memoryview(bytearray(data))) == expected


@given(st.lists(st.binary(max_size=100), max_size=8))
def test_parts_give_the_whole(parts: list[bytes]) -> None:
    assert combine_crc64((crc64(part), len(part)) for part in parts) == crc64(b"".join(parts))


def test_pieces_make_no_difference() -> None:
    data = bytes(range(256)) * (9 * MIB // 256) + b"x"
    half = 5 * MIB + 7
    halves = [data[:half], data[half:]]
    assert combine_crc64((crc64(part), len(part)) for part in halves) == crc64(data)
