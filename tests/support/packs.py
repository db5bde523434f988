"""Whole packs under fixed keys, and one way to read them back: what most tests of the format need."""

from __future__ import annotations

from msgspec import Struct

from backup.format import frame, pack
from backup.format.keys import ChunkSecret, RecoveryKey, Signer
from backup.format.naming import chunk_id
from backup.model import ChunkRow, FrameRow, Generation, InventoryId, PackId, PackKind

KEY = RecoveryKey(bytes(range(32)))
SIGNER = Signer(bytes(range(32, 64)))
SECRET = ChunkSecret(bytes(range(64, 96)))
PACK_KEY = bytes(range(96, 128))
PACK_ID = PackId(bytes(range(128, 144)))
INVENTORY_ID = InventoryId(bytes(range(144, 160)))
JOB_ID = bytes(range(160, 176))
CHUNKS = [b"one chunk " * 30, bytes(range(256)), b"x", b"another frame"]


class Sealed(Struct, frozen=True):
    """A pack with all that belongs to it."""

    fields: pack.HeaderFields
    data: bytes
    header_size: int
    frames: list[FrameRow]
    chunks: list[ChunkRow]
    recovery_key: RecoveryKey
    signer: Signer


def data_fields() -> pack.HeaderFields:
    """The fields of a data pack."""
    return pack.HeaderFields(PackKind.DATA, PACK_ID, INVENTORY_ID, SIGNER.public)


def catalog_fields(number: int = 7) -> pack.HeaderFields:
    """The fields of a catalog with a parent and an enrolment."""
    tag = KEY.enrolment_tag(INVENTORY_ID, SIGNER.public)
    enrolments = ((KEY.recipient.id, tag),)
    catalog = pack.CatalogFields(JOB_ID, number, Generation.DELTA, bytes(16), b"h" * 32, enrolments)
    return pack.HeaderFields(PackKind.CATALOG, PACK_ID, INVENTORY_ID, SIGNER.public, catalog)


def make_pack(header: bytes, bodies: list[list[bytes]]) -> Sealed:
    """A pack of these frames, each a list of chunks."""
    keys = pack.derive_keys(PACK_KEY, header)
    codec = frame.FrameCodec()
    frames: list[FrameRow] = []
    chunks: list[ChunkRow] = []
    parts = [header]
    place = len(header)
    for number, body in enumerate(bodies):
        sealed = codec.seal(keys.frame_key, PACK_ID, number, body)
        frames.append(sealed.row(place))
        offset = 0
        for chunk in body:
            chunks.append(ChunkRow(chunk_id(SECRET.chunk_key, chunk), number, offset, len(chunk)))
            offset += len(chunk)
        parts.append(bytes(sealed.data))
        place += len(sealed.data)
    parts.append(pack.seal_directory(keys, PACK_ID, frames, chunks, end_of_frames=place))
    fields = pack.parse_header(header).fields
    return Sealed(fields, b"".join(parts), len(header), frames, chunks, KEY, SIGNER)


def read_pack(data: bytes, key: RecoveryKey, signer_public: bytes) -> list[bytes]:
    """Everything in a pack, as a reader goes about it: header, trailer, directory, frames, chunks."""
    header = pack.parse_header(data)
    pack.verify_header(header, signer_public)
    keys = pack.derive_keys(pack.open_header(header, key), header.raw)
    offset, length = pack.parse_trailer(data[-pack.TRAILER_SIZE :])
    frames, chunks = pack.open_directory(keys, header.fields.pack_id, data[offset : offset + length])
    codec = frame.FrameCodec()
    opened = {
        row.number: codec.open(
            keys.frame_key, header.fields.pack_id, row, data[row.offset : row.offset + row.sealed_length]
        )
        for row in frames
    }
    return [opened[row.frame][row.offset : row.offset + row.length] for row in chunks]
