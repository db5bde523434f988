"""How the golden catalogs of the second round were made, once (`-m tests.vectors.format.make_round2`).

A job's first catalog, which is a delta, too, and after it a delta that saved nothing and marks what is there.
Broken ones stand beside them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import msgspec

from backup.format import catalog, frame, pack
from backup.format.header import CatalogFeature
from backup.model import ChunkRow, Extra, FrameRow, Generation, PackId, PackKind
from tests.support import packs

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1", "round2")
MARKS_ID = PackId(bytes(range(176, 192)))
HOME = (1_700_000_000_000_000, 1_700_000_060_000_000, "server.example", [b"/home"])
CONDEMNED, RETIRED, TAKEN_UP = (bytes([value]) * 16 for value in (0xC0, 0xC1, 0xC2))


def first_records() -> list[catalog.Record]:
    """A job's first catalog: all that a full one holds, and the first snapshot."""
    frames = [FrameRow(0, 1376, 616, 600, 0, b"\x01" * 16)]
    chunks = [ChunkRow(bytes([n]) * 32, 0, n * 300, 300) for n in range(2)]
    return [
        catalog.Start(1, 1, 2, packs.JOB_ID, "home", 0, "server.example", "nightvault 0.2.0"),
        catalog.Secrets(packs.SIGNER.seed, packs.SECRET.secret, [packs.KEY.recipient.public]),
        catalog.VaultRecord(1, "cold", "00112233445566778899aabbccddeeff"),
        catalog.DomainRecord(1, b"\x03" * 16, 1, [packs.KEY.recipient.id]),
        catalog.ArchiveRecord(
            *(1, 1, 1, CONDEMNED, bytes(range(100)), 65536, b"\x05" * 32, "id-of-the-vault"),
            *(1_700_000_050_000_000, "stored"),
        ),
        *catalog.split_frames(1, frames),
        *catalog.split_chunks(1, [1, 2], chunks),
        catalog.OwnerRecord(1, 1000, 100, "maria", "users"),
        catalog.DirectoryRecord(1, b"/home"),
        catalog.EntryRecord(
            *(1, 1, b"file", 1, 0o644, 1, 1_700_000_000_123_456_789, 600, None, b"\x04" * 16),
            *(catalog.pack_u32([1, 2]), 1, None),
        ),
        catalog.EntryRecord(
            *(
                2,
                1,
                b"link",
                3,
                0o777,
                1,
                -1,
                0,
                catalog.encode_extra(Extra(b"../target")),
                None,
                b"",
                1,
                None,
            ),
        ),
        catalog.MountsRecord(b""),
        catalog.SnapshotRecord("00112233445566aa", 1, *HOME, 1, 600, []),
        catalog.ChainRecord([], []),
    ]


def marks_records() -> list[catalog.Record]:
    """A delta without a snapshot: every record of the second round."""
    chunks = [ChunkRow(bytes([7]) * 32, 0, 0, 300)]
    return [
        catalog.Start(1, 2, 1, packs.JOB_ID, "home", 1, "server.example", "nightvault 0.2.0"),
        catalog.VaultRecord(1, "cold", "00112233445566778899aabbccddeeff"),
        catalog.DomainRecord(1, b"\x03" * 16, 1, [packs.KEY.recipient.id]),
        catalog.ArchiveRecord(
            *(2, 1, 1, RETIRED, bytes(range(100)), 65536, b"\x06" * 32, "id-of-another"),
            *(1_700_000_050_000_000, "deleted"),
        ),
        *catalog.split_chunks(2, [3], chunks),
        catalog.ForgottenRecord([2, 3, 4], 1_700_100_000_000_000),
        catalog.TakenBackRecord([3]),
        catalog.DroppedRecord([4]),
        catalog.MarksRecord(
            1, ["before the move", "café"], True, "the last one with /srv", 1_800_000_000_000_000
        ),
        catalog.MarksRecord(3, [], False),
        catalog.CondemnedRecord([CONDEMNED], 1_700_100_000_000_001),
        catalog.RetiredRecord([RETIRED]),
        catalog.TakenUpRecord([TAKEN_UP]),
        catalog.VerifiedRecord(CONDEMNED, 2, catalog.pack_u64([0, 2**20, 2**21, 2**40]), -1),
        catalog.ChainRecord([(1, 2, packs.PACK_ID, bytes(32), "id-of-the-parent")], [131072]),
    ]


def fields_of(
    number: int, generation: Generation, features: int, parent: tuple[bytes, bytes], pack_id: PackId
) -> pack.HeaderFields:
    """The fields of a catalog's header."""
    tag = packs.KEY.enrolment_tag(packs.INVENTORY_ID, packs.SIGNER.public)
    place = pack.CatalogFields(
        packs.JOB_ID,
        number,
        generation,
        *parent,
        ((packs.KEY.recipient.id, tag),),
        CatalogFeature(features),
    )
    return pack.HeaderFields(PackKind.CATALOG, pack_id, packs.INVENTORY_ID, packs.SIGNER.public, place)


def header_of(fields: pack.HeaderFields) -> bytes:
    """Sealed for the fixed key; HPKE draws randomness."""
    return pack.seal_header(
        fields, pack_key=packs.PACK_KEY, recipients=[packs.KEY.recipient], signer=packs.SIGNER
    )


def catalog_pack(header: bytes, records: Sequence[catalog.Record]) -> bytes:
    """A whole pack under the fixed pack key."""
    keys, pack_id = pack.derive_keys(packs.PACK_KEY, header), pack.parse_header(header).fields.pack_id
    codec, parts, rows, place = frame.FrameCodec(), [header], [], len(header)
    for number, body in enumerate(catalog.pack_records(records)):
        one = codec.seal(keys.frame_key, pack_id, number, [body])
        rows.append(one.row(place))
        parts.append(bytes(one.data))
        place += len(one.data)
    return b"".join([*parts, pack.seal_directory(keys, pack_id, rows, [], end_of_frames=place)])


def broken_headers(first: bytes, marks: bytes, data: bytes) -> dict[str, bytes]:
    """Headers with one thing wrong; each is signed as its owner could."""
    return {
        "first-delta-that-is-no-full-one": _signed(first, 25, b"\x01"),
        "first-delta-with-a-parent": _signed(first, 120, packs.PACK_ID),
        "later-feature": _signed(marks, 16, b"\x06"),
        "data-pack-with-a-feature": _signed(data, 16, b"\x02"),
    }


def broken_catalogs() -> dict[str, bytes]:
    """Frame bodies with one thing wrong."""
    start = msgspec.msgpack.encode(marks_records()[0])
    return {
        "unknown-kind": _body(start, _record(22, [1]), _record(17, 2)),
        "forgotten-without-a-time": _body(start, _record(18, [1]), _record(17, 2)),
        "condemned-by-a-short-id": _body(start, _record(14, [b"short"], 1), _record(17, 2)),
    }


def _signed(header: bytes, place: int, value: bytes) -> bytes:
    changed = header[:place] + value + header[place + len(value) : -64]
    return changed + packs.SIGNER.sign(changed)


def _record(*values: object) -> bytes:
    return msgspec.msgpack.encode(list(values))


def _body(*pieces: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)


def main() -> None:
    """Write every golden file that is not there yet."""
    none = (pack.NO_PACK, pack.NO_HASH)
    first = header_of(fields_of(1, Generation.FULL, 1, none, packs.PACK_ID))
    parent = (packs.PACK_ID, pack.parse_header(first).hash)
    marks = header_of(fields_of(2, Generation.DELTA, 2, parent, MARKS_ID))
    files = {
        "first.pack": catalog_pack(first, first_records()),
        "marks.pack": catalog_pack(marks, marks_records()),
        **{
            f"broken/headers/{name}": data
            for name, data in broken_headers(first, marks, header_of(packs.data_fields())).items()
        },
        **{f"broken/catalogs/{name}": data for name, data in broken_catalogs().items()},
    }
    if os.path.exists(FOLDER):
        return
    for name, data in files.items():
        path = os.path.join(FOLDER, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
