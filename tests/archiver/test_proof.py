"""What is wrong in a pack is found before a byte of it is sent, whoever made it wrong."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from msgspec.structs import replace

from backup.archiver.sealing import Frame, SealingLine
from backup.buffers import Buffers
from backup.catalogs.packing import OpenPack, Spool
from backup.errors import ProofError
from backup.format.frame import COMPRESSED, FRAME_SIZE, FrameCodec, SealedFrame
from backup.format.naming import chunk_id
from backup.inventory.content import archives
from backup.model import KIB, MIB, ChunkId, FrameRow, PackKind
from tests.support.backup_results import restored
from tests.support.backups import INVENTORY_ID, Site, server_keys
from tests.support.trees import assert_same_tree

KEYS = server_keys()
CHUNK_KEY = KEYS.secret.chunk_key
Seal = Callable[..., SealedFrame]


def named(data: bytes) -> ChunkId:
    return ChunkId(chunk_id(CHUNK_KEY, data))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), INVENTORY_ID, KEYS.signer, KEYS.recipients, CHUNK_KEY)


@pytest.fixture
def pack(spool: Spool) -> OpenPack:
    return spool.open_pack(PackKind.DATA)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_chunk_under_a_name_that_is_not_its_own_is_disproved(pack: OpenPack, wrong: int) -> None:
    """The frame opens, digest and length are right; one chunk is not what its name says."""
    datas = [b"first" * 9, b"second" * 9, b"third" * 9]
    ids = [named(data) for data in datas]
    ids[wrong] = named(b"what the file really held")
    codec, lengths = FrameCodec(), [len(data) for data in datas]
    sealed = codec.seal(pack.keys.frame_key, pack.label.pack_id, 0, datas)
    row = pack.append(sealed, ids, lengths, [1, 2, 3])
    with pytest.raises(ProofError, match="a chunk of frame 0"):
        pack.prove_frame(codec, row, ids, lengths)
    pack.discard()


def test_chunks_whose_lengths_do_not_match_their_places_are_disproved(pack: OpenPack) -> None:
    """Names in the right order at the wrong offsets."""
    datas = [b"a" * 100, b"b" * 50]
    ids, lengths = [named(data) for data in datas], [50, 100]
    codec = FrameCodec()
    row = pack.append(codec.seal(pack.keys.frame_key, pack.label.pack_id, 0, datas), ids, lengths, [1, 2])
    with pytest.raises(ProofError):
        pack.prove_frame(codec, row, ids, lengths)
    pack.discard()


def _lying(seal: Seal) -> Seal:
    """A compressor that gives back other bytes of the right length."""

    def wrong(
        self: FrameCodec,
        key: bytes,
        pack_id: bytes,
        number: int,
        parts: Sequence[bytes | memoryview],
        *,
        are_large: bool = False,
        over: memoryview | None = None,
    ) -> SealedFrame:
        raw = bytearray(b"".join(parts))
        raw[len(raw) // 2] ^= 1
        return seal(self, key, pack_id, number, [bytes(raw)], are_large=are_large, over=over)

    return wrong


@pytest.mark.parametrize("compressible", [True, False])
def test_a_compressor_that_gives_wrong_bytes_ends_the_run_and_nothing_is_sent(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch, compressible: bool
) -> None:
    """What it makes opens without a fault; only the chunks' names tell."""
    data = b"the same again " * 5000 if compressible else random.Random(3).randbytes(70_000)
    (source / "file").write_bytes(data)
    with monkeypatch.context() as patched:
        patched.setattr(FrameCodec, "seal", _lying(FrameCodec.seal))
        with pytest.raises(ProofError):
            site.backup()
    assert list((site.folder / "spool").iterdir()) == []
    with site.inventory.reading() as tx:
        assert archives.list_archives(tx, site.inventory.id) == []
    assert site.vault.list_uploads() == []
    site = site.reopen()
    site.backup()
    assert_same_tree(source, restored(site, source))


def test_a_catalog_that_was_compressed_wrong_is_not_sent(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalog has no chunks; what was sealed is compared all the same."""
    (source / "file").write_bytes(b"content")
    site.backup()
    (source / "file").unlink()  # a delta without data
    with monkeypatch.context() as patched:
        patched.setattr(FrameCodec, "seal", _lying(FrameCodec.seal))
        with pytest.raises(ProofError):
            site.reopen().backup()
    assert list((site.folder / "spool").iterdir()) == []
    site = site.reopen()
    site.backup()
    assert_same_tree(source, restored(site, source))


def test_a_frame_that_could_not_be_written_ends_the_line(
    pack: OpenPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last frame of a pack is asked for before the pack counts as whole."""

    def fail(*_: object) -> None:
        raise ProofError("the writing thread could not write")

    with SealingLine(lambda: pack, Buffers(), level=3, pack_size=2**22) as line:
        frame = line.open_frame()
        data = b"x" * 1000
        frame.add([named(data)], [len(data)], [1], data)
        monkeypatch.setattr(OpenPack, "append", fail)
        with pytest.raises(ProofError):
            _end(line, frame)


def test_a_frame_that_could_not_be_written_ends_the_line_while_the_next_pack_fills(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pack is given to nobody, although it was closed before the failure was known."""
    first, may_fail, real = spool.open_pack(PackKind.DATA), Event(), OpenPack.append

    def fail(self: OpenPack, *what: Any) -> FrameRow:
        if self is first:
            may_fail.wait(10)
            raise ProofError("the writing thread could not write")
        return real(self, *what)

    monkeypatch.setattr(OpenPack, "append", fail)
    opened = iter([first, spool.open_pack(PackKind.DATA)])
    with SealingLine(lambda: next(opened), Buffers(), level=3, pack_size=2**22) as line:
        for content in (b"x" * 1000, b"y" * 1000):
            frame = line.open_frame()
            frame.add([named(content)], [len(content)], [1], content)
            line.send(frame)
            line.close_pack()
            assert list(line.finished(wait=False)) == []
        may_fail.set()
        with pytest.raises(ProofError, match="could not write"):
            list(line.finished(wait=True))
    assert os.listdir(spool.directory) == []


def test_small_packs_are_full_although_frames_compress(spool: Spool) -> None:
    """A frame under way may count for more than it becomes only where that is little of a pack."""
    size, frames, content = 8 * MIB, 16, bytes(FRAME_SIZE)
    made = []
    open_pack = partial(spool.open_pack, PackKind.DATA)
    with SealingLine(open_pack, Buffers(), level=3, pack_size=size) as line:
        for _ in range(frames):
            frame = line.open_frame()
            frame.add([named(content)], [len(content)], [1], content)
            if not line.has_room(frame):
                line.close_pack()
            line.send(frame)
        line.close_pack()
        made = list(line.finished(wait=True))
    assert (len(made), sum(len(sealed.pack.frames) for sealed in made)) == (1, frames)


def test_a_proof_reads_and_opens_piece_by_piece(pack: OpenPack) -> None:
    """Only zstd holds a frame, to expand it; that is not counted here."""
    codec = FrameCodec()
    half = os.urandom(8 * KIB)
    data = b"".join(os.urandom(8 * KIB) for _ in range(600)) + half * 100
    frame = codec.seal(pack.keys.frame_key, pack.label.pack_id, 0, [data])
    assert (frame.flags, len(frame.data) > 4 * MIB) == (COMPRESSED, True)
    row = pack.append(frame, [named(data)], [len(data)], [1])
    tracemalloc.start()
    try:
        pack.prove_frame(codec, row, [named(data)], [len(data)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MIB


def test_only_what_is_proven_leaves_the_page_cache(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fifth frame's proof takes long: nothing from there on goes before it has come."""
    slow, may_end = 4, Event()
    told: list[int] = []
    real = OpenPack.prove_frame

    def prove(pack: OpenPack, codec: FrameCodec, row: FrameRow, *what: Any) -> None:
        if row.number == slow:
            may_end.wait(60)
        real(pack, codec, row, *what)

    def go(count: int) -> None:
        for _ in range(count):
            data = os.urandom(FRAME_SIZE)
            line.send(Frame.of([named(data)], [len(data)], [1], memoryview(data)))

    monkeypatch.setattr(OpenPack, "prove_frame", prove)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, length, how: told.append(start + length))
    open_pack = partial(replace(spool, is_read_again=False).open_pack, PackKind.DATA)
    with SealingLine(open_pack, Buffers(), level=None, pack_size=200 * MIB) as line:
        go(12)
        before = list(told)
        may_end.set()
        go(12)
        line.close_pack()
        (sealed,) = line.finished(wait=True)
    ends = [row.offset + row.sealed_length for row in sealed.pack.frames]
    assert before == [ends[slow - 1]], "16 MiB before it"
    assert told[:1] == before
    assert len(told) > 1
    assert set(told) <= set(ends)


def _end(line: SealingLine, frame: Frame) -> None:
    line.send(frame)
    line.close_pack()
    list(line.finished(wait=True))
