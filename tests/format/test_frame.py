"""A frame comes back byte for byte, and from nothing but its own key, pack, number and bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import FormatError, IntegrityError
from backup.format import frame
from backup.format.frame import COMPRESSED, FOR_A_LINE, FrameCodec
from backup.model import KIB, MIB, FrameRow

KEY, PACK_ID = bytes(range(32)), b"p" * 16
CODEC = FrameCodec()


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_chunks_come_back(parts: list[bytes], number: int) -> None:
    views: list[bytes | memoryview] = [memoryview(part) for part in parts]
    sealed = CODEC.seal(KEY, PACK_ID, number, views)
    row = sealed.row(1000)
    assert row[:4] == (number, 1000, len(sealed.data), sum(map(len, parts)))
    assert CODEC.open(KEY, PACK_ID, row, sealed.data) == b"".join(parts)
    assert FrameCodec(9).open(KEY, PACK_ID, row, memoryview(sealed.data)) == b"".join(parts)
    assert CODEC.seal(KEY, PACK_ID, number, parts) == sealed


@given(
    st.sampled_from([1, 100, 40 * KIB, 128 * KIB, 300 * KIB]), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()
)
@settings(deadline=None)
def test_a_frame_is_sealed_over_itself_and_read_in_pieces(size: int, dense: float, are_large: bool) -> None:
    """As into memory of its own, and as one that is opened at once."""
    raw = random.Random(size).randbytes(int(size * dense)) + b"again and " * (1 + size // 10)
    buffer = bytearray(raw) + bytes(frame.ROOM_BEHIND)
    usual = CODEC.seal(KEY, PACK_ID, 7, [raw], are_large=are_large)
    over = CODEC.seal(
        KEY, PACK_ID, 7, [memoryview(buffer)[: len(raw)]], are_large=are_large, over=memoryview(buffer)
    )
    assert (bytes(over.data), over.digest, over.flags) == (usual.data, usual.digest, usual.flags)
    pieces = CODEC.pieces(KEY, PACK_ID, over.row(50), reading(bytes(50) + bytes(over.data)))
    assert b"".join(map(bytes, pieces)) == raw


def reading(data: bytes) -> Callable[[int, int], bytes]:
    """What reads a frame from a file that holds `data`."""
    return lambda length, offset: data[offset : offset + length]


@pytest.mark.parametrize("raw", [b"again and " * 40_000, random.Random(1).randbytes(400 * KIB)])
def test_pieces_of_a_frame_tell_at_the_end_what_came_back_other(raw: bytes) -> None:
    sealed = CODEC.seal(KEY, PACK_ID, 3, [raw], are_large=True)
    row, data = sealed.row(0), bytes(sealed.data)
    source = random.Random(5)
    for place in [0, len(data) - 17, len(data) - 1, *(source.randrange(len(data)) for _ in range(20))]:
        spoiled = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises((IntegrityError, FormatError)):
            b"".join(map(bytes, CODEC.pieces(KEY, PACK_ID, row, reading(spoiled))))
    for key, pack_id, other in (
        (bytes(32), PACK_ID, row),
        (KEY, b"q" * 16, row),
        (KEY, PACK_ID, row._replace(number=4)),
    ):
        with pytest.raises(FormatError):
            b"".join(map(bytes, CODEC.pieces(key, pack_id, other, reading(data))))
    for length in (len(raw) - 1, len(raw) + 1):
        with pytest.raises(FormatError):
            b"".join(map(bytes, CODEC.pieces(KEY, PACK_ID, row._replace(raw_length=length), reading(data))))


def test_compression_is_kept_only_where_it_gains_three_percent() -> None:
    noise = random.Random(1).randbytes(10_000)
    assert CODEC.seal(KEY, PACK_ID, 0, [noise]).flags == 0
    assert len(CODEC.seal(KEY, PACK_ID, 0, [noise]).data) == len(noise) + 16
    assert CODEC.seal(KEY, PACK_ID, 0, [noise[:9_900] + bytes(100)]).flags == 0
    text = CODEC.seal(KEY, PACK_ID, 0, [noise[:9_000] + bytes(1_000)])
    assert text.flags == COMPRESSED
    assert len(text.data) < 9_100


def test_a_large_frame_whose_samples_do_not_compress_is_not_compressed() -> None:
    noise = random.Random(1).randbytes(2 * MIB)
    assert CODEC.seal(KEY, PACK_ID, 0, [noise, noise], are_large=False).flags == COMPRESSED
    stored = CODEC.seal(KEY, PACK_ID, 0, [noise, noise], are_large=True)
    assert stored.flags == 0, "no sample shows the repeat"
    small = CODEC.seal(KEY, PACK_ID, 0, [noise[:20_000] * 2], are_large=True)
    assert small.flags == COMPRESSED, "samples are for frames of some size"


@pytest.mark.parametrize("level", [None, FOR_A_LINE])
def test_small_files_that_do_not_compress_are_searched_for_repeats(level: int | None) -> None:
    """Every twentieth is one of 2,000 places before, among noise: a usual search passes most of that by."""
    source = random.Random(2)
    files: list[bytes] = []
    for number in range(4096):
        is_known = number % 20 == 19 and number >= 2000
        files.append(files[-2000] if is_known else source.randbytes(1024))
    sealed = FrameCodec(level).seal(KEY, PACK_ID, 0, files)
    assert sealed.flags == COMPRESSED
    assert len(sealed.data) < 0.976 * 4 * MIB, "105 of 4,096 are repeated"
    assert CODEC.open(KEY, PACK_ID, sealed.row(0), sealed.data) == b"".join(files)
    assert CODEC.seal(KEY, PACK_ID, 0, files, are_large=True).flags == 0
    assert CODEC.seal(KEY, PACK_ID, 0, [source.randbytes(MIB)]).flags == 0


def measurements(source: random.Random) -> bytes:
    """CSV, in which little repeats but short pieces."""
    lines = (
        f"{1_700_000_000 + 60 * at},{source.randrange(10**6)},{source.choice(['Berlin', 'Leipzig'])},"
        f"{source.gauss(20, 5):.2f},{source.gauss(1013, 8):.1f},{source.randrange(100)}\n"
        for at in range(50_000)
    )
    return "".join(lines).encode()


def test_for_a_line_large_files_take_less_space() -> None:
    """And no more where zstd's level of as much CPU takes more than the fast mode."""
    texts = b"".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py")))[: 4 * MIB]
    for data, most in ((texts, 0.96), (measurements(random.Random(4)), 1.0)):
        fast, saving, third = (
            FrameCodec(level).seal(KEY, PACK_ID, 0, [data], are_large=True) for level in (None, FOR_A_LINE, 3)
        )
        assert len(saving.data) <= most * len(fast.data)
        assert len(saving.data) <= 1.02 * len(third.data)
        assert CODEC.open(KEY, PACK_ID, saving.row(0), saving.data) == data


@pytest.mark.parametrize("level", [None, 1, 3, FOR_A_LINE])
def test_small_files_may_repeat_others_anywhere_in_a_frame(level: int | None) -> None:
    """Three MiB away, and five, at any level."""
    source = random.Random(3)
    files = [source.randbytes(8 * KIB) for _ in range(384)]
    for kind in (files * 2, [*files[:64], *(b"%d" % number * 2000 for number in range(400)), *files]):
        sealed = FrameCodec(level).seal(KEY, PACK_ID, 0, kind)
        assert len(sealed.data) < 3.2 * MIB
        assert CODEC.open(KEY, PACK_ID, sealed.row(0), sealed.data) == b"".join(kind)


@pytest.mark.parametrize("block", [4096, 64 * 1024, 128 * 1024, 256 * 1024, MIB])
@pytest.mark.parametrize("dense", [0.2, 0.5, 0.7])
def test_samples_find_what_compresses_in_any_pattern(block: int, dense: float) -> None:
    """Blocks of a file system or an archive, say, that begin with data and are filled up with zeros."""
    full = int(block * dense)
    data = b"".join(
        random.Random(seed).randbytes(full) + bytes(block - full) for seed in range(4 * MIB // block)
    )
    for parts in ([data], [data[full:] + data[:full]]):
        sealed = CODEC.seal(KEY, PACK_ID, 0, parts, are_large=True)
        assert sealed.flags == COMPRESSED
        assert len(sealed.data) < len(data) * (dense + 0.02)


def test_sizes_at_the_edges() -> None:
    full = bytes(8 * MIB)
    sealed = CODEC.seal(KEY, PACK_ID, 0, [full])
    assert CODEC.open(KEY, PACK_ID, sealed.row(0), sealed.data) == full
    for parts, number in (([b""], 0), ([], 0), ([full, b"x"], 0), ([b"x"], -1), ([b"x"], 2**32)):
        with pytest.raises(FormatError, match="cannot be sealed"):
            CODEC.seal(KEY, PACK_ID, number, parts)


@pytest.mark.parametrize("body", [b"x", b"text " * 50])
def test_every_flipped_bit_is_refused(body: bytes) -> None:
    sealed = CODEC.seal(KEY, PACK_ID, 3, [body])
    for place in range(len(sealed.data)):
        for bit in range(8):
            changed = bytearray(sealed.data)
            changed[place] ^= 1 << bit
            with pytest.raises(IntegrityError, match="BLAKE3"):
                CODEC.open(KEY, PACK_ID, sealed.row(0), bytes(changed))
            # Whoever fits the digest to it meets the tag.
            row = sealed.row(0)._replace(digest=frame.digest(bytes(changed)))
            with pytest.raises(FormatError, match="not sealed under"):
                CODEC.open(KEY, PACK_ID, row, bytes(changed))


def test_a_frame_belongs_to_its_key_pack_number_and_flags() -> None:
    sealed = CODEC.seal(KEY, PACK_ID, 3, [b"text " * 50])
    row = sealed.row(0)
    for key, pack_id, wrong in (
        (b"k" * 32, PACK_ID, row),
        (KEY, b"q" * 16, row),
        (KEY, PACK_ID, row._replace(number=4)),
        (KEY, PACK_ID, row._replace(flags=0)),
    ):
        with pytest.raises(FormatError, match="not sealed under"):
            CODEC.open(key, pack_id, wrong, sealed.data)
    assert CODEC.open(KEY, PACK_ID, row, sealed.data) == b"text " * 50


def test_digests_are_checked_without_a_key() -> None:
    sealed = CODEC.seal(KEY, PACK_ID, 3, [b"x"])
    row, right = sealed.row(0), bytes(sealed.data)
    frame.check_digest(row, right)
    for data in (right[:-1], right + b"x", b"", bytes(len(right))):
        with pytest.raises(IntegrityError, match="frame 3"):
            frame.check_digest(row, data)


def forged(body: bytes, raw_length: int, flags: int) -> tuple[FrameRow, bytes]:
    """A frame as somebody who has the key could make it."""
    data = AESGCM(KEY).encrypt(bytes(12), body, PACK_ID + bytes(4) + flags.to_bytes(4, "little"))
    return FrameRow(0, 0, len(data), raw_length, flags, frame.digest(data)), data


def bomb(size: int, claimed: int) -> bytes:
    """A zstd frame of `size` zeros whose header claims another size."""
    packed = bytearray(zstandard.ZstdCompressor().compress(bytes(size)))
    at = packed.index(size.to_bytes(4, "little"), 4, 14)
    packed[at : at + 4] = claimed.to_bytes(4, "little")
    return bytes(packed)


@pytest.mark.parametrize(
    ("body", "raw_length"),
    [
        (zstandard.compress(bytes(100)) + b"x", 100),
        (zstandard.compress(bytes(100)) * 2, 100),
        (zstandard.compress(bytes(100)) * 2, 200),
        (zstandard.compress(bytes(100))[:-1], 100),
        (zstandard.compress(bytes(100)), 99),
        (zstandard.compress(bytes(100)), 101),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)), 100),
        (zstandard.compress(bytes(64 * MIB)), 8 * MIB),
        (bomb(64 * MIB, 8 * MIB), 8 * MIB),
        (bomb(MIB, 8 * MIB), 8 * MIB),
        (b"no zstd frame", 100),
        (b"\x50\x2a\x4d\x18\x05\x00\x00\x00abcde", 100),  # a skippable zstd frame
    ],
)
def test_what_does_not_expand_to_its_length_is_refused(body: bytes, raw_length: int) -> None:
    row, data = forged(body, raw_length, COMPRESSED)
    with pytest.raises(FormatError, match="frame 0"):
        CODEC.open(KEY, PACK_ID, row, data)


@given(st.binary(max_size=200), st.integers(-(2**40), 2**40), st.integers(0, 3))
def test_no_body_and_no_row_can_surprise(body: bytes, raw_length: int, flags: int) -> None:
    row, data = forged(body, raw_length, flags)
    try:
        assert len(CODEC.open(KEY, PACK_ID, row, data)) == raw_length
    except FormatError:
        assert flags or raw_length != len(body) or not body


@settings(max_examples=200)
@given(
    st.builds(
        FrameRow,
        st.integers(-(2**70), 2**70),
        st.integers(-(2**70), 2**70),
        st.integers(-(2**70), 2**70) | st.just(20),
        st.integers(-(2**70), 2**70),
        st.integers(-(2**70), 2**70),
        st.binary(max_size=20) | st.just(frame.digest(bytes(20))),
    )
)
def test_rows_out_of_range_are_refused(row: FrameRow) -> None:
    with pytest.raises((FormatError, IntegrityError)):
        CODEC.open(KEY, PACK_ID, row, bytes(20))


def test_a_newer_feature_is_named() -> None:
    row, data = forged(b"x", 1, 2)
    with pytest.raises(FormatError, match="not known here") as caught:
        CODEC.open(KEY, PACK_ID, row, data)
    assert "newer" in caught.value.advice
