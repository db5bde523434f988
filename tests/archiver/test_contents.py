"""What is read comes out of the packs, whatever sizes follow each other, although buffers are used again."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.archiver.contents import Content, Contents
from backup.archiver.predicted_cuts import EarlierChunks
from backup.archiver.sealing import Frame
from backup.format.chunker import MAXIMUM, Chunker
from backup.format.frame import FRAME_SIZE
from backup.format.rows import unpack_u32
from backup.model import KIB, MIB
from tests.archiver.lines import KEYS, Line, named

NOISE = random.Random(11).randbytes(24 * MIB)
PLACES = st.sampled_from([0, 1, 3 * MIB + 7, 9 * MIB])  # few, so that chunks come again
SIZES = st.sampled_from([0, 5, 200 * KIB, 300 * KIB, MIB, 4 * MIB, 4 * MIB + 1, 11 * MIB, 15 * MIB])


def packed(
    folder: Path, files: Sequence[tuple[bytes, int | None]], batch: int, in_flight: int
) -> tuple[Line, dict[int, Content]]:
    """Read files of that content; what came out, by their places in the list.

    Some are compared with an earlier one, of that place. Zeros at a file's start are a hole.
    """
    spool = folder / "spool"
    spool.mkdir()
    line, found = Line(spool), dict[int, Content]()
    cuts: dict[int, tuple[list[bytes], list[int]]] = {}

    def earlier(numbers: Sequence[int]) -> EarlierChunks:
        return next(EarlierChunks(*cuts[at]) for at in found if unpack_u32(found[at].chunks) == numbers)

    handle = os.open(folder, os.O_RDONLY)
    try:
        with line.pipeline(pack_size=32 * MIB, in_flight=in_flight) as pipeline:
            reading = Contents(pipeline, KEYS.secret, batch_bytes=batch, earlier=earlier)
            with closing(reading) as contents:
                for number, (data, before) in enumerate(files):
                    write(folder / "file", data)
                    known = None
                    if before is not None:
                        contents.flush()
                        known = found[before].chunks
                        lengths = list(Chunker(KEYS.secret.chunker_seed).cuts(files[before][0], final=True))
                        ends = list(accumulate(lengths, initial=0))
                        ids = [named(files[before][0][at:end]) for at, end in pairwise(ends)]
                        cuts[before] = (list(ids), lengths)
                    contents.read(handle, b"file", partial(found.__setitem__, number), known)
                contents.flush()
            pipeline.finish()
    finally:
        os.close(handle)
    return line, found


def write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        hole = (len(data) - len(data.lstrip(b"\0"))) // MIB * MIB
        file.truncate(len(data))
        file.seek(hole)
        file.write(data[hole:])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(PLACES, SIZES), min_size=1, max_size=7),
    st.sampled_from([1, MIB, 8 * MIB]),
    st.sampled_from([1, 24 * MIB]),
)
def test_what_is_read_is_what_is_packed(files: list[tuple[int, int]], batch: int, in_flight: int) -> None:
    datas = [(NOISE[start : start + size], None) for start, size in files]
    with tempfile.TemporaryDirectory() as folder:
        line, found = packed(Path(folder), datas, batch, in_flight)
    is_all_there(line, found, [data for data, _ in datas])


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(PLACES, st.sampled_from([300 * KIB, 3 * MIB, 9 * MIB])), max_size=4),
    st.sampled_from([0, 1, 5 * MIB, 10 * MIB]),
    st.sampled_from([1, 8 * MIB]),
)
def test_also_what_is_compared_with_earlier_versions_and_what_is_sparse(
    others: list[tuple[int, int]], changed_at: int, batch: int
) -> None:
    """Whose windows are larger, or hold no holes; new files come in between."""
    old = NOISE[: 14 * MIB]
    new = old[:changed_at] + b"changed" + old[changed_at:]
    sparse = bytes(2 * MIB) + NOISE[7 * MIB : 13 * MIB]
    datas: list[tuple[bytes, int | None]] = [(old, None), (sparse, None)]
    for start, size in others:
        datas += [(new, 0), (NOISE[start : start + size], None), (sparse + b"more", None)]
    datas.append((new + new, 0))
    with tempfile.TemporaryDirectory() as folder:
        line, found = packed(Path(folder), datas, batch, 24 * MIB)
    is_all_there(line, found, [data.lstrip(b"\0") for data, _ in datas])
    assert all(found[at].holes for at, (data, _) in enumerate(datas) if data.startswith(bytes(MIB)))


def is_all_there(line: Line, found: dict[int, Content], datas: list[bytes]) -> None:
    """Each file's chunks are what it holds, and no chunk is there twice."""
    chunks = line.contents()
    for number, data in enumerate(datas):
        assert b"".join(chunks[chunk] for chunk in unpack_u32(found[number].chunks)) == data
    assert len(set(chunks.values())) == len(chunks)


def test_of_a_large_file_hardly_a_byte_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its windows are sealed where they were read; only what is small at its end is gathered."""
    copied = 0
    real = Frame.add

    def counted(self: Frame, *columns: memoryview) -> None:
        nonlocal copied
        copied += len(columns[-1])
        real(self, *columns)  # type: ignore[arg-type]

    monkeypatch.setattr(Frame, "add", counted)
    line, _ = packed(tmp_path, [(NOISE, None)], 8 * MIB, 24 * MIB)
    assert copied < 4 * MIB
    sizes = [row.raw_length for pack, _, _ in line.packs for row in pack.frames]
    assert min(sizes[:-1]) >= 2 * MIB
    assert sum(sizes) / len(sizes) > 2.9 * MIB


def test_a_frame_has_room_for_any_chunk_and_any_window() -> None:
    """On that rests that windows and frames share their memory."""
    assert MAXIMUM == FRAME_SIZE
