"""Foreseen cuts are those of the chunker, whatever the earlier version was; only what changed is cut."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.archiver.predicted_cuts import EarlierChunks, PredictedCuts
from backup.format.chunker import Chunker
from backup.format.naming import chunk_id
from backup.inventory.content import entries
from backup.inventory.content.entries import EntryRow
from backup.model import ChunkId
from backup.source.streams import Command
from tests.support.backups import Site
from tests.support.trees import assert_same_tree

KEY = b"k" * 32
MIB = 1024**2


class SmallChunker(Chunker):
    """A chunker of small chunks that counts what it cuts."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, minimum=64, average=256, maximum=1024)
        self.lengths: list[int] = []

    def cuts(self, window: memoryview | bytes, *, final: bool) -> Iterator[int]:
        for length in super().cuts(window, final=final):
            self.lengths.append(length)
            yield length


def named(chunk: memoryview) -> Future[ChunkId]:
    name: Future[ChunkId] = Future()
    name.set_result(chunk_id(KEY, chunk))
    return name


def ids_of(data: bytes, lengths: Sequence[int]) -> list[ChunkId]:
    ends = itertools.accumulate(lengths)
    return [chunk_id(KEY, data[end - length : end]) for length, end in zip(lengths, ends, strict=True)]


def cut(cuts: PredictedCuts, data: bytes, piece: int) -> list[int]:
    """Cut as a reader does: fill the window, take what is certain, keep the tail."""
    lengths: list[int] = []
    window = b""
    for place in range(0, len(data), piece):
        window += data[place : place + piece]
        lengths += (some := list(cuts.cuts(memoryview(window), final=False)))
        window = window[sum(some) :]
    return lengths + list(cuts.cuts(memoryview(window), final=True))


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    noise = draw(st.integers(0, 2**32)), draw(st.integers(0, 20_000))
    repeated = draw(st.binary(min_size=1, max_size=30)) * draw(st.integers(0, 300))
    data = [random.Random(noise[0]).randbytes(noise[1]), repeated]
    return b"".join(data if draw(st.booleans()) else data[::-1])


@st.composite
def changed(draw: st.DrawFn, data: bytes, cuts: Sequence[int]) -> bytes:
    """The same bytes with up to four changes, many of them at a cut or beside one."""
    new = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        anywhere = st.integers(0, len(new))
        near = st.sampled_from(cuts).flatmap(lambda end: st.integers(end - 2, end + 2)) if cuts else anywhere
        at = max(0, min(len(new), draw(anywhere | near)))
        match draw(st.sampled_from(["insert", "delete", "flip", "end", "grow", "repeat"])):
            case "insert":
                new[at:at] = random.Random(at).randbytes(draw(st.integers(1, 600)))
            case "delete":
                del new[at : at + draw(st.integers(1, 600))]
            case "flip" if at < len(new):
                new[at] ^= draw(st.integers(1, 255))
            case "end":
                del new[at:]
            case "grow":
                new += random.Random(at).randbytes(draw(st.integers(0, 2000)))
            case "repeat":
                new[at:at] = new[: draw(st.integers(0, 3000))]
    return bytes(new)


@settings(max_examples=200)
@given(st.data(), st.integers(0, 2**63 - 1), st.integers(500, 9000))
def test_they_are_those_of_the_chunker(data: st.DataObject, seed: int, piece: int) -> None:
    before = data.draw(contents())
    chunker = SmallChunker(seed)
    lengths = list(chunker.cuts(before, final=True))
    after = data.draw(changed(before, list(itertools.accumulate(lengths))))
    expected = list(chunker.cuts(after, final=True))
    if not lengths:
        return
    foreseen = PredictedCuts(chunker, EarlierChunks(ids_of(before, lengths), lengths), named)
    assert cut(foreseen, after, piece) == expected
    names = ids_of(after, expected)
    assert [name or right for name, right in zip(foreseen.names, names, strict=True)] == names


@pytest.mark.parametrize("is_moved", [False, True])
def test_only_what_changed_is_cut(is_moved: bool) -> None:
    before = random.Random(1).randbytes(100_000)
    after = bytearray(before)
    for at in (10_000, 50_000, 80_000):
        after[at : at + 1 - is_moved] = b"other"
    chunker = SmallChunker(2)
    lengths = list(chunker.cuts(before, final=True))
    expected = list(chunker.cuts(bytes(after), final=True))
    assert len(lengths) > 200
    chunker.lengths.clear()
    foreseen = PredictedCuts(chunker, EarlierChunks(ids_of(before, lengths), lengths), named)
    assert cut(foreseen, bytes(after), 8192) == expected
    assert len(chunker.lengths) <= 3 * 6 + 13 + 1, (
        "around each change, sometimes where a window ends, the end"
    )
    assert sum(name is None for name in foreseen.names) <= 3 * 6 + 1


def test_nothing_is_computed_far_ahead_of_a_change() -> None:
    """What is begun beyond it is for nothing."""
    before = random.Random(1).randbytes(20 * MIB)
    after = random.Random(2).randbytes(20 * MIB)
    asked: list[int] = []

    def name(chunk: memoryview) -> Future[ChunkId]:
        asked.append(len(chunk))
        return named(chunk)

    chunker = Chunker(2)
    lengths = list(chunker.cuts(before, final=True))
    foreseen = PredictedCuts(chunker, EarlierChunks(ids_of(before, lengths), lengths), name, ahead=2)
    assert len(cut(foreseen, after, 8 * MIB)) > 10
    assert len(asked) <= 2


def test_what_is_begun_and_not_needed_does_not_go_on() -> None:
    before = random.Random(1).randbytes(8_000)
    after = b"x" + before[1:]
    chunker = SmallChunker(2)
    lengths = list(chunker.cuts(before, final=True))
    begun: list[Future[ChunkId]] = []
    with ThreadPoolExecutor(1) as pool:

        def name(chunk: memoryview) -> Future[ChunkId]:
            begun.append(pool.submit(chunk_id, KEY, chunk))
            return begun[-1]

        foreseen = PredictedCuts(chunker, EarlierChunks(ids_of(before, lengths), lengths), name)
        assert sum(cut(foreseen, after, 8_000)) == len(after)
    assert all(future.done() for future in begun)


def live(site: Site) -> dict[bytes, EntryRow]:
    with site.inventory.reading() as tx:
        rows = map(EntryRow._make, entries.all_entries(tx, 1))
        return {row.name: row for row in rows if row.removed_in is None and row.chunks}


def test_a_changed_file_is_kept_as_if_it_had_been_read_for_the_first_time(
    site: Site, source: Path, tmp_path: Path
) -> None:
    data = bytearray(random.Random(3).randbytes(24 * MIB))
    (source / "image").write_bytes(data)
    site.backup()
    data[9 * MIB : 9 * MIB + 100] = os.urandom(100)
    data[15 * MIB : 15 * MIB] = b"moved in"
    del data[22 * MIB :]
    (source / "image").write_bytes(data)
    report = site.backup()
    assert 0 < report.bytes_new < 12 * MIB
    shutil.copy(source / "image", source / "copy")
    assert site.backup().bytes_new == 0
    known = live(site)
    assert known[b"copy"].content_id == known[b"image"].content_id
    assert known[b"copy"].chunks == known[b"image"].chunks
    site.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")


def test_a_stream_that_changed_is_one_that_was_read_for_the_first_time(site: Site, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    streams = [Command(name, ("cat", str(dump)), 60) for name in (b"first", b"second")]
    data = random.Random(4).randbytes(12 * MIB)
    dump.write_bytes(data)
    site = replace(site, job=replace(site.job, streams=(streams[0],)))
    site.backup()
    dump.write_bytes(data[: 5 * MIB] + b"one row more" + data[5 * MIB :])
    assert 0 < site.backup().bytes_new < 6 * MIB
    site = replace(site, job=replace(site.job, streams=tuple(streams)))
    assert site.backup().bytes_new == 0
    known = live(site)
    assert known[b"first"].content_id == known[b"second"].content_id
    assert known[b"first"].chunks == known[b"second"].chunks
