"""Downloads ranges of archives: in pieces, ahead of their reader, verified frame by frame.

What comes back is checked twice: by the vault's tree hash where it gives one, and by each frame's own digest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

from msgspec import Struct

from backup.errors import IntegrityError, NightvaultError, VaultError
from backup.format.frame import check_digest
from backup.format.treehash import aligned_pieces, tree_hash
from backup.model import MIB, Buffer, ByteRange, Fetched, FrameRow, RetrievalId
from backup.protocols import Clock, Vault
from backup.transfer.fault_scope import look_beneath, require_own_fault
from backup.transfer.retry import RetryPolicy

PIECE = 16 * MIB
_FREE_PIECE = 4 * MIB  # where more requests cost nothing: less memory, and it may still be in the processor's
TRIES = 3

GivenUp = Callable[[FrameRow, NightvaultError], object]


class ReadyRange(Struct, frozen=True):
    """A range of an archive that the vault has made readable, and the frames wanted from it, by offset.

    Each frame lies within `extent`, which begins and ends on whole MiB or with the archive. `elsewhere`
    gives a range of the same archive from other vaults: there a frame is looked for that comes back wrong.
    """

    retrieval_id: RetrievalId
    archive_size: int
    extent: ByteRange
    frames: Sequence[FrameRow]
    elsewhere: Callable[[ByteRange], Iterable[Buffer]] = lambda _: ()


class _FetchedPiece(NamedTuple):
    """A fetched piece, its place in the archive, and which of the frames in it have their digest.

    With an `error` nothing was: the archive cannot be read here.
    """

    start: int
    end: int
    data: memoryview
    right: frozenset[FrameRow]
    error: NightvaultError | None = None


class Fetcher:
    """Fetches pieces ahead on worker threads: at most `ahead` of `piece` bytes wait. It ends its threads.

    From a vault that fetches for nothing, pieces are smaller and end with frames: no frame is in two.
    """

    def __init__(
        self,
        vault: Vault,
        clock: Clock,
        *,
        ahead: int = 3,
        piece: int = PIECE,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._vault = vault
        self._patience = RetryPolicy(clock, tell=tell)
        self._ahead = ahead = min(ahead, 2) if vault.traits.fetches_for_nothing else ahead  # no delay to hide
        self._piece = piece
        self._workers = ThreadPoolExecutor(ahead, "fetch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)

    def frames(
        self,
        ready: ReadyRange,
        *,
        every: Callable[[memoryview], object] | None = None,
        given_up: GivenUp | None = None,
    ) -> Iterator[tuple[FrameRow, Buffer | None]]:
        """The sealed bytes of each wanted frame, verified by digest; None where they stay wrong.

        Pieces that hold no wanted frame are not fetched, unless `every` is given: it sees the bytes of all
        pieces, in order, as they came. The vault's errors are raised as they are. But if `given_up` is given,
        an error of this archive alone is passed to it, with the frames that cannot be read (yielded as None).
        """
        held: deque[_FetchedPiece] = deque()
        passed = ready.extent.start
        pieces = self._pieces(ready, every, may_fail=given_up is not None)
        for row in ready.frames:
            if row.offset < passed:  # frames that overlap: no pack of ours, but no reason to stop
                yield row, self._fetch_frame(ready, row, given_up)
                continue
            passed = row.offset + row.sealed_length
            while held and held[0].end <= row.offset:
                held.popleft()
            while not held or held[-1].end < passed:
                held.append(next(pieces))
            yield row, _held(held, row) or self._fetch_frame(ready, row, given_up)
        if every is not None:
            for _ in pieces:
                pass

    def _pieces(
        self, ready: ReadyRange, every: Callable[[memoryview], object] | None, *, may_fail: bool
    ) -> Iterator[_FetchedPiece]:
        under_way: deque[Future[_FetchedPiece]] = deque()
        offsets = [row.offset for row in ready.frames]
        if every is not None:
            places = aligned_pieces(ready.extent, ready.archive_size, self._piece)
        elif self._vault.traits.fetches_for_nothing:
            places = whole_frames(ready.frames, min(self._piece, _FREE_PIECE))
        else:
            places = wanted_pieces(ready, self._piece)
        for place in places:
            within = ready.frames[bisect_left(offsets, place.start) : bisect_left(offsets, place.end)]
            under_way.append(self._workers.submit(self._fetch, ready, place, within, may_fail))
            if len(under_way) >= self._ahead:
                yield _arrived(under_way.popleft(), every)
        while under_way:
            yield _arrived(under_way.popleft(), every)

    def _fetch(
        self, ready: ReadyRange, place: ByteRange, frames: Sequence[FrameRow], may_fail: bool
    ) -> _FetchedPiece:
        """A piece whose bytes match the vault's own hash, where it gives one; tried again if they do not."""
        try:
            fetched = self._ask_for_right(ready, place)
        except NightvaultError as error:
            if not may_fail:
                raise
            require_own_fault(error, self._vault, self._patience)
            return _FetchedPiece(place.start, place.end, memoryview(b""), frozenset(), error)
        data = memoryview(bytes(fetched.data))  # what is wrong to the end shows in its frames' digests
        right: set[FrameRow] = set()
        passed = place.start
        for row in frames:
            start, end = row.offset, row.offset + row.sealed_length
            if passed <= start and end <= place.end:
                passed = end
                if _is_right(row, data[start - place.start : end - place.start]):
                    right.add(row)
        return _FetchedPiece(place.start, place.end, data, frozenset(right))

    def _ask_for_right(self, ready: ReadyRange, place: ByteRange) -> Fetched:
        for _ in range(TRIES):
            fetched = self._ask(ready, place)
            if fetched.tree_hash is None or tree_hash(fetched.data) == fetched.tree_hash:
                break
        return fetched

    def _fetch_frame(self, ready: ReadyRange, row: FrameRow, given_up: GivenUp | None) -> bytes | None:
        """A frame alone, as its piece came back wrong or not at all; None if that does not help."""
        try:
            for _ in range(TRIES):
                sealed = bytes(self._ask(ready, ByteRange(row.offset, row.offset + row.sealed_length)).data)
                if _is_right(row, sealed):
                    return sealed
                look_beneath(self._vault, ready.retrieval_id)
        except NightvaultError as error:
            found = self._from_elsewhere(ready, row)
            if found is not None:
                return found
            if given_up is None:
                raise
            require_own_fault(error, self._vault, self._patience)
            given_up(row, error)
            return None
        return self._from_elsewhere(ready, row)

    def _from_elsewhere(self, ready: ReadyRange, row: FrameRow) -> bytes | None:
        """The frame from another vault with the same archive."""
        for sealed in ready.elsewhere(ByteRange(row.offset, row.offset + row.sealed_length)):
            if len(sealed) == row.sealed_length and _is_right(row, sealed):
                return bytes(sealed)
        return None

    def _ask(self, ready: ReadyRange, extent: ByteRange) -> Fetched:
        start = ready.extent.start
        within = ByteRange(extent.start - start, extent.end - start)
        fetched = self._patience.call(lambda: self._vault.fetch(ready.retrieval_id, within))
        if len(fetched.data) != extent.length:
            raise VaultError(
                f"the vault gave {len(fetched.data)} bytes of retrieval {ready.retrieval_id}, "
                f"not the {extent.length} that were asked for"
            )
        return fetched


def wanted_pieces(ready: ReadyRange, largest: int) -> Iterator[ByteRange]:
    """The pieces of a range that hold wanted frames, in order."""
    rows = iter(ready.frames)
    row = next(rows, None)
    for piece in aligned_pieces(ready.extent, ready.archive_size, largest):
        while row is not None and row.offset + row.sealed_length <= piece.start:
            row = next(rows, None)
        if row is None:
            return
        if row.offset < piece.end:
            yield piece


def whole_frames(rows: Iterable[FrameRow], largest: int) -> Iterator[ByteRange]:
    """Pieces that begin and end with frames, in order: of `largest` bytes at most, or of one frame."""
    place: ByteRange | None = None
    for row in rows:
        start, end = row.offset, row.offset + row.sealed_length
        if place is None:
            place = ByteRange(start, end)
        elif start < place.end:  # frames that overlap are fetched one by one
            continue
        elif end - place.start <= largest:
            place = ByteRange(place.start, end)
        else:
            yield place
            place = ByteRange(start, end)
    if place is not None:
        yield place


def _arrived(future: Future[_FetchedPiece], every: Callable[[memoryview], object] | None) -> _FetchedPiece:
    piece = future.result()
    if every is not None:
        every(piece.data)
    return piece


def _held(pieces: Sequence[_FetchedPiece], row: FrameRow) -> Buffer | None:
    """A frame's bytes if the pieces that hold it came, and it has its digest."""
    start, end = row.offset, row.offset + row.sealed_length
    if any(piece.error is not None and piece.start < end and start < piece.end for piece in pieces):
        return None
    sealed = _joined(pieces, start, end)
    return sealed if any(row in piece.right for piece in pieces) or _is_right(row, sealed) else None


def _joined(pieces: Iterable[_FetchedPiece], start: int, end: int) -> Buffer:
    """A frame's bytes: of one piece, or copied together of those that hold it, which follow each other."""
    parts = [
        piece.data[max(start - piece.start, 0) : end - piece.start]
        for piece in pieces
        if piece.start < end and start < piece.end
    ]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_right(row: FrameRow, sealed: Buffer) -> bool:
    try:
        check_digest(row, sealed)
    except IntegrityError:
        return False
    return True
