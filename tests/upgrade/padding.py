"""The padding of packs, which is left out of a fixture and put back when it is unpacked.

A pack ends on 64 KiB, and its padding is sealed with its directory: nothing compresses it. Zero bytes under
AES-GCM are what the key makes by itself (docs/format.md, 2.3), so the directory's key is enough to have the
very same bytes again. This file goes by the format's page alone, as a later reader might.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from msgspec import Struct

_FIRST_BLOCK = bytes(12) + (2).to_bytes(4, "big")  # nonce of a directory, counter of its first bytes


class Padding(Struct, frozen=True):
    """Where a pack's padding begins and how long it is; where its directory begins, and its key in hex."""

    start: int
    length: int
    directory: int
    key: str


def without(data: bytes, padding: Padding) -> bytes:
    """A pack with zeros in place of its padding. `ValueError` if that could not be undone."""
    end = padding.start + padding.length
    blank = data[: padding.start] + bytes(padding.length) + data[end:]
    if with_it(blank, padding) != data:
        raise ValueError("the pack's padding is not what its directory's key makes")
    return blank


def with_it(blank: bytes, padding: Padding) -> bytes:
    """The pack as it was."""
    cipher = Cipher(algorithms.AES(bytes.fromhex(padding.key)), modes.CTR(_FIRST_BLOCK))
    before = padding.start - padding.directory
    sealed = cipher.encryptor().update(bytes(before + padding.length))[before:]
    return blank[: padding.start] + sealed + blank[padding.start + padding.length :]
