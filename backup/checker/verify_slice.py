"""Verifies one downloaded piece of an archive: hashes, frames, and with a key the chunks in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backup.checker.sample import Slice, frames_in
from backup.errors import ArchiveShortError, FormatError, IntegrityError, NewerFormatError, RecoveryKeyError
from backup.format.frame import FrameCodec
from backup.format.keys import RecoveryKey
from backup.format.naming import chunk_id
from backup.format.pack import PackKeys, derive_keys, open_header, parse_header
from backup.format.treehash import TreeHasher
from backup.inventory.content import packed
from backup.inventory.content.archives import Archive
from backup.inventory.records.readings import Reading, Result
from backup.inventory.store.database import Inventory
from backup.model import ByteRange, ChunkRow, FrameRow, RetrievalId
from backup.transfer.retrieve import Fetcher, ReadyRange

TRIES = 2
_CUT_SHORT = "the archive ends too soon"


class Prover:
    """Fetches and verifies pieces, one after the other; for one thread."""

    def __init__(self, inventory: Inventory, fetcher: Fetcher, chunk_key: bytes) -> None:
        self._inventory = inventory
        self._fetcher = fetcher
        self._chunk_key = chunk_key
        self._codec = FrameCodec()

    def prove(self, reading: Reading, archive: Archive, keys: PackKeys | None) -> Result:
        """Read a ready piece; returns the result. The vault's errors are raised, but for missing bytes."""
        with self._inventory.reading() as tx:
            wanted = frames_in(
                Slice(reading.archive, reading.start, reading.end), packed.frame_rows(tx, archive.number)
            )
            chunks = _by_frame(packed.chunks_of(tx, archive.number)[1]) if keys else {}
        result = Result()
        for _ in range(TRIES):  # what a wire spoilt is right the second time
            result = self._read(reading, archive, wanted, keys, chunks)
            if not result.is_damaged:
                break
        return result

    def _read(
        self,
        reading: Reading,
        archive: Archive,
        wanted: Sequence[FrameRow],
        keys: PackKeys | None,
        chunks: Mapping[int, Sequence[ChunkRow]],
    ) -> Result:
        is_whole = reading.asked == ByteRange(0, archive.size)
        result = Result(is_whole=is_whole, size=reading.asked.length)
        hasher = TreeHasher()
        left = {row.number for row in wanted}
        ready = ReadyRange(reading.retrieval_id or RetrievalId(""), archive.size, reading.asked, wanted)
        try:
            for row, sealed in self._fetcher.frames(ready, every=hasher.update):
                left.discard(row.number)
                result.frames += 1
                if sealed is None or not self._opens(archive, row, sealed, keys, chunks, result):
                    result.bad.append(row.number)
        except (ArchiveShortError, IntegrityError):
            result.bad += sorted(left)
            result.note = _CUT_SHORT
        if is_whole and not result.is_damaged and hasher.digest() != archive.tree_hash:
            result.note = "its frames are right, but its tree hash is not what was stored"
        return result

    def _opens(
        self,
        archive: Archive,
        row: FrameRow,
        sealed: bytes | memoryview,
        keys: PackKeys | None,
        chunks: Mapping[int, Sequence[ChunkRow]],
        result: Result,
    ) -> bool:
        """Whether a frame holds the chunks that it should; without a key that is not asked."""
        if keys is None:
            return True
        try:
            raw = memoryview(self._codec.open_checked(keys.frame_key, archive.label.pack_id, row, sealed))
        except (FormatError, IntegrityError):
            return False
        result.opened += 1
        mine = chunks.get(row.number, ())
        result.chunks += len(mine)
        key = self._chunk_key
        return all(
            chunk_id(key, raw[chunk.offset : chunk.offset + chunk.length]) == chunk.id for chunk in mine
        )


def _by_frame(rows: Sequence[ChunkRow]) -> dict[int, list[ChunkRow]]:
    found: dict[int, list[ChunkRow]] = {}
    for row in rows:
        found.setdefault(row.frame, []).append(row)
    return found


def pack_keys(header: bytes, keys: Sequence[RecoveryKey]) -> PackKeys | None:
    """The keys of a pack, by the first recovery key that opens it; None if none does. `NewerFormatError`."""
    for key in keys:
        try:
            parsed = parse_header(header)
            return derive_keys(open_header(parsed, key), parsed.raw)
        except NewerFormatError:
            raise
        except (RecoveryKeyError, FormatError):
            continue
    return None
