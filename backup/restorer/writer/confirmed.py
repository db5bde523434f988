"""The comparison of target and snapshot that the user confirmed, stored so that it is not repeated later."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from backup.format.rows import pack_u64, unpack_u64


class _StoredComparison(msgspec.Struct, omit_defaults=True):
    kept: bytes
    replaced: int
    extraneous: list[bytes] = msgspec.field(name="surplus")  # its name in inventories since 0.1.0
    crossed: list[bytes] = msgspec.field(default_factory=list)
    inodes: bytes = b""


class Identity(NamedTuple):
    """The identity of a listed entry: its device, the inode of its directory, and its own inode."""

    device: int
    directory: int
    inode: int


class Confirmed(Struct, frozen=True):
    """Numbers of the entries that stay, how many are replaced, and the extraneous paths to remove.

    `crossed` are the mount points on the way from the target to these paths, `inodes` the packed identities
    of the listed entries: none in records of older versions.
    """

    kept: Collection[int] = field(default_factory=frozenset)
    replaced: int = 0
    extraneous: tuple[bytes, ...] = ()
    crossed: tuple[bytes, ...] = ()
    inodes: bytes = b""

    def identities(self) -> Iterator[Identity | None]:
        """Return the identity of each extraneous path; None if it was not stored."""
        if not self.inodes:
            return iter([None] * len(self.extraneous))
        numbers = iter(unpack_u64(self.inodes))
        return map(Identity, numbers, numbers, numbers)

    def encode(self) -> bytes:
        """The value as bytes."""
        row = _StoredComparison(
            pack_u64(sorted(self.kept)), self.replaced, list(self.extraneous), list(self.crossed), self.inodes
        )
        return msgspec.msgpack.encode(row)

    @classmethod
    def decode(cls, data: bytes) -> Confirmed:
        """The value that `encode` packed; empty for a restore begun by a version without it."""
        if not data:
            return NOTHING
        row = msgspec.msgpack.decode(data, type=_StoredComparison)
        kept, removed = frozenset(unpack_u64(row.kept)), tuple(row.extraneous)
        return cls(kept, row.replaced, removed, tuple(row.crossed), row.inodes)


NOTHING = Confirmed()
