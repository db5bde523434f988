"""A pipeline that packs into a folder, and what came out of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from backup.archiver.pipeline import ChunkRun, Pipeline
from backup.archiver.sealing import MOST_CHUNKS, SealedPack
from backup.catalogs.packing import OpenPack, Spool
from backup.format.frame import SMALL_FILES_FRAME
from backup.format.naming import chunk_id
from backup.format.treehash import tree_hash
from backup.inventory.content.packed import KnownChunk
from backup.memory import backup_memory
from backup.model import MIB, ChunkId, Pack, PackKind
from tests.archiver.reader import open_pack
from tests.support.backups import INVENTORY_ID, recovery_key, server_keys

KEYS = server_keys()
CHUNK_KEY = KEYS.secret.chunk_key


def named(data: bytes) -> ChunkId:
    return ChunkId(chunk_id(CHUNK_KEY, data))


def run_of(datas: Sequence[bytes], *, is_dense: bool = False, may_be_kept: bool = False) -> ChunkRun:
    """Chunks one behind the other."""
    joined = memoryview(bytearray(b"".join(datas)))
    return ChunkRun(list(map(named, datas)), list(map(len, datas)), joined, is_dense, may_be_kept)


def runs_of(datas: Sequence[bytes]) -> list[ChunkRun]:
    """Each chunk by itself."""
    return [run_of([data]) for data in datas]


class Counter:
    """Numbers from 1."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def take(self) -> int:
        return next(self._count)

    def take_many(self, count: int) -> Sequence[int]:
        return list(itertools.islice(self._count, count))


@dataclass
class Line:
    """A pipeline with a spool, and what left it."""

    spool: Path
    stored: dict[bytes, KnownChunk] = field(default_factory=dict)
    packs: list[tuple[Pack, bytes, list[int]]] = field(default_factory=list)
    numbers: Counter = field(default_factory=Counter)
    asked: int = 0

    def open_pack(self) -> OpenPack:
        return Spool(str(self.spool), INVENTORY_ID, KEYS.signer, KEYS.recipients, CHUNK_KEY).open_pack(
            PackKind.DATA
        )

    def record(self, sealed: SealedPack) -> Future[Pack]:
        recorded: Future[Pack] = Future()
        self.hand_on(sealed.pack, sealed.file_name, sealed.numbers)
        recorded.set_result(sealed.pack)
        return recorded

    def send(self, recorded: Pack) -> None:
        """Nowhere: it stays in the spool."""

    def hand_on(self, pack: Pack, name: str, numbers: Sequence[int]) -> None:
        self.packs.append((pack, (self.spool / name).read_bytes(), list(numbers)))
        for number, row in zip(numbers, pack.chunks, strict=True):
            assert row.id not in self.stored, "a chunk was packed twice"
            self.stored[row.id] = KnownChunk(number, len(self.packs))

    def known(self, ids: Iterable[ChunkId]) -> Mapping[bytes, KnownChunk]:
        self.asked += 1
        return {
            retrieval_id: self.stored[retrieval_id] for retrieval_id in ids if retrieval_id in self.stored
        }

    def pipeline(
        self,
        *,
        pack_size: int = 3 * MIB,
        in_flight: int = 32 * MIB,
        largest: int = SMALL_FILES_FRAME,
        most_chunks: int = MOST_CHUNKS,
    ) -> Pipeline:
        memory = replace(backup_memory(), in_flight=in_flight, frame=largest, chunks=most_chunks)
        return Pipeline(self, level=1, pack_size=pack_size, memory=memory)

    def contents(self) -> dict[int, bytes]:
        """Every chunk by its number, opened from the packs."""
        found: dict[int, bytes] = {}
        for pack, data, numbers in self.packs:
            header, bodies, frames, chunks = open_pack(data, recovery_key())
            assert (frames, chunks) == (pack.frames, pack.chunks)
            assert header.raw == pack.header
            assert tree_hash(data) == pack.tree_hash
            assert len(data) == pack.size
            for number, row in zip(numbers, chunks, strict=True):
                found[number] = bodies[row.frame][row.offset : row.offset + row.length]
                assert chunk_id(CHUNK_KEY, found[number]) == row.id
        return found
