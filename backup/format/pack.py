"""A pack's bytes around its frames: header, sealed directory, trailer, and the archive's description.

header      | frames … | sealed directory | trailer
header.py     frame.py   `seal_directory` makes both, so that the pack ends on a multiple of 64 KiB
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from itertools import compress, repeat
from operator import add, gt

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backup.errors import FormatError
from backup.format.frame import expand
from backup.format.header import (
    FORMAT_VERSION,
    HEADER_PREFIX_LENGTH,
    LARGEST_HEADER,
    MOST_RECIPIENTS,
    NO_HASH,
    NO_PACK,
    CatalogFields,
    Header,
    HeaderFields,
    PackKeys,
    Stanza,
    assemble_header,
    derive_keys,
    header_length,
    is_enrolled,
    open_header,
    open_with,
    parse_header,
    read_header,
    seal_header,
    seal_stanzas,
    verify_header,
)
from backup.format.rows import (
    CHUNK_ROW_SIZE,
    FRAME_ROW_SIZE,
    ChunkColumns,
    pack_chunks,
    pack_frames,
    unpack_chunks,
    unpack_frames,
)
from backup.model import (
    KIB,
    ArchiveLabel,
    ChunkRow,
    FrameRow,
    Generation,
    InventoryId,
    PackId,
    PackKind,
)

__all__ = [
    "HEADER_PREFIX_LENGTH",
    "LARGEST_HEADER",
    "MOST_CHUNKS",
    "MOST_FRAMES",
    "MOST_RECIPIENTS",
    "NO_HASH",
    "NO_PACK",
    "PACK_MULTIPLE",
    "TRAILER_SIZE",
    "CatalogFields",
    "Header",
    "HeaderFields",
    "PackKeys",
    "Stanza",
    "assemble_header",
    "derive_keys",
    "describe",
    "header_length",
    "is_enrolled",
    "open_directory",
    "open_header",
    "open_with",
    "parse_description",
    "parse_header",
    "parse_trailer",
    "read_header",
    "seal_directory",
    "seal_header",
    "seal_stanzas",
    "verify_header",
]

PACK_MULTIPLE = 64 * KIB
MOST_FRAMES = 2**20
MOST_CHUNKS = 2**22
TRAILER_SIZE = 32

_TRAILER = struct.Struct("<8sQQ")  # magic, offset and length of the sealed directory
_TRAILER_MAGIC = b"NVTAIL\x1a\n"
_CHECK_SIZE = 8
_TAG_SIZE = 16
_WRAPPING = struct.Struct("<III4x")  # stored length, raw length, flags; then the stored rows, then zeros
_ROWS = struct.Struct("<IIQ")  # frames, chunks, end of frames
_COMPRESSED = 1
_LARGEST_ROWS = _ROWS.size + MOST_FRAMES * FRAME_ROW_SIZE + MOST_CHUNKS * CHUNK_ROW_SIZE
_LARGEST_DIRECTORY = _LARGEST_ROWS + _WRAPPING.size + _TAG_SIZE + PACK_MULTIPLE
_NONCE = bytes(12)  # the directory key seals one directory, once
_ASSOCIATED = b"nightvault 1 directory"
_LEVEL = 3

_DESCRIPTION = re.compile(
    r"nightvault (?P<version>[0-9]{1,4}) (?:(?P<data>data) (?P<data_ids>[0-9a-f]{32} [0-9a-f]{32})"
    r"|catalog (?P<ids>[0-9a-f]{32} [0-9a-f]{32}) (?P<number>0|[1-9][0-9]{0,18}) (?P<generation>full|delta)"
    r"(?: (?P<job>[0-9a-f]{32}))?)"
)


def seal_directory(
    keys: PackKeys,
    pack_id: bytes,
    frames: Sequence[FrameRow],
    chunks: Sequence[ChunkRow],
    *,
    end_of_frames: int,
) -> bytes:
    """The sealed directory and the trailer; the pack that ends with them is a multiple of 64 KiB.

    `frames` lie one after the other up to `end_of_frames`, with rising numbers; every chunk lies in one of
    them. FormatError when they do not, or are more than 2**20 frames or 2**22 chunks.
    """
    _check_rows(frames, chunks, end_of_frames)
    rows = b"".join(
        [_ROWS.pack(len(frames), len(chunks), end_of_frames), pack_frames(frames), pack_chunks(chunks)]
    )
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(rows)
    stored, flags = (packed, _COMPRESSED) if len(packed) < len(rows) else (rows, 0)
    used = end_of_frames + _WRAPPING.size + len(stored) + _TAG_SIZE + TRAILER_SIZE
    wrapping = _WRAPPING.pack(len(stored), len(rows), flags)
    plain = b"".join([wrapping, stored, bytes(-used % PACK_MULTIPLE)])
    sealed = AESGCM(keys.directory_key).encrypt(_NONCE, plain, _ASSOCIATED + pack_id)
    trailer = _TRAILER.pack(_TRAILER_MAGIC, end_of_frames, len(sealed))
    return sealed + trailer + _check(trailer)


def parse_trailer(data: bytes | memoryview) -> tuple[int, int]:
    """Offset and length of the sealed directory, from the pack's last 32 bytes. FormatError."""
    if len(data) != TRAILER_SIZE:
        raise FormatError(f"a pack's trailer has {TRAILER_SIZE} bytes, not {len(data)}")
    trailer = bytes(data[: _TRAILER.size])
    magic, offset, length = _TRAILER.unpack(trailer)
    if magic != _TRAILER_MAGIC or _check(trailer) != bytes(data[_TRAILER.size :]):
        raise FormatError("the pack's trailer is damaged, or the pack is cut short")
    if length > _LARGEST_DIRECTORY or offset >= 2**63 or (offset + length + TRAILER_SIZE) % PACK_MULTIPLE:
        raise FormatError(f"the pack's trailer claims a directory of {length} bytes at {offset}")
    return offset, length


def open_directory(
    keys: PackKeys, pack_id: bytes, sealed: bytes | memoryview
) -> tuple[list[FrameRow], Sequence[ChunkRow]]:
    """Frames and chunks of a pack, checked to fit each other. FormatError for anything else."""
    if not _WRAPPING.size + _ROWS.size + _TAG_SIZE <= len(sealed) <= _LARGEST_DIRECTORY:
        raise FormatError(f"{len(sealed)} bytes are no pack's directory")
    try:
        plain = AESGCM(keys.directory_key).decrypt(_NONCE, sealed, _ASSOCIATED + pack_id)
    except InvalidTag as error:
        raise FormatError("the pack's directory was not sealed under this key and pack id") from error
    return _unpack_rows(_unwrap(plain))


def _unwrap(plain: bytes) -> bytes:
    stored_length, raw_length, flags = _WRAPPING.unpack_from(plain)
    stored = plain[_WRAPPING.size : _WRAPPING.size + stored_length]
    padding = len(plain) - _WRAPPING.size - stored_length
    if padding < 0 or plain.count(0, len(plain) - padding) != padding or any(plain[12:16]):
        raise FormatError("the pack's directory is not padded as it should be")
    if flags & ~_COMPRESSED or not _ROWS.size <= raw_length <= _LARGEST_ROWS:
        raise FormatError(f"the pack's directory claims {raw_length} bytes (flags {flags})")
    if flags & _COMPRESSED:
        return expand(zstandard.ZstdDecompressor(), stored, raw_length, "the pack's directory")
    if raw_length != stored_length:
        raise FormatError(f"the pack's directory claims {raw_length} bytes in {stored_length}")
    return stored


def _unpack_rows(rows: bytes) -> tuple[list[FrameRow], Sequence[ChunkRow]]:
    frame_count, chunk_count, end_of_frames = _ROWS.unpack_from(rows)
    chunks_at = _ROWS.size + frame_count * FRAME_ROW_SIZE
    if chunks_at + chunk_count * CHUNK_ROW_SIZE != len(rows):
        raise FormatError("the pack's directory does not hold the rows that it claims")
    view = memoryview(rows)
    frames = unpack_frames(view[_ROWS.size : chunks_at])
    chunks = unpack_chunks(view[chunks_at:])
    _check_rows(frames, chunks, end_of_frames)
    return frames, chunks


def _check_rows(frames: Sequence[FrameRow], chunks: Sequence[ChunkRow], end_of_frames: int) -> None:
    if len(frames) > MOST_FRAMES or len(chunks) > MOST_CHUNKS:
        raise FormatError(f"{len(frames)} frames and {len(chunks)} chunks are too many for one pack")
    raw_lengths: dict[int, int] = {}
    position, number = (frames[0].offset if frames else end_of_frames), -1
    for row in frames:
        if row.offset != position or row.number <= number:
            raise FormatError(f"frame {row.number} does not follow the one before it")
        position, number = row.offset + row.sealed_length, row.number
        raw_lengths[number] = row.raw_length
    if position != end_of_frames or not 0 <= end_of_frames < 2**62:
        raise FormatError(f"the frames end at {position}, not at {end_of_frames}")
    columns = ChunkColumns.of(chunks)
    ends = map(add, columns.offsets, columns.lengths)
    for frame in compress(columns.frames, map(gt, ends, map(raw_lengths.get, columns.frames, repeat(-1)))):
        raise FormatError(f"a chunk does not lie in its frame {frame}")


def _check(trailer: bytes) -> bytes:
    return blake3(trailer).digest(_CHECK_SIZE)


def describe(label: ArchiveLabel) -> str:
    """An archive's description in the vault: at most 160 printable ASCII characters, revealing no names."""
    ids = f"{label.pack_id.hex()} {label.inventory_id.hex()}"
    if label.kind is PackKind.DATA:
        return f"nightvault {FORMAT_VERSION} data {ids}"
    if label.generation is None:
        raise FormatError("a catalog's label needs its generation")
    job = f" {label.job_id.hex()}" if label.job_id else ""
    return f"nightvault {FORMAT_VERSION} catalog {ids} {label.number} {label.generation.name.lower()}{job}"


def parse_description(text: str) -> ArchiveLabel | None:
    """The label in a description, None when it is not ours; never raises."""
    match = _DESCRIPTION.fullmatch(text)
    if match is None or int(match["number"] or 0) >= 2**63:
        return None
    pack_id, inventory_id = (bytes.fromhex(part) for part in (match["data_ids"] or match["ids"]).split())
    if match["data"]:
        return ArchiveLabel(PackKind.DATA, PackId(pack_id), InventoryId(inventory_id))
    generation = Generation[match["generation"].upper()]
    job_id = bytes.fromhex(match["job"]) if match["job"] else None
    return ArchiveLabel(
        PackKind.CATALOG, PackId(pack_id), InventoryId(inventory_id), int(match["number"]), generation, job_id
    )
