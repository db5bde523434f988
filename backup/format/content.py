"""The signature over a catalog's whole content, which its last record carries.

Whoever can open a catalog knows its pack key, and could seal other frames in it. What is signed is the
hash of its header and of all pieces before the last, with their lengths, as they lie in the bodies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from backup.errors import FormatError
from backup.format.header import CatalogOption, Header
from backup.format.keys import Signer, verify

_SIGNED: Final = b"nightvault 1 content"


class Content:
    """The content of a catalog that is being written; `header_hash` is SHA-256 of its whole header."""

    def __init__(self, signer: Signer, header_hash: bytes) -> None:
        self._signer = signer
        self._header_hash = header_hash
        self._hash = hashlib.sha256()

    def update(self, body: bytes | bytearray) -> None:
        """Add the next body."""
        self._hash.update(body)

    def sign(self) -> bytes:
        """The signature over all bodies so far, 64 bytes."""
        return self._signer.sign(_SIGNED + self._header_hash + self._hash.digest())


class SignedContent:
    """The content of a catalog that is being read: its signature, where it has one, must fit."""

    def __init__(self, header: Header) -> None:
        place = header.fields.catalog
        self._is_signed = place is not None and CatalogOption.SIGNED_CONTENT in place.options
        self._header = header
        self._hash = hashlib.sha256()
        self._last: bytes | memoryview = b""

    def of(self, bodies: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """The bodies, each hashed when the next is read."""
        for body in bodies:
            self._hash.update(self._last)
            self._last = body
            yield body

    def verify(self, signature: bytes | None, length: int) -> None:
        """`FormatError` unless the signature fits; the last piece is the last `length` bytes of its body."""
        if signature is None:
            if self._is_signed:
                raise FormatError("the catalog's content lacks its signature")
            return
        whole = self._hash.copy()
        whole.update(memoryview(self._last)[: len(self._last) - length])
        signed = _SIGNED + self._header.hash + whole.digest()
        verify(self._header.fields.signer_public, signature, signed)
