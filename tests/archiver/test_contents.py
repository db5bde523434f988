"""What is read comes out of the packs, whatever sizes follow each other, although buffers are used again."""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.archiver.contents import Content, Contents
from backup.archiver.sealing import Frame
from backup.format.rows import unpack_u32
from backup.model import KIB, MIB
from tests.archiver.lines import KEYS, Line

NOISE = random.Random(11).randbytes(24 * MIB)
PLACES = st.sampled_from([0, 1, 3 * MIB + 7, 9 * MIB])  # few, so that chunks come again
SIZES = st.sampled_from([0, 5, 200 * KIB, 300 * KIB, MIB, 4 * MIB, 4 * MIB + 1, 11 * MIB, 15 * MIB])


def packed(folder: Path, files: list[bytes], batch: int, in_flight: int) -> tuple[Line, dict[int, Content]]:
    """Read files of that content; what came out, by their places in the list."""
    spool = folder / "spool"
    spool.mkdir()
    line, found = Line(spool), dict[int, Content]()
    handle = os.open(folder, os.O_RDONLY)
    try:
        with line.pipeline(pack_size=32 * MIB, in_flight=in_flight) as pipeline:
            with closing(Contents(pipeline, KEYS.secret, batch_bytes=batch)) as contents:
                for number, data in enumerate(files):
                    (folder / "file").write_bytes(data)
                    contents.read(handle, b"file", partial(found.__setitem__, number))
                contents.flush()
            pipeline.finish()
    finally:
        os.close(handle)
    return line, found


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(PLACES, SIZES), min_size=1, max_size=7),
    st.sampled_from([1, MIB, 8 * MIB]),
    st.sampled_from([1, 24 * MIB]),
)
def test_what_is_read_is_what_is_packed(files: list[tuple[int, int]], batch: int, in_flight: int) -> None:
    datas = [NOISE[start : start + size] for start, size in files]
    with tempfile.TemporaryDirectory() as folder:
        line, found = packed(Path(folder), datas, batch, in_flight)
    chunks = line.contents()
    for number, data in enumerate(datas):
        assert b"".join(chunks[one] for one in unpack_u32(found[number].chunks)) == data
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
    line, _ = packed(tmp_path, [NOISE], 8 * MIB, 24 * MIB)
    assert copied < 4 * MIB
    sizes = [row.raw_length for pack, _, _ in line.packs for row in pack.frames]
    assert min(sizes[:-1]) >= 2 * MIB
    assert sum(sizes) / len(sizes) > 2.9 * MIB
