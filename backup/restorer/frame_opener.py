"""Frames opened on a thread of their own, one ahead of the reader: that is C, which needs no interpreter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from backup.errors import FormatError, IntegrityError, NightvaultError
from backup.format.frame import FrameCodec
from backup.format.pack import PackKeys
from backup.model import Buffer, FrameRow, PackId

Arrived = tuple[FrameRow, "Future[bytes]"]


@dataclass(frozen=True, slots=True)
class OpenedArchive:
    """All that opens an archive's frames; `why`, by number, some of them do not come."""

    pack_id: PackId
    keys: PackKeys = field(repr=False)
    why: Mapping[int, str] = field(default_factory=dict)


class Opener:
    """For one reader; a context manager that ends its thread."""

    def __init__(self) -> None:
        self._codec = FrameCodec()
        self._worker = ThreadPoolExecutor(1, "open")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    def opened(
        self, archive: OpenedArchive, frames: Iterable[tuple[FrameRow, Buffer | None]]
    ) -> Iterator[Arrived]:
        """The chunks of each frame, joined, as a future, in order; of sealed bytes whose digest was checked.

        Its result is an IntegrityError where the frame does not open, or did not come back (None). What ends
        `frames` early comes out after the frames before it.
        """
        before: Arrived | None = None
        try:
            for row, sealed in frames:
                arrived = row, self._worker.submit(self._open, archive, row, sealed)
                if before is not None:
                    yield before
                before = arrived
        except NightvaultError:
            if before is not None:
                yield before
            raise
        if before is not None:
            yield before

    def _open(self, archive: OpenedArchive, row: FrameRow, sealed: Buffer | None) -> bytes:
        if sealed is None:
            why = archive.why.get(row.number)
            if why is not None:
                raise IntegrityError(f"its data cannot be had from the vault: {why}")
            raise IntegrityError("its data came back damaged from the vault")
        try:
            return self._codec.open_checked(archive.keys.frame_key, archive.pack_id, row, sealed)
        except (FormatError, IntegrityError) as error:
            raise IntegrityError(f"its data cannot be opened: {error}") from error
