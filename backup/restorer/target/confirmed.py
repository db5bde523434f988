"""What a look at the target gave before a restore began: kept with it, so that nothing is judged anew."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from backup.format.rows import pack_u64, unpack_u64


class _Kept(msgspec.Struct):
    kept: bytes
    replaced: int
    extraneous: list[bytes] = msgspec.field(name="surplus")  # its name in inventories since 0.1.0


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Numbers of the entries that stay as they are, how many are replaced, and which paths are to go."""

    kept: Collection[int] = field(default_factory=frozenset)
    replaced: int = 0
    extraneous: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """As bytes."""
        row = _Kept(pack_u64(sorted(self.kept)), self.replaced, list(self.extraneous))
        return msgspec.msgpack.encode(row)

    @classmethod
    def decode(cls, data: bytes) -> Confirmed:
        """From what `encode` gave; nothing where a restore was begun before there was such a thing."""
        if not data:
            return NOTHING
        row = msgspec.msgpack.decode(data, type=_Kept)
        return cls(frozenset(unpack_u64(row.kept)), row.replaced, tuple(row.extraneous))


NOTHING = Confirmed()
