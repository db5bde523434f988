"""The spool: private files, swept but for what waits to be sent; packs proven to the last byte."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.catalogs.packing import OpenPack, Spool
from backup.catalogs.run_setup import open_spool
from backup.errors import ProofError, RecoveryKeyError, SpoolError
from backup.format.frame import FrameCodec
from backup.format.keys import RecoveryKey
from backup.format.naming import chunk_id
from backup.format.pack import NO_HASH, NO_PACK, CatalogFields
from backup.format.treehash import tree_hash
from backup.model import MIB, ChunkId, Generation, PackKind
from backup.vault.directory import DirectoryVault
from tests.archiver.reader import open_pack
from tests.support.backups import INVENTORY_ID, Site, recovery_key, server_keys
from tests.support.doubles import FaultyVault

KEYS = server_keys()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), INVENTORY_ID, KEYS.signer, KEYS.recipients, KEYS.secret.chunk_key)


def add(pack: OpenPack, number: int, *datas: bytes, beside: Executor | None = None) -> None:
    """Seal, write and prove one frame."""
    codec = FrameCodec()
    ids = [ChunkId(chunk_id(KEYS.secret.chunk_key, data)) for data in datas]
    lengths = [len(data) for data in datas]
    sealed = codec.seal(pack.keys.frame_key, pack.label.pack_id, number, datas)
    row = pack.append(sealed, ids, lengths, range(len(ids)), beside)
    pack.prove_frame(codec, row, ids, lengths)


def test_a_pack_opens_to_what_was_put_in(spool: Spool, tmp_path: Path) -> None:
    pack = spool.open_pack(PackKind.DATA)
    add(pack, 0, b"one", b"two" * 1000)
    add(pack, 1, b"three")
    done = pack.finish()
    data = (tmp_path / pack.file_name).read_bytes()
    _, bodies, frames, chunks = open_pack(data, recovery_key())
    assert bodies == [b"one" + b"two" * 1000, b"three"]
    assert (frames, chunks) == (done.frames, done.chunks)
    assert len(data) % 65536 == 0
    assert stat.S_IMODE(os.stat(tmp_path / pack.file_name).st_mode) == 0o600


def test_a_frame_that_is_hashed_beside_gives_the_same_tree_hash(spool: Spool, tmp_path: Path) -> None:
    pack = spool.open_pack(PackKind.DATA)
    noise = random.Random(2)
    with ThreadPoolExecutor(1) as beside:
        for number, size in enumerate((3, MIB - 40, 2 * MIB, 1_500_000)):
            add(pack, number, noise.randbytes(size), beside=beside)
        done = pack.finish()
    assert done.tree_hash == tree_hash((tmp_path / pack.file_name).read_bytes())


def test_parts_are_hashed_if_the_vault_wants_that(spool: Spool, tmp_path: Path) -> None:
    pack = replace(spool, part_size=2 * MIB).open_pack(PackKind.DATA)
    add(pack, 0, random.Random(4).randbytes(3 * MIB + 9))
    done = pack.finish()
    data = (tmp_path / pack.file_name).read_bytes()
    parts = [data[: 2 * MIB], data[2 * MIB :]]
    assert done.part_hashes == [hashlib.sha256(part).digest() for part in parts]
    assert done.part_size == 2 * MIB


def test_hashing_may_be_a_frame_behind_the_writing_and_no_more(spool: Spool, tmp_path: Path) -> None:
    noise, begun = random.Random(3), threading.Event()
    pack = spool.open_pack(PackKind.DATA)
    with ThreadPoolExecutor(1) as beside:
        beside.submit(begun.wait, 60)
        for number in range(2):
            add(pack, number, noise.randbytes(MIB + number), beside=beside)
        threading.Timer(0.3, begun.set).start()
        add(pack, 2, noise.randbytes(MIB), beside=beside)
        assert begun.is_set(), "a third frame waits, since each keeps its bytes in memory"
        done = pack.finish()
    assert done.tree_hash == tree_hash((tmp_path / pack.file_name).read_bytes())


@pytest.mark.parametrize("is_read_again", [False, True])
def test_what_is_proven_leaves_the_page_cache_unless_it_is_read_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, *, is_read_again: bool
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, length, how: told.append((start, length)))
    pack = replace(spool, is_read_again=is_read_again).open_pack(PackKind.DATA)
    for mebibytes in (1, 15, 17, 30, 33, 48, 50):
        pack.let_go(mebibytes * MIB)
    pack.discard()
    written = [(0, 17 * MIB), (0, 33 * MIB), (17 * MIB, 33 * MIB)]  # from where, how much: each byte twice
    assert told == ([] if is_read_again else written)


def test_packs_are_read_again_unless_a_vault_takes_them_whole(site: Site, disk: DirectoryVault) -> None:
    assert not open_spool(site.keys, site.job.sending, site.world).is_read_again
    other = replace(site.world, vault=FaultyVault(disk))
    assert open_spool(site.keys, site.job.sending, other).is_read_again


def test_parts_are_hashed_for_a_vault_that_checks_that(site: Site, disk: DirectoryVault) -> None:
    class Checking(FaultyVault):
        traits = replace(disk.traits, checks_sha256=True)

    spools = [
        open_spool(site.keys, site.job.sending, replace(site.world, vault=vault))
        for vault in (disk, Checking(disk))
    ]
    assert [spool.part_size for spool in spools] == [None, site.job.part_size]


def test_nothing_is_hashed_at_the_same_time_when_a_write_has_failed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that were hashed at the same time never ended."""

    class Late(ThreadPoolExecutor):
        """Begins late, when the write has failed long ago."""

        def submit(self, do: Callable[..., Any], /, *what: Any, **more: Any) -> Future[Any]:
            def late() -> None:
                time.sleep(0.2)
                do(*what, **more)
                hashed.append(what)

            return super().submit(late)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    hashed: list[object] = []
    pack = spool.open_pack(PackKind.DATA)
    with Late(1) as beside, monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(SpoolError, match="No space left"):
            add(pack, 0, random.Random(2).randbytes(2 * MIB), beside=beside)
        assert not hashed
        with pytest.raises(SpoolError, match="No space left"):
            pack.end()
        assert len(hashed) == 1
    pack.discard()


def test_a_stranger_s_key_opens_nothing(spool: Spool, tmp_path: Path) -> None:
    pack = spool.open_pack(PackKind.DATA)
    add(pack, 0, b"secret")
    pack.finish()
    with pytest.raises(RecoveryKeyError):
        open_pack((tmp_path / pack.file_name).read_bytes(), RecoveryKey.from_seed(b"z" * 32))


def test_no_two_packs_share_id_or_keys(spool: Spool) -> None:
    packs = [spool.open_pack(PackKind.DATA) for _ in range(5)]
    assert len({pack.label.pack_id for pack in packs}) == 5
    assert len({pack.keys.frame_key for pack in packs}) == 5
    for pack in packs:
        pack.discard()
    assert os.listdir(spool.directory) == []


def test_a_catalog_s_label_is_its_header_s(spool: Spool) -> None:
    fields = CatalogFields(b"j" * 16, 9, Generation.FULL, NO_PACK, NO_HASH, ())
    pack = spool.open_pack(PackKind.CATALOG, fields)
    assert (pack.label.kind, pack.label.number, pack.label.generation) == (
        PackKind.CATALOG,
        9,
        Generation.FULL,
    )
    pack.discard()


@pytest.mark.parametrize("place", ["header", "directory", "trailer"])
def test_what_changes_before_the_end_is_proven_is_refused(
    spool: Spool, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = spool.open_pack(PackKind.DATA)
    add(pack, 0, b"content")
    end = pack.size
    real = os.fsync

    def flip(handle: int) -> None:
        real(handle)
        offset = {"header": 40, "directory": end + 50, "trailer": os.fstat(handle).st_size - 3}[place]
        if os.path.samestat(os.fstat(handle), os.stat(pack.path)):
            byte = os.pread(handle, 1, offset)
            os.pwrite(handle, bytes([byte[0] ^ 1]), offset)

    monkeypatch.setattr(os, "fsync", flip)
    with pytest.raises(ProofError, match="header or directory"):
        pack.finish()
    pack.discard()


def test_the_sweep_keeps_what_waits_and_what_is_not_ours(spool: Spool, tmp_path: Path) -> None:
    for name in ("kept.pack", "swept.pack", "notes.txt"):
        (tmp_path / name).touch()
    spool.sweep(frozenset({"kept.pack"}))
    assert sorted(os.listdir(tmp_path)) == ["kept.pack", "notes.txt"]


def test_a_spool_that_is_gone(spool: Spool, tmp_path: Path) -> None:
    os.rmdir(tmp_path)
    for action in (lambda: spool.sweep(frozenset()), lambda: spool.open_pack(PackKind.DATA)):
        with pytest.raises(SpoolError, match="cannot be"):
            action()
    os.mkdir(tmp_path)
