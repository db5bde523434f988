"""CRC-64/NVME: S3's checksum of a whole object, and its combination from those of the parts.

Source: S3's guide, "Checking object integrity"; the polynomial is that of NVM Express. Why awscrt computes
it: docs/adr/0005-checksums-of-s3.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from backup.model import MIB

_PIECE = 4 * MIB  # awscrt holds the interpreter lock: at most two milliseconds a piece


def crc64(data: bytes | memoryview) -> int:
    """The CRC of some bytes."""
    from awscrt.checksums import crc64nvme

    view, value = memoryview(data).cast("B"), 0
    for start in range(0, len(view), _PIECE):
        value = crc64nvme(view[start : start + _PIECE], value)
    return value


def combine_crc64(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC of all bytes, from the CRC and length of each part, in order."""
    from awscrt.checksums import combine_crc64nvme

    value = 0
    for crc, length in parts:
        value = combine_crc64nvme(value, crc, length)
    return value
