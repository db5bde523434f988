"""Keys as text that survives paper, dictation and copying: base32 with a checksum, read tolerantly."""

from __future__ import annotations

import base64
import binascii
import hashlib

CHECKSUM_SIZE = 3
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RFC4648 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_CROCKFORD = str.maketrans(_RFC4648, _CROCKFORD)
_FROM_CROCKFORD = str.maketrans(_CROCKFORD, _RFC4648)
_LOOK_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})
_DROPPED = {ord(character): None for character in " \t\r\n\v\f-\u00a0\u2010\u2011\u2012\u2013\u2014"}


class TextError(ValueError):
    """The text is not of this form; the message says where."""


def checksum(prefix: str, data: bytes) -> bytes:
    """The first 3 bytes of SHA-256 over prefix (ASCII) and data: misses a typo once in 16 million."""
    return hashlib.sha256(prefix.encode("ascii") + data).digest()[:CHECKSUM_SIZE]


def to_typeable(prefix: str, data: bytes, group: int = 4) -> str:
    """`PREFIX-XXXX-XXXX-…`: Crockford's base32 over data and checksum, in groups of `group`.

    `len(data) + 3` must be a multiple of 5, so that no bits are left over.
    """
    body = base64.b32encode(data + checksum(prefix, data)).decode("ascii").translate(_TO_CROCKFORD)
    return "-".join([prefix, *(body[i : i + group] for i in range(0, len(body), group))])


def from_typeable(prefix: str, text: str, size: int) -> bytes:
    """The `size` bytes of a typeable text; case, blanks, dashes, line ends and O/0, I/L/1 do not matter.

    Raises TextError.
    """
    plain = text.upper().translate(_DROPPED).translate(_LOOK_ALIKE)
    expected = prefix.translate(_LOOK_ALIKE)
    if not plain.startswith(expected):
        raise TextError(f"it does not begin with {prefix}")
    body = plain[len(expected) :]
    for position, character in enumerate(body, 1):
        if character not in _CROCKFORD:
            raise TextError(f"{character!r} in group {(position + 3) // 4} is no character of a key")
    length = (size + CHECKSUM_SIZE) * 8 // 5
    if len(body) != length:
        raise TextError(f"it has {len(body)} characters after {prefix} where {length} belong")
    raw = base64.b32decode(body.translate(_FROM_CROCKFORD))
    return _checked(prefix, raw)


def to_token(prefix: str, data: bytes) -> str:
    """`prefixabc…`: lower-case base32 (RFC 4648, no padding) over data and checksum; for copying only."""
    return prefix + base64.b32encode(data + checksum(prefix, data)).decode("ascii").rstrip("=").lower()


def from_token(prefix: str, text: str, size: int) -> bytes:
    """The `size` bytes of a token; case and white space do not matter. Raises TextError."""
    plain = "".join(text.split()).lower()
    if not plain.startswith(prefix):
        raise TextError(f"it does not begin with {prefix}")
    body = plain[len(prefix) :]
    length = -(-(size + CHECKSUM_SIZE) * 8 // 5)
    if len(body) != length:
        raise TextError(f"it has {len(body)} characters after {prefix} where {length} belong")
    try:
        raw = base64.b32decode(body.upper() + "=" * (-length % 8))
    except (binascii.Error, ValueError) as error:
        raise TextError("it holds a character that is not base32") from error
    data = _checked(prefix, raw)
    if to_token(prefix, data) != plain:
        raise TextError("its last character has bits that must be zero")
    return data


def _checked(prefix: str, raw: bytes) -> bytes:
    data, check = raw[:-CHECKSUM_SIZE], raw[-CHECKSUM_SIZE:]
    if checksum(prefix, data) != check:
        raise TextError("its checksum does not fit: a character is wrong")
    return data
