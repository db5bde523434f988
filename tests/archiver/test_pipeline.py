"""Chunks into frames into packs: in order, once, within bounds, and nothing after a failure."""

from __future__ import annotations

import gc
import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.archiver import pipeline as pipelines
from backup.archiver.sealing import Frame
from backup.catalogs.packing import OpenPack
from backup.errors import ProofError, SpoolError
from backup.format.chunker import MINIMUM
from backup.format.frame import FRAME_SIZE, SMALL_FILES_FRAME, FrameCodec, SealedFrame
from backup.format.rows import ChunkColumns
from backup.inventory.content.packed import KnownChunk
from backup.model import KIB, MIB, ChunkId
from tests.archiver.lines import Line, named, run_of, runs_of
from tests.support.small_frames import frames_of_at_most


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


POOL = [
    random.Random(seed).randbytes(size)
    for seed, size in enumerate([1, 10, 5000, 300_000, 1_500_000, 4 * MIB])
]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.tuples(st.booleans(), st.lists(st.sampled_from(range(len(POOL))), max_size=8)), max_size=6
    ),
    pack_size=st.sampled_from([100_000, 3 * MIB, 20 * MIB]),
    in_flight=st.sampled_from([1, 2 * MIB, 64 * MIB]),
)
def test_every_chunk_is_packed_once_and_found_by_its_number(
    tmp_path: Path, batches: list[tuple[bool, list[int]]], pack_size: int, in_flight: int
) -> None:
    """Put in one by one, or together where they may be kept."""
    line = Line(tmp_path)
    given_out: list[tuple[int, bytes]] = []
    with line.pipeline(pack_size=pack_size, in_flight=in_flight) as pipeline:
        for is_one, batch in batches:
            datas = [POOL[place] for place in batch]
            numbers = pipeline.put([run_of(datas, may_be_kept=True)] if is_one else runs_of(datas))
            given_out.extend(zip(numbers, datas, strict=True))
        pipeline.finish()
        new_bytes = pipeline.new_bytes
    found = line.contents()
    assert {number: found[number] for number, _ in given_out} == dict(given_out)
    assert len(found) == len({data for _, data in given_out})
    assert new_bytes == sum(map(len, found.values()))
    in_order = [number for _, _, numbers in line.packs for number in numbers]
    assert in_order == sorted(in_order), "chunks keep the order in which they came"
    for pack, _, _ in line.packs:
        assert pack.size <= max(pack_size, FRAME_SIZE + MIB)
        chunks = Counter(ChunkColumns.of(pack.chunks).frames)
        for row in pack.frames:
            are_small = row.raw_length < chunks[row.number] * MINIMUM
            assert row.raw_length <= (SMALL_FILES_FRAME if are_small else FRAME_SIZE)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.tuples(st.sampled_from("pldk"), st.lists(st.integers(0, 60), max_size=30)), max_size=8
    ),
    pack_size=st.sampled_from([100_000, 300_000]),
    frame_sizes=st.sampled_from([(6_000, 6_000), (6_000, 9_000), (40_000, 60_000)]),
)
def test_runs_are_what_their_chunks_are(
    tmp_path: Path, batches: list[tuple[str, list[int]]], pack_size: int, frame_sizes: tuple[int, int]
) -> None:
    """Put in one by one (p), or as a run of those that compress (l) or do not (d), new ones and old ones.

    Or as a run that may be kept where it is (k).
    """
    line = Line(tmp_path)
    given_out: list[tuple[int, bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines, "FRAME_SIZE", frame_sizes[0])
        with line.pipeline(pack_size=pack_size, largest=frame_sizes[1]) as pipeline:
            for way, batch in batches:
                datas = [b"%d " % number * (number * 20 + 1) for number in batch]
                run = run_of(datas, is_dense=way == "d", may_be_kept=way == "k")
                numbers = pipeline.put(runs_of(datas) if way == "p" else [run])
                if way != "k":
                    run.data[:] = bytes(len(run.data))  # nobody looks at it any more
                assert len(numbers) == len(datas)
                given_out.extend(zip(numbers, datas, strict=True))
            pipeline.finish()
            new_bytes = pipeline.new_bytes
    found = line.contents()
    assert {number: found[number] for number, _ in given_out} == dict(given_out)
    assert len(found) == len({data for _, data in given_out})
    assert new_bytes == sum(map(len, found.values()))
    for pack, _, _ in line.packs:
        assert all(row.raw_length <= frame_sizes[1] for row in pack.frames)


@pytest.mark.parametrize(("pack_size", "most"), [(64, 6), (40, 5), (16, 4)])
@pytest.mark.parametrize("together", [True, False])
def test_a_frame_of_small_files_is_larger(line: Line, pack_size: int, most: int, *, together: bool) -> None:
    """Unless that were much of a pack; one of mostly large chunks is not, whatever comes before or after."""
    small = [random.Random(number).randbytes(100 * KIB) for number in range(300)]
    large = [random.Random(number).randbytes(MIB) for number in range(7)]
    with line.pipeline(pack_size=pack_size * MIB) as pipeline:
        for datas in (small[:150], large[:5], small[150:], large[5:]):
            pipeline.put([run_of(datas)] if together else runs_of(datas))
        pipeline.finish()
    frames = [
        (row.raw_length, [chunk.length for chunk in pack.chunks if chunk.frame == row.number])
        for pack, _, _ in line.packs
        for row in pack.frames
    ]
    assert frames[0][0] // (100 * KIB) == most * MIB // (100 * KIB)
    assert all(size <= 4 * MIB or size < len(lengths) * MINIMUM for size, lengths in frames)
    assert sum(size for size, _ in frames) == 300 * 100 * KIB + 7 * MIB
    assert len(line.contents()) == 307


def test_a_large_run_is_sealed_where_it_lies(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a copy, and in order behind what was gathered before; frames do not become small by that."""
    copied: list[int] = []
    real = Frame.add

    def counted(self: Frame, *columns: Any) -> None:
        copied.append(len(columns[-1]))
        real(self, *columns)

    monkeypatch.setattr(Frame, "add", counted)
    noise = random.Random(3)
    sizes = [3 * MIB, 4 * MIB, 2 * MIB, MIB, 2 * MIB, 100, 4 * MIB]
    with line.pipeline(pack_size=64 * MIB) as pipeline:
        for size in sizes:
            datas = [noise.randbytes(size // 2), noise.randbytes(size - size // 2)]
            pipeline.put([run_of(datas, may_be_kept=True)])
        pipeline.finish()
    ((pack, _, numbers),) = line.packs
    assert numbers == list(range(1, 2 * len(sizes) + 1))
    assert copied == [MIB, 2 * MIB, 50 + 50]
    assert [row.raw_length for row in pack.frames] == [3 * MIB, 4 * MIB, 2 * MIB, 3 * MIB + 100, 4 * MIB]


def test_what_is_dense_has_frames_of_its_own(line: Line) -> None:
    dense, loose = [random.Random(n).randbytes(5000) for n in range(40)], [b"%d" % n * 900 for n in range(40)]
    with line.pipeline() as pipeline:
        for first, other in zip(dense, loose, strict=True):
            for data in (first, other):
                pipeline.put([run_of([data], is_dense=data is first)])
        pipeline.finish()
    ((pack, _, _),) = line.packs
    frame_of = {row.id: row.frame for row in pack.chunks}
    own = {frame_of[named(data)] for data in dense}
    assert own.isdisjoint(frame_of[named(data)] for data in loose)
    assert len(pack.frames) == 2


def test_small_chunks_that_are_dense_and_repeat_each_other_are_compressed(line: Line) -> None:
    pool = random.Random(7).randbytes(100_000)
    some = [pool[start : start + 10_000] for start in range(0, 90_000, 300)]
    with line.pipeline() as pipeline:
        pipeline.put(runs_of(some))
        pipeline.finish()
    (pack,) = (pack for pack, _, _ in line.packs)
    assert pack.size < 300_000 < pipeline.new_bytes


def test_nothing_in_makes_no_pack(line: Line) -> None:
    with line.pipeline() as pipeline:
        assert pipeline.put([]) == []
        pipeline.finish()
    assert line.packs == []
    assert os.listdir(line.spool) == []


def test_known_chunks_are_not_packed_and_their_archives_are_told(line: Line) -> None:
    line.stored[named(b"old")] = KnownChunk(99, 7)
    with line.pipeline() as pipeline:
        numbers = pipeline.put(runs_of([b"old", b"new", b"old"]))
        pipeline.finish()
    assert numbers == [99, 1, 99]
    assert pipeline.used_archives == {7}
    assert line.contents() == {1: b"new"}
    assert line.asked == 1


def test_a_pack_closes_when_it_has_very_many_chunks(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    frames_of_at_most(monkeypatch, 30)
    with line.pipeline(most_chunks=5) as pipeline:
        for number in range(20):
            pipeline.put(runs_of([b"chunk %04d" % number]))
        pipeline.finish()
    assert len(line.packs) > 2
    assert len(line.contents()) == 20


def test_no_more_is_in_flight_than_agreed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    sealing = 0
    most = 0
    lock = threading.Lock()
    real = FrameCodec.seal

    def counted(
        self: FrameCodec,
        key: bytes,
        pack_id: bytes,
        number: int,
        chunks: Sequence[bytes | memoryview],
        *,
        are_large: bool,
        over: memoryview,
    ) -> SealedFrame:
        nonlocal sealing, most
        size = sum(map(len, chunks))
        with lock:
            sealing += size
            most = max(most, sealing)
        try:
            return real(self, key, pack_id, number, chunks, are_large=are_large, over=over)
        finally:
            with lock:
                sealing -= size

    monkeypatch.setattr(FrameCodec, "seal", counted)
    with line.pipeline(pack_size=200 * MIB, in_flight=6 * MIB) as pipeline:
        for seed in range(30):
            pipeline.put(runs_of([random.Random(seed).randbytes(MIB)]))
        pipeline.finish()
    assert 0 < most <= 6 * MIB + FRAME_SIZE


def open_handles() -> set[tuple[str, str]]:
    """The open handles and what they are open on; without folders, which the watch of the suite reads."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the handle of this very listing
            place = os.readlink(f"/proc/self/fd/{number}")
            if not os.path.isdir(place):
                found.add((number, place))
    return found


class TestFailures:
    """Whatever fails, the unfinished pack is gone, its handle closed, its threads ended."""

    def run(self, line: Line, pack_size: int = 3 * MIB) -> None:
        with line.pipeline(pack_size=pack_size) as pipeline:
            for seed in range(12):
                pipeline.put(runs_of([random.Random(seed).randbytes(MIB)]))
            pipeline.finish()

    def fails(self, line: Line, error: type[BaseException], pack_size: int = 3 * MIB) -> None:
        gc.collect()  # or handles that other tests left are taken for ours
        threads, handles = threading.active_count(), open_handles()
        with pytest.raises(error):
            self.run(line, pack_size)
        assert threading.active_count() == threads
        assert open_handles() == handles
        handed_on = {pack.label.pack_id.hex() + ".pack" for pack, _, _ in line.packs}
        assert set(os.listdir(line.spool)) <= handed_on

    def test_the_header_cannot_be_written(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        self.break_call(monkeypatch, "write", 0)
        self.fails(line, SpoolError)

    @pytest.mark.parametrize("turn", range(0, 6, 2))
    @pytest.mark.parametrize("call", ["write", "pread", "fsync"])
    def test_the_disk_fails(self, line: Line, monkeypatch: pytest.MonkeyPatch, call: str, turn: int) -> None:
        self.break_call(monkeypatch, call, turn)
        self.fails(line, SpoolError)

    def break_call(self, monkeypatch: pytest.MonkeyPatch, call: str, turn: int) -> None:
        real: Callable[..., object] = getattr(os, call)
        calls = itertools.count()

        def failing(*arguments: object) -> object:
            if next(calls) >= turn:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        monkeypatch.setattr(os, call, failing)

    def test_a_proof_fails(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda *arguments: real(*arguments)[::-1])
        self.fails(line, ProofError)
        assert line.packs == []

    def test_a_proof_of_less_than_was_written(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda *arguments: real(*arguments)[:-1])
        self.fails(line, ProofError)

    @pytest.mark.parametrize("from_the_end", [1, 2, 12])
    @pytest.mark.parametrize(
        ("kind", "step"), [(FrameCodec, "seal"), (OpenPack, "append"), (OpenPack, "prove_frame")]
    )
    @pytest.mark.parametrize("is_slow", [False, True])
    def test_a_late_frame_fails(
        self,
        line: Line,
        monkeypatch: pytest.MonkeyPatch,
        kind: type,
        step: str,
        from_the_end: int,
        is_slow: bool,
    ) -> None:
        """The last frames are asked about as well: nobody waits for room behind them."""
        frames_of_at_most(monkeypatch, MIB)  # one chunk makes one frame
        real: Callable[..., object] = getattr(kind, step)
        calls, lock = itertools.count(), threading.Lock()

        def failing(*arguments: object, **named: object) -> object:
            with lock:
                is_due = next(calls) == 12 - from_the_end
            if is_due:
                if is_slow:
                    time.sleep(0.1)
                raise SpoolError("no space left")
            return real(*arguments, **named)

        monkeypatch.setattr(kind, step, failing)
        self.fails(line, SpoolError, pack_size=64 * MIB)
        assert line.packs == []

    def test_nobody_takes_the_pack(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise KeyError("nobody")

        monkeypatch.setattr(line, "hand_on", refuse)
        with pytest.raises(KeyError):
            self.run(line)

    def test_the_caller_gives_up(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        real = line.known

        def interrupted(ids: Iterable[ChunkId]) -> Mapping[bytes, KnownChunk]:
            if line.asked == 6:
                raise KeyboardInterrupt
            return real(ids)

        monkeypatch.setattr(line, "known", interrupted)
        self.fails(line, KeyboardInterrupt)
