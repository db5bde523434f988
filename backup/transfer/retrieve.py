"""Bring ranges of archives down: asked for once, fetched in pieces, verified, frame by frame.

What comes back is checked twice: by the vault's tree hash where it gives one, and by each frame's own digest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from backup.errors import IntegrityError
from backup.format.frame import check_digest
from backup.format.treehash import aligned_pieces, tree_hash
from backup.model import MIB, ByteRange, FrameRow, RetrievalId
from backup.protocols import Clock, Vault
from backup.transfer.retry import Patience

_PIECE = 16 * MIB
_TRIES = 3


@dataclass(frozen=True, slots=True)
class ReadyRange:
    """A range of an archive that the vault has made readable, and the frames wanted from it, by offset."""

    retrieval_id: RetrievalId
    archive_size: int
    extent: ByteRange
    frames: Sequence[FrameRow]


class Fetcher:
    """Fetches pieces ahead on worker threads: at most `ahead` pieces of 16 MiB wait. It ends its threads."""

    def __init__(self, vault: Vault, clock: Clock, *, ahead: int = 3) -> None:
        self._vault = vault
        self._patience = Patience(clock)
        self._ahead = ahead
        self._workers = ThreadPoolExecutor(ahead, "fetch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)

    def frames(self, ready: ReadyRange) -> Iterator[tuple[FrameRow, bytes | None]]:
        """The sealed bytes of each wanted frame, verified by digest; None where they stay wrong.

        Pieces that hold no wanted frame are not fetched.
        """
        held = bytearray()
        held_from = ready.extent.start
        pieces = self._pieces(ready)
        for row in ready.frames:
            end = row.offset + row.sealed_length
            while held_from + len(held) < end:
                piece, data = next(pieces)
                if piece.start != held_from + len(held):  # a gap without wanted frames was skipped
                    held.clear()
                    held_from = piece.start
                held += data
            start = row.offset - held_from
            sealed = bytes(memoryview(held)[start : start + row.sealed_length])
            del held[: start + row.sealed_length]
            held_from = end
            yield row, self._checked(ready, row, sealed)

    def _pieces(self, ready: ReadyRange) -> Iterator[tuple[ByteRange, bytes]]:
        wanted = [
            piece
            for piece in aligned_pieces(ready.extent, ready.archive_size, _PIECE)
            if any(_overlap(piece, row) for row in ready.frames)
        ]
        under_way: deque[tuple[ByteRange, Future[bytes]]] = deque()
        for piece in wanted:
            under_way.append((piece, self._workers.submit(self._fetch, ready, piece)))
            if len(under_way) >= self._ahead:
                first, future = under_way.popleft()
                yield first, future.result()
        for first, future in under_way:
            yield first, future.result()

    def _checked(self, ready: ReadyRange, row: FrameRow, sealed: bytes) -> bytes | None:
        """The frame if its digest is right; fetched alone once more if not."""
        for _ in range(_TRIES):
            try:
                check_digest(row, sealed)
            except IntegrityError:
                sealed = self._fetch_exact(ready, ByteRange(row.offset, row.offset + row.sealed_length))
                continue
            return sealed
        return None

    def _fetch(self, ready: ReadyRange, piece: ByteRange) -> bytes:
        """A piece whose bytes match the vault's own hash, where it gives one; tried again if they do not."""
        data = b""
        for _ in range(_TRIES):
            fetched = self._patience.call(
                lambda: self._vault.fetch(ready.retrieval_id, _within(ready, piece))
            )
            data = bytes(fetched.data)
            if fetched.tree_hash is None or tree_hash(data) == fetched.tree_hash:
                break
        return data  # what is wrong to the end shows in its frames' digests

    def _fetch_exact(self, ready: ReadyRange, extent: ByteRange) -> bytes:
        within = _within(ready, extent)
        return bytes(self._patience.call(partial(self._vault.fetch, ready.retrieval_id, within)).data)


def _within(ready: ReadyRange, extent: ByteRange) -> ByteRange:
    start = ready.extent.start
    return ByteRange(extent.start - start, extent.end - start)


def _overlap(piece: ByteRange, row: FrameRow) -> bool:
    return piece.start < row.offset + row.sealed_length and row.offset < piece.end
