"""S3's checksums: the algorithms, computing them over pieces, and joining those of parts.

Source: S3 User Guide (checking-object-integrity). A value is big-endian bytes in base64; a composite one is
the checksum of the parts' checksums with `-<parts>` behind.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from awscrt import checksums as crt
from msgspec import Struct

FULL, COMPOSITE = "FULL_OBJECT", "COMPOSITE"
DEFAULT = "CRC64NVME"
PIECE_BYTES = 4 * 1024 * 1024  # awscrt holds the interpreter lock: not for more than 2 ms at once


class Running(Protocol):
    """A checksum being computed."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """The checksum of all bytes so far."""


class _Crc:
    def __init__(self, compute: Callable[[bytes, int], int], width: int) -> None:
        self._compute, self._width, self._value = compute, width, 0

    def update(self, data: memoryview | bytes, /) -> None:
        view = memoryview(data)
        for at in range(0, len(view), PIECE_BYTES):
            self._value = self._compute(view[at : at + PIECE_BYTES], self._value)  # type: ignore[arg-type]

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def _crc32(data: bytes, before: int) -> int:
    return zlib.crc32(data, before)


class Algorithm(Struct, frozen=True):
    """One algorithm: the size of its value, and the function that joins the values of two parts."""

    name: str
    width: int
    start: Callable[[], Running]
    combine: Callable[[int, int, int], int] | None = None

    @property
    def header(self) -> str:
        """The header's name, such as `x-amz-checksum-crc32`."""
        return f"x-amz-checksum-{self.name.lower()}"

    @property
    def element(self) -> str:
        """The XML element's name, such as `ChecksumCRC32`."""
        return f"Checksum{self.name}"

    @property
    def types(self) -> tuple[str, ...]:
        """The types that a multipart upload may have, the default first."""
        if self.name == DEFAULT:
            return (FULL,)
        return (COMPOSITE,) if self.combine is None else (COMPOSITE, FULL)

    def is_value(self, text: str) -> bool:
        """Whether a text is base64 of the right length."""
        try:
            return len(base64.b64decode(text, validate=True)) == self.width
        except (binascii.Error, ValueError):
            return False

    def composite(self, values: Sequence[str]) -> str:
        """The checksum of the parts' checksums."""
        running = self.start()
        running.update(b"".join(base64.b64decode(value) for value in values))
        return f"{encode(running.digest())}-{len(values)}"

    def joined(self, values: Sequence[tuple[str, int]]) -> str:
        """The checksum of a whole from (value, bytes) of its parts in order."""
        assert self.combine is not None  # noqa: S101
        whole = 0
        for value, length in values:
            whole = self.combine(whole, int.from_bytes(base64.b64decode(value), "big"), length)
        return encode(whole.to_bytes(self.width, "big"))


ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("CRC32", 4, lambda: _Crc(_crc32, 4), crt.combine_crc32),
        Algorithm("CRC32C", 4, lambda: _Crc(crt.crc32c, 4), crt.combine_crc32c),
        Algorithm("CRC64NVME", 8, lambda: _Crc(crt.crc64nvme, 8), crt.combine_crc64nvme),
        Algorithm("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False)),
        Algorithm("SHA256", 32, hashlib.sha256),
    )
}
BY_HEADER = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}


def encode(digest: bytes) -> str:
    """Base64 as S3 writes it."""
    return base64.b64encode(digest).decode()
