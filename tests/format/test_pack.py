"""A whole pack is read back, ends on 64 KiB, and is refused when any bit of it changed."""

from __future__ import annotations

import struct

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import FormatError, IntegrityError
from backup.format import pack
from backup.format.rows import pack_chunks, pack_frames
from backup.model import KIB, ArchiveLabel, ChunkRow, FrameRow, Generation, InventoryId, PackId, PackKind
from tests.support.packs import CHUNKS, KEY, PACK_ID, PACK_KEY, SIGNER, Sealed, make_pack, read_pack

KEYS = pack.PackKeys(b"f" * 32, b"d" * 32, b"c" * 32)
FRAME = FrameRow(0, 1000, 116, 100, 0, bytes(16))
CHUNK = ChunkRow(bytes(32), 0, 0, 100)


def test_a_pack_is_read_back(sealed: Sealed) -> None:
    assert len(sealed.data) % (64 * KIB) == 0
    assert read_pack(sealed.data, KEY, SIGNER.public) == CHUNKS


def test_a_catalog_has_frames_and_no_chunks(catalog_header: bytes) -> None:
    data = make_pack(catalog_header, []).data
    assert len(data) == 64 * KIB
    assert read_pack(data, KEY, SIGNER.public) == []


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_is_refused(sealed: Sealed, data: st.DataObject) -> None:
    frames_end = sealed.frames[-1].offset + sealed.frames[-1].sealed_length
    interesting = st.integers(sealed.header_size, frames_end + 3000) | st.integers(
        len(sealed.data) - 50, len(sealed.data) - 1
    )
    place = data.draw(interesting | st.integers(0, len(sealed.data) - 1))
    changed = bytearray(sealed.data)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((FormatError, IntegrityError)):
        read_pack(bytes(changed), KEY, SIGNER.public)


@settings(max_examples=200)
@given(st.data())
def test_any_cut_is_refused(sealed: Sealed, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(sealed.data) - 1) | st.integers(0, sealed.header_size + 500))
    with pytest.raises((FormatError, IntegrityError)):
        read_pack(sealed.data[:length], KEY, SIGNER.public)


def test_every_bit_of_the_trailer_counts(sealed: Sealed) -> None:
    trailer = sealed.data[-pack.TRAILER_SIZE :]
    offset, length = pack.parse_trailer(memoryview(trailer))
    assert offset + length + pack.TRAILER_SIZE == len(sealed.data)
    for place in range(len(trailer)):
        for bit in range(8):
            changed = bytearray(trailer)
            changed[place] ^= 1 << bit
            with pytest.raises(FormatError, match="trailer"):
                pack.parse_trailer(bytes(changed))
    for wrong in (trailer[:-1], trailer + b"x", b""):
        with pytest.raises(FormatError, match="trailer"):
            pack.parse_trailer(wrong)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 2**63), (2**63, 65504), (1, 65504), (2**64 - 32, 0), (0, 2**40 - 32)]
)
def test_a_trailer_claims_nothing_wild(offset: int, length: int) -> None:
    trailer = struct.pack("<8sQQ", b"NVTAIL\x1a\n", offset, length)
    with pytest.raises(FormatError, match="claims"):
        pack.parse_trailer(trailer + pack._check(trailer))


@given(st.binary(min_size=32, max_size=32))
def test_any_trailer_is_refused_in_our_words(data: bytes) -> None:
    with pytest.raises(FormatError):
        pack.parse_trailer(data)


@st.composite
def directories(draw: st.DrawFn) -> tuple[list[FrameRow], list[ChunkRow], int]:
    place = draw(st.integers(1376, 2**40))
    frames: list[FrameRow] = []
    chunks: list[ChunkRow] = []
    number = 0
    for lengths in draw(st.lists(st.lists(st.integers(1, 5000), max_size=9), max_size=6)):
        raw = sum(lengths) + draw(st.integers(1, 9))
        sealed = draw(st.integers(17, raw + 16))
        frames.append(
            FrameRow(
                number, place, sealed, raw, draw(st.integers(0, 1)), draw(st.binary(min_size=16, max_size=16))
            )
        )
        offset = 0
        for length in lengths:
            chunks.append(ChunkRow(draw(st.binary(min_size=32, max_size=32)), number, offset, length))
            offset += length
        place += sealed
        number += draw(st.integers(1, 3))
    return frames, chunks, place


@given(directories())
def test_a_directory_comes_back_and_ends_on_64_kib(
    directory: tuple[list[FrameRow], list[ChunkRow], int],
) -> None:
    frames, chunks, end = directory
    tail = pack.seal_directory(KEYS, PACK_ID, frames, chunks, end_of_frames=end)
    assert (end + len(tail)) % (64 * KIB) == 0
    offset, length = pack.parse_trailer(tail[-pack.TRAILER_SIZE :])
    assert (offset, length) == (end, len(tail) - pack.TRAILER_SIZE)
    assert pack.open_directory(KEYS, PACK_ID, memoryview(tail)[:length]) == (frames, chunks)


@pytest.mark.parametrize(
    ("frames", "chunks", "end"),
    [
        ([FRAME], [CHUNK], 1117),
        ([FRAME], [CHUNK], 1115),
        ([], [CHUNK], 1000),
        ([], [], -1),
        ([], [], 2**62),
        ([FRAME, FRAME], [], 1232),
        ([FRAME, FRAME._replace(offset=1116)], [], 1232),
        ([FRAME, FRAME._replace(offset=1117, number=1)], [], 1233),
        ([FRAME._replace(number=1), FRAME._replace(offset=1116)], [], 1232),
        ([FRAME], [CHUNK._replace(frame=1)], 1116),
        ([FRAME], [CHUNK._replace(offset=1)], 1116),
        ([FRAME], [CHUNK._replace(length=101)], 1116),
    ],
)
def test_rows_that_do_not_fit_are_refused_both_ways(
    frames: list[FrameRow], chunks: list[ChunkRow], end: int
) -> None:
    with pytest.raises(FormatError):
        pack.seal_directory(KEYS, PACK_ID, frames, chunks, end_of_frames=end)
    if 0 <= end < 2**62:
        with pytest.raises(FormatError):
            pack.open_directory(KEYS, PACK_ID, forged(rows_of(frames, chunks, end)))


@pytest.mark.parametrize(
    "row",
    [
        FRAME._replace(raw_length=0),
        FRAME._replace(raw_length=99),
        FRAME._replace(raw_length=8 * 1024 * KIB + 1),
        FRAME._replace(sealed_length=16),
        FRAME._replace(flags=2),
    ],
)
def test_frames_out_of_range_are_refused(row: FrameRow) -> None:
    with pytest.raises(FormatError, match="frame 0"):
        pack.open_directory(KEYS, PACK_ID, forged(rows_of([row], [], row.offset + row.sealed_length)))


def rows_of(frames: list[FrameRow], chunks: list[ChunkRow], end: int) -> bytes:
    return struct.pack("<IIQ", len(frames), len(chunks), end) + pack_frames(frames) + pack_chunks(chunks)


def forged(stored: bytes, raw_length: int | None = None, flags: int = 0, padding: bytes = b"") -> bytes:
    """A directory as somebody who has the key could make it."""
    raw_length = len(stored) if raw_length is None else raw_length
    plain = struct.pack("<III4x", len(stored), raw_length, flags) + stored + padding
    return AESGCM(KEYS.directory_key).encrypt(bytes(12), plain, b"nightvault 1 directory" + PACK_ID)


def test_directories_with_wrong_wrapping_are_refused() -> None:
    rows = rows_of([FRAME], [CHUNK], 1116)
    packed = zstandard.compress(rows)
    assert pack.open_directory(KEYS, PACK_ID, forged(rows, padding=bytes(99))) == ([FRAME], [CHUNK])
    assert pack.open_directory(KEYS, PACK_ID, forged(packed, len(rows), 1)) == ([FRAME], [CHUNK])
    for wrong in (
        forged(rows, padding=b"\0\0x"),
        forged(rows, flags=2),
        forged(rows, len(rows) + 1),
        forged(rows[:-1]),
        forged(rows + b"x"),
        forged(packed, len(rows) - 1, 1),
        forged(packed, len(rows) + 1, 1),
        forged(packed + b"x", len(rows), 1),
        forged(packed[:-1], len(rows), 1),
        forged(packed, 2**32 - 1, 1),
        forged(packed, 0, 1),
        forged(zstandard.compress(bytes(64 * 1024 * KIB)), 100, 1),
        forged(struct.pack("<IIQ", 2**32 - 1, 2**32 - 1, 0)),
        forged(b""),
    ):
        with pytest.raises(FormatError):
            pack.open_directory(KEYS, PACK_ID, wrong)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_no_directory_can_surprise(stored: bytes, raw_length: int, flags: int) -> None:
    for claimed in (raw_length, len(stored)):
        try:
            frames, chunks = pack.open_directory(KEYS, PACK_ID, forged(stored, claimed, flags))
        except FormatError:
            continue
        assert (frames, chunks) == ([], [])  # 16 bytes can be an empty directory
    with pytest.raises(FormatError):
        pack.open_directory(KEYS, PACK_ID, stored)


def test_a_directory_belongs_to_its_pack(sealed: Sealed) -> None:
    keys = pack.derive_keys(PACK_KEY, sealed.data)
    tail = pack.seal_directory(KEYS, PACK_ID, [FRAME], [CHUNK], end_of_frames=1116)[: -pack.TRAILER_SIZE]
    for wrong_keys, pack_id in ((KEYS, b"q" * 16), (keys, PACK_ID)):
        with pytest.raises(FormatError, match="not sealed under"):
            pack.open_directory(wrong_keys, pack_id, tail)


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MOST_CHUNKS", 1)
    with pytest.raises(FormatError, match="too many"):
        pack.seal_directory(KEYS, PACK_ID, [FRAME], [CHUNK, CHUNK], end_of_frames=1116)


LABELS = st.builds(
    ArchiveLabel,
    st.just(PackKind.DATA),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
) | st.builds(
    ArchiveLabel,
    st.just(PackKind.CATALOG),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**63 - 1),
    st.sampled_from(Generation),
    st.none() | st.binary(min_size=16, max_size=16),
)


@given(LABELS)
def test_descriptions_come_back(label: ArchiveLabel) -> None:
    text = pack.describe(label)
    assert len(text) <= 1024
    assert text.isascii()
    assert text.isprintable()
    assert pack.parse_description(text) == label


@given(st.text(max_size=120))
def test_foreign_descriptions_are_nobodys(text: str) -> None:
    assert pack.parse_description(text) is None


def test_descriptions_by_example() -> None:
    label = ArchiveLabel(
        PackKind.CATALOG, PackId(b"\xaa" * 16), InventoryId(b"\x0b" * 16), 12, Generation.FULL
    )
    text = f"nightvault 1 catalog {'aa' * 16} {'0b' * 16} 12 full"
    assert pack.describe(label) == text
    assert pack.parse_description(text) == label
    named = replace(label, job_id=b"\xcc" * 16)
    assert pack.describe(named) == f"{text} {'cc' * 16}"
    assert pack.parse_description(f"{text} {'cc' * 16}") == named
    foreign = (
        f"{text} {'cc' * 15}",
        text.upper(),
        text + " ",
        text + "\n",
        text.replace(" 12", " 012"),
        text.replace("12", "9223372036854775808"),
        text.replace("12", "99999999999999999999"),
        text.replace("12", "\u0661"),
        text.replace("full", "half"),
        text.replace("catalog", "data"),
        text.replace("nightvault 1", "nightvault one"),
        f"nightvault 1 data {'aa' * 16}",
    )
    assert [pack.parse_description(description) for description in foreign] == [None] * len(foreign)
    with pytest.raises(FormatError, match="generation"):
        pack.describe(ArchiveLabel(PackKind.CATALOG, PackId(bytes(16)), InventoryId(bytes(16)), 1))


def test_a_later_versions_description_is_still_ours() -> None:
    label = pack.parse_description(f"nightvault 2 data {'aa' * 16} {'0b' * 16}")
    assert label is not None
    assert label.pack_id == b"\xaa" * 16
