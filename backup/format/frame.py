"""Seal and open one frame: chunks joined, compressed where that gains, encrypted, and digested."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import IO, cast

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext, Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from backup.errors import FormatError, IntegrityError
from backup.model import KIB, MIB, FrameRow

FRAME_SIZE = 4 * MIB
SMALL_FILES_FRAME = 6 * MIB  # the more small files are in one frame, the more of what repeats is found
LARGEST_FRAME = 8 * MIB  # what a reader accepts
FRAME_NUMBERS = 2**32  # a frame number fits u32
FOR_A_LINE = 0  # stands for a level: less space than without one, for more CPU
COMPRESSED = 1
TAG_SIZE = 16
DIGEST_SIZE = 16

_ASSOCIATED = struct.Struct("<16sII")
_GAIN_PERCENT = 1
_PIECE = 128 * KIB  # stays in the processor's own cache between two steps
_EXPANDED_PIECE = 256 * KIB
ROOM_BEHIND = 32  # bytes behind a frame's content, so that it can be sealed over itself
_SAMPLES, _SAMPLE_SIZE = 32, 2048
_SOME = 4  # one sample in so many mostly tells
_GOLDEN = 0.618034  # spreads the samples, so that no pattern of the data's own hides from them
# Small files: zstd's level 3, but its window is all of a frame, since they may repeat others anywhere in it;
# a level that is set has the same window. It finds longer matches than one hash table does: 6 to 8 % less
# space of small texts, and a fifth less to expand (each frame is, as a proof), which pays for a fifth more to
# compress.
# Large files: one hash table, a quarter to a third less CPU than level 3, which takes 2 to 6 % less space of
# what compresses. A window of 1 MiB takes up to a tenth less CPU than all of a frame, and as much space.
# Matches from six bytes take 2 to 8 % less space of large texts, tables and dumps than from five.
# For a line: two hash tables, as of level 3, but matches from six bytes, too; from five CSV takes 5 % more.
_FAST = {"strategy": zstandard.STRATEGY_FAST, "chain_log": 16, "search_log": 1}
_LEVEL, _WHOLE_FRAME = 3, 23
_LARGE = zstandard.ZstdCompressionParameters(**_FAST, window_log=20, hash_log=16, min_match=6)
_LARGE_FOR_A_LINE = zstandard.ZstdCompressionParameters.from_level(
    _LEVEL, window_log=_WHOLE_FRAME, min_match=6
)
# For small files that do not compress each by itself: little more than a search for long repeats.
_REPEATS = zstandard.ZstdCompressionParameters(
    **_FAST,
    window_log=_WHOLE_FRAME,
    hash_log=14,
    min_match=6,
    target_length=64,
    enable_ldm=True,
    ldm_hash_log=15,
    ldm_min_match=64,
    ldm_hash_rate_log=8,
)


class SealedFrame(Struct, frozen=True):
    """A frame as it goes into a pack; `digest` is the 16-byte BLAKE3 of `data`."""

    number: int
    data: bytes | memoryview
    raw_length: int
    flags: int
    digest: bytes

    def row(self, offset: int) -> FrameRow:
        """Its frame row at `offset` of its pack."""
        return FrameRow(self.number, offset, len(self.data), self.raw_length, self.flags, self.digest)


def digest(sealed: bytes | memoryview) -> bytes:
    """The 16-byte BLAKE3 of sealed bytes, which anyone can check without a key."""
    return blake3(sealed).digest(DIGEST_SIZE)


def check_digest(row: FrameRow, sealed: bytes | memoryview) -> None:
    """Raise IntegrityError unless `sealed` has the recorded length and digest."""
    if len(sealed) != row.sealed_length:
        raise IntegrityError(f"frame {row.number} has {len(sealed)} bytes instead of {row.sealed_length}")
    if digest(sealed) != row.digest:
        raise _came_back_other(row)


def check_frame(row: FrameRow) -> None:
    """Raise FormatError unless the row's numbers are those of a frame that can be read here."""
    if row.flags & ~COMPRESSED:
        raise FormatError(
            f"frame {row.number} uses a feature that is not known here (flags {row.flags})",
            advice="use a newer nightvault",
        )
    if not 0 < row.raw_length <= LARGEST_FRAME or not 0 < row.sealed_length - TAG_SIZE <= row.raw_length:
        raise FormatError(f"frame {row.number} claims {row.raw_length} bytes in {row.sealed_length}")
    if not 0 <= row.number < FRAME_NUMBERS or not 0 <= row.offset < 2**62:
        raise FormatError(f"frame {row.number} at {row.offset} lies out of range")


class FrameCodec:
    """Seals and opens frames with reusable zstd contexts; one codec a thread.

    A frame number must never be sealed twice under one key: the nonce is the number.
    """

    def __init__(self, level: int | None = None) -> None:
        """`level` is zstd's, 1 to 19; None and `FOR_A_LINE` stand for our own balances of time and size."""
        usual = zstandard.ZstdCompressionParameters.from_level(level or _LEVEL, window_log=_WHOLE_FRAME)
        self._small = self._large = self._repeats = zstandard.ZstdCompressor(compression_params=usual)
        if not level:
            large = _LARGE if level is None else _LARGE_FOR_A_LINE
            self._large = zstandard.ZstdCompressor(compression_params=large)
            self._repeats = zstandard.ZstdCompressor(compression_params=_REPEATS)
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_FRAME)
        self._key = b""
        self._aead: AESGCM | None = None
        self._piece: memoryview | None = None  # of an expanded frame

    def seal(
        self,
        key: bytes,
        pack_id: bytes,
        number: int,
        parts: Sequence[bytes | memoryview],
        *,
        are_large: bool = False,
        over: memoryview | None = None,
    ) -> SealedFrame:
        """Seal `parts` (chunks in order, 1 byte to 8 MiB together) as frame `number` of a pack.

        If they `are_large`, and samples of a large frame do not compress, it is not compressed. The frame may
        go `over` the only part itself, the start of this memory with `ROOM_BEHIND` it: none is taken for it.
        """
        raw = parts[0] if len(parts) == 1 else b"".join(parts)
        size = len(raw)
        if not 0 < size <= LARGEST_FRAME or not 0 <= number < FRAME_NUMBERS:
            raise FormatError(f"frame {number} of {size} bytes cannot be sealed")
        body, flags = raw, 0
        compressor = self._compressor(raw, are_large=are_large)
        if compressor is not None:
            packed = compressor.compress(raw)
            if _gains(packed, raw, _GAIN_PERCENT):
                body, flags = packed, COMPRESSED
        associated = _ASSOCIATED.pack(pack_id, number, flags)
        if over is None:
            data: bytes | memoryview = self._cipher(key).encrypt(_nonce(number), body, associated)
        else:
            data = _encrypted_over(over, key, _nonce(number), body, associated)
        return SealedFrame(number, data, size, flags, digest(data))

    def _compressor(self, raw: bytes | memoryview, *, are_large: bool) -> zstandard.ZstdCompressor | None:
        """The compressor for a frame with these bytes, or None if it is to be stored as it is."""
        if not self._is_dense(raw):
            return self._large if are_large else self._small
        return None if are_large else self._repeats

    def _is_dense(self, raw: bytes | memoryview) -> bool:
        """Whether samples from all over a large frame do not compress."""
        step = len(raw) // _SAMPLES
        if step < 2 * _SAMPLE_SIZE:
            return False
        places = (at * step + int(at * _GOLDEN % 1 * (step - _SAMPLE_SIZE)) for at in range(_SAMPLES))
        samples = [raw[place : place + _SAMPLE_SIZE] for place in places]
        some = b"".join(samples[::_SOME])
        if _gains(self._small.compress(some), some, _SOME * _GAIN_PERCENT):
            return False  # enough for all of them
        every = b"".join(samples)
        return not _gains(self._small.compress(every), every, _GAIN_PERCENT)

    def open(self, key: bytes, pack_id: bytes, row: FrameRow, sealed: bytes | memoryview) -> bytes:
        """The chunks of a frame, joined: exactly `row.raw_length` bytes.

        IntegrityError when the bytes are not those recorded, FormatError when they are, but are no frame.
        """
        check_digest(row, sealed)
        body = self._decrypted(key, pack_id, row, sealed)
        del sealed  # memory of a caller that keeps it no more
        return self._expand(row, body)

    def pieces(
        self, key: bytes, pack_id: bytes, row: FrameRow, read: Callable[[int, int], bytes]
    ) -> Iterator[memoryview | bytes]:
        """The content of a frame in pieces, valid until the next; `read` gives bytes by length and offset.

        For a proof: only at the end it is known that they are those recorded. Errors as of `open`.
        """
        check_frame(row)
        cipher = Cipher(algorithms.AES(key), modes.GCM(_nonce(row.number))).decryptor()
        cipher.authenticate_additional_data(_ASSOCIATED.pack(pack_id, row.number, row.flags))
        sealed = _SealedPieces(row, read, cipher)
        length = 0
        for piece in self._expanded(sealed) if row.flags & COMPRESSED else iter(sealed.read, b""):
            length += len(piece)
            if length > row.raw_length:
                break
            yield piece
        sealed.finish()
        if length != row.raw_length:
            raise FormatError(f"frame {row.number} does not hold the {row.raw_length} bytes that it should")

    def _expanded(self, sealed: _SealedPieces) -> Iterator[memoryview]:
        if self._piece is None:
            self._piece = memoryview(bytearray(_EXPANDED_PIECE))
        try:
            with self._decompressor.stream_reader(cast("IO[bytes]", sealed), read_size=_PIECE) as reader:
                while size := reader.readinto(self._piece):
                    yield self._piece[:size]
        except zstandard.ZstdError as error:
            raise FormatError(f"frame {sealed.row.number} does not decompress") from error

    def open_checked(self, key: bytes, pack_id: bytes, row: FrameRow, sealed: bytes | memoryview) -> bytes:
        """Same as `open`, for bytes whose digest was checked where they came from."""
        return self._expand(row, self._decrypted(key, pack_id, row, sealed))

    def _decrypted(self, key: bytes, pack_id: bytes, row: FrameRow, sealed: bytes | memoryview) -> bytes:
        check_frame(row)
        associated = _ASSOCIATED.pack(pack_id, row.number, row.flags)
        try:
            return self._cipher(key).decrypt(_nonce(row.number), sealed, associated)
        except InvalidTag as error:
            raise _strange(row) from error

    def _expand(self, row: FrameRow, body: bytes) -> bytes:
        if row.flags & COMPRESSED:
            return expand(self._decompressor, body, row.raw_length, f"frame {row.number}")
        if len(body) != row.raw_length:
            raise FormatError(f"frame {row.number} holds {len(body)} bytes instead of {row.raw_length}")
        return body

    def _cipher(self, key: bytes) -> AESGCM:
        if self._aead is None or self._key != key:
            self._aead, self._key = AESGCM(key), key
        return self._aead


class _SealedPieces:
    """Reads a sealed frame piece by piece and deciphers it; `finish` says whether it was the recorded one."""

    def __init__(
        self, row: FrameRow, read: Callable[[int, int], bytes], cipher: AEADDecryptionContext
    ) -> None:
        self.row = row
        self._read = read
        self._cipher = cipher
        self._digest = blake3()
        self._at = 0

    def read(self, _size: int = -1) -> bytes:
        """The next piece, whatever size is asked for; empty at the end."""
        size = min(_PIECE, self.row.sealed_length - TAG_SIZE - self._at)
        if not size:
            return b""
        piece = self._read(size, self.row.offset + self._at)
        self._digest.update(piece)
        self._at += size
        return self._cipher.update(piece)

    def finish(self) -> None:
        """Read to the end; IntegrityError if it is not what was recorded, FormatError if it is no frame."""
        while self.read():
            pass
        tag = self._read(TAG_SIZE, self.row.offset + self._at)
        if self._digest.update(tag).digest(DIGEST_SIZE) != self.row.digest:
            raise _came_back_other(self.row)
        try:
            self._cipher.finalize_with_tag(tag)
        except InvalidTag as error:
            raise _strange(self.row) from error


def expand(decompressor: zstandard.ZstdDecompressor, body: bytes, size: int, what: str) -> bytes:
    """Decompress one zstd frame to exactly `size` bytes (at least 1), or raise FormatError.

    zstandard allocates what the frame's own header claims, so the claim is compared first.
    """
    try:
        if zstandard.frame_content_size(body) != size:
            raise FormatError(f"{what} does not hold the {size} bytes that it should")
        return decompressor.decompress(body, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"{what} does not decompress") from error


def _encrypted_over(
    over: memoryview, key: bytes, nonce: bytes, body: bytes | memoryview, associated: bytes
) -> memoryview:
    """The body, which may lie at the start of `over`, encrypted over it, with its tag.

    A piece is encrypted beside it and then copied, as no cipher promises to work in place.
    """
    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    cipher.authenticate_additional_data(associated)
    beside, size = memoryview(bytearray(_PIECE + TAG_SIZE)), len(body)
    for start in range(0, size, _PIECE):
        end = min(start + _PIECE, size)
        written = cipher.update_into(body[start:end], beside)
        over[start:end] = beside[:written]
    cipher.finalize()
    over[size : size + TAG_SIZE] = cipher.tag
    return over[: size + TAG_SIZE]


def _came_back_other(row: FrameRow) -> IntegrityError:
    return IntegrityError(f"frame {row.number} came back other than it was recorded (BLAKE3 differs)")


def _strange(row: FrameRow) -> FormatError:
    return FormatError(f"frame {row.number} was not sealed under this key, pack and number")


def _gains(packed: bytes, raw: bytes | memoryview, percent: int) -> bool:
    """Whether compressing saved so much of the raw bytes."""
    return len(packed) * 100 <= len(raw) * (100 - percent)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
