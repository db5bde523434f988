"""Golden files of every format so far are read as they were written, and the broken ones are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from backup.errors import FormatError, NewerFormatError, NightvaultError, RecoveryKeyError
from backup.format import catalog, frame, keys, naming, pack
from backup.model import Generation, PackKind
from tests.support.packs import (
    CHUNKS,
    INVENTORY_ID,
    KEY,
    PACK_ID,
    PACK_KEY,
    SECRET,
    SIGNER,
    catalog_fields,
    data_fields,
    read_pack,
)
from tests.vectors.format.make import FOLDER, PASSPHRASE, derivations, dumps, mounts, records, shrunk


def golden(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


def test_the_data_pack() -> None:
    data = golden("data.pack")
    assert read_pack(data, KEY, SIGNER.public) == CHUNKS
    header = pack.parse_header(data)
    assert header.fields == data_fields()
    assert [stanza.recipient_id for stanza in header.stanzas] == [KEY.recipient.id]
    assert pack.open_header(header, KEY) == PACK_KEY
    pack_keys = pack.derive_keys(PACK_KEY, header.raw)
    offset, length = pack.parse_trailer(data[-pack.TRAILER_SIZE :])
    _, chunks = pack.open_directory(pack_keys, PACK_ID, data[offset : offset + length])
    assert [chunk.id for chunk in chunks] == [naming.chunk_id(SECRET.chunk_key, chunk) for chunk in CHUNKS]


def test_the_catalog_pack() -> None:
    found = open_golden_catalog("catalog.pack")
    assert found == records()
    later = {catalog.MountsRecord, catalog.MarksRecord, catalog.VerifiedRecord, catalog.ShrunkRecord}
    later |= {*catalog.MARKING, catalog.DumpRecord}
    required = set(catalog.Record.__args__) - later  # which have packs of their own
    assert {type(record) for record in found} == required


def test_the_catalog_pack_with_mount_points() -> None:
    found = open_golden_catalog("catalog-mounts.pack")
    assert found == mounts()
    assert isinstance(found[-1], catalog.MountsRecord)
    assert catalog.unpack_u64(found[-1].entries) == [3, 2**40]


def test_the_catalog_with_a_snapshot_that_shrank() -> None:
    found = open_golden_catalog("catalog-shrunk.pack")
    assert found == shrunk()
    assert [type(record) for record in found[-3:]] == [catalog.SnapshotRecord, *[catalog.ShrunkRecord] * 2]


def test_the_catalog_with_the_dump_of_a_database() -> None:
    found = open_golden_catalog("catalog-dumps.pack")
    assert found == dumps()
    assert isinstance(found[-1], catalog.DumpRecord)


def open_golden_catalog(name: str) -> list[catalog.Record]:
    """The records of a golden catalog, whose header is looked at on the way."""
    data = golden(name)
    header = pack.parse_header(data)
    pack.verify_header(header, SIGNER.public)
    assert pack.is_enrolled(header, KEY)
    assert header.fields == catalog_fields()
    assert header.fields.kind is PackKind.CATALOG
    assert header.fields.catalog is not None
    assert header.fields.catalog.generation is Generation.DELTA
    pack_keys = pack.derive_keys(pack.open_header(header, KEY), header.raw)
    offset, length = pack.parse_trailer(data[-pack.TRAILER_SIZE :])
    frames, chunks = pack.open_directory(pack_keys, PACK_ID, data[offset : offset + length])
    assert chunks == []
    codec = frame.FrameCodec()
    bodies = [
        codec.open(pack_keys.frame_key, PACK_ID, row, data[row.offset : row.offset + row.sealed_length])
        for row in frames
    ]
    return list(catalog.unpack_records(bodies))


def test_a_later_catalog() -> None:
    assert list(catalog.unpack_records([golden("later-catalog.body")])) == [
        records()[0],
        catalog.DirectoryRecord(1, b"/home"),
    ]


def test_the_key_files() -> None:
    assert keys.parse_key_file(golden("recovery.key")) == KEY
    assert keys.parse_key_file(golden("protected.key"), lambda: PASSPHRASE) == KEY
    with pytest.raises(RecoveryKeyError, match="passphrase"):
        keys.parse_key_file(golden("protected.key"), lambda: b"wrong")


def test_the_derivations() -> None:
    expected = json.loads(golden("derivations.json"))
    assert derivations() == expected
    assert keys.RecoveryKey.from_text(expected["recovery_text"]) == KEY
    assert keys.Recipient.from_text(expected["recipient_text"]) == KEY.recipient
    label = pack.parse_description(expected["catalog_description"])
    assert label is not None
    assert (label.pack_id, label.inventory_id, label.number) == (PACK_ID, INVENTORY_ID, 7)


def open_pack(data: bytes) -> object:
    return read_pack(data, KEY, SIGNER.public)


def open_header(data: bytes) -> object:
    header = pack.parse_header(data)
    pack.verify_header(header, SIGNER.public)
    return pack.open_header(header, KEY)


def open_catalog(data: bytes) -> object:
    return list(catalog.unpack_records([data]))


def open_key(data: bytes) -> object:
    return keys.parse_key_file(data, lambda: PASSPHRASE)


BROKEN: list[tuple[str, str, Callable[[bytes], object], type[NightvaultError]]] = [
    ("headers/stranger", "another signer", open_header, FormatError),
    ("headers/forged-signer", "signature", open_header, FormatError),
    ("headers/wrong-commitment", "commits to", open_header, FormatError),
    ("headers/foreign-stanza", "does not open", open_header, RecoveryKeyError),
    ("headers/later-version", "format 2", open_header, NewerFormatError),
    ("headers/required-feature", "features", open_header, NewerFormatError),
    ("headers/unknown-kind", "kind", open_header, FormatError),
    ("headers/endless", "claims a header", open_header, FormatError),
    ("headers/recipient-twice", "twice", open_header, FormatError),
    ("headers/cut", "cut short", open_header, FormatError),
    ("packs/frames-swapped", "frame 0 was not sealed under", open_pack, FormatError),
    ("packs/bomb", "frame 0 does not hold", open_pack, FormatError),
    ("packs/chunk-outside", "chunk does not lie", open_pack, FormatError),
    ("packs/frames-apart", "frame 1 does not follow", open_pack, FormatError),
    ("packs/padding-used", "padded", open_pack, FormatError),
    ("catalogs/no-end", "no end", open_catalog, FormatError),
    ("catalogs/wrong-count", "instead of 3", open_catalog, FormatError),
    ("catalogs/no-start", "Start", open_catalog, FormatError),
    ("catalogs/unknown-required", "kind 127", open_catalog, NewerFormatError),
    ("catalogs/after-the-end", "after its end", open_catalog, FormatError),
    ("catalogs/later-format", "format 2", open_catalog, NewerFormatError),
    ("catalogs/cut", "cut short", open_catalog, FormatError),
    ("keys/too-much-memory", "at most", open_key, RecoveryKeyError),
    ("keys/too-many-passes", "at most", open_key, RecoveryKeyError),
    ("keys/four-lanes", "not known here", open_key, RecoveryKeyError),
    ("keys/flipped", "passphrase does not open", open_key, RecoveryKeyError),
    ("keys/cut", "cut short", open_key, RecoveryKeyError),
    ("keys/typo", "checksum", open_key, RecoveryKeyError),
    ("keys/short", "characters", open_key, RecoveryKeyError),
]


@pytest.mark.parametrize(("name", "says", "read", "error"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_files_are_refused(
    name: str, says: str, read: Callable[[bytes], object], error: type[NightvaultError]
) -> None:
    with pytest.raises(error, match=says):
        read(golden(f"broken/{name}"))


def test_every_broken_file_is_tried() -> None:
    root = os.path.join(FOLDER, "broken")
    found = {
        f"{folder}/{name}" for folder in os.listdir(root) for name in os.listdir(os.path.join(root, folder))
    }
    assert found == {row[0] for row in BROKEN}
