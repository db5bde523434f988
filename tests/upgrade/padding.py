"""The padding of packs, which is left out of a fixture and put back when it is unpacked.

A pack ends on 64 KiB, and its padding is sealed with its directory: nothing compresses it. Zero bytes under
AES-GCM are what the key makes by itself (docs/format.md, 2.3), so the directory's key is enough to have the
very same bytes again. To put it back goes by the format's page alone, as a later reader might.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from backup.format.header import derive_keys, open_with, parse_header
from backup.format.keys import RecoveryKey
from backup.format.pack import TRAILER_SIZE, parse_trailer

PADDINGS = "paddings.json"
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


def leave_out(work: Path, packs: Mapping[str, Path], keys: Sequence[RecoveryKey]) -> None:
    """Put zeros in place of the padding of each pack, and keep in `work`, by its name, how to undo that."""
    paddings = {}
    for name, path in packs.items():
        data = path.read_bytes()
        padding = paddings[name] = _padding_of(data, keys)
        path.write_bytes(without(data, padding))
    (work / PADDINGS).write_bytes(msgspec.json.encode(paddings))


def put_back(work: Path, path_of: Callable[[str], Path]) -> None:
    """Undo that; `path_of` is where the pack of a name lies."""
    paddings = msgspec.json.decode((work / PADDINGS).read_bytes(), type=dict[str, Padding])
    for name, padding in paddings.items():
        path = path_of(name)
        path.write_bytes(with_it(path.read_bytes(), padding))


def _padding_of(data: bytes, keys: Sequence[RecoveryKey]) -> Padding:
    header = parse_header(data)
    key = derive_keys(open_with(header, keys), header.raw).directory_key
    offset, length = parse_trailer(data[-TRAILER_SIZE:])
    sealed = data[offset : offset + length]
    plain = AESGCM(key).decrypt(bytes(12), sealed, b"nightvault 1 directory" + header.fields.pack_id)
    used = 16 + int.from_bytes(plain[:4], "little")
    return Padding(offset + used, len(plain) - used, offset, key.hex())
