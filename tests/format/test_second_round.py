"""Golden catalogs of the format's second round are read as they were written; broken ones are refused."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from backup.errors import FormatError, NewerFormatError
from backup.format import catalog, frame, pack
from backup.format.header import CatalogFeature
from backup.model import Generation, PackId
from tests.support.packs import KEY, PACK_ID, SIGNER
from tests.vectors.format.make_round2 import FOLDER, MARKS_ID, fields_of, first_records, marks_records


def golden(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


def opened(name: str, pack_id: PackId) -> tuple[pack.Header, list[catalog.Record]]:
    """A golden catalog's header and records."""
    data = golden(name)
    header = pack.parse_header(data)
    pack.verify_header(header, SIGNER.public)
    assert pack.is_enrolled(header, KEY)
    keys = pack.derive_keys(pack.open_header(header, KEY), header.raw)
    offset, length = pack.parse_trailer(data[-pack.TRAILER_SIZE :])
    rows, chunks = pack.open_directory(keys, pack_id, data[offset : offset + length])
    assert chunks == []
    codec = frame.FrameCodec()
    bodies = [
        codec.open(keys.frame_key, pack_id, row, data[row.offset : row.offset + row.sealed_length])
        for row in rows
    ]
    return header, list(catalog.unpack_records(bodies))


def test_a_first_catalog_that_is_a_delta_too() -> None:
    header, records = opened("first.pack", PACK_ID)
    none = (pack.NO_PACK, pack.NO_HASH)
    assert header.fields == fields_of(1, Generation.FULL, CatalogFeature.FIRST_DELTA, none, PACK_ID)
    assert records == first_records()


def test_a_delta_without_a_snapshot() -> None:
    """Its parent is the first catalog; it holds every record of the second round."""
    first, _ = opened("first.pack", PACK_ID)
    header, records = opened("marks.pack", MARKS_ID)
    parent = (PACK_ID, first.hash)
    assert header.fields == fields_of(2, Generation.DELTA, CatalogFeature.MARKS, parent, MARKS_ID)
    assert records == marks_records()
    kinds = {type(record) for record in records}
    assert kinds >= {*catalog.MARKING, catalog.DroppedRecord, catalog.CondemnedRecord}
    assert kinds >= {catalog.MarksRecord, catalog.VerifiedRecord}
    assert catalog.SnapshotRecord not in kinds


def open_header(data: bytes) -> object:
    return pack.parse_header(data)


def open_catalog(data: bytes) -> object:
    return list(catalog.unpack_records([data]))


BROKEN: list[tuple[str, str, Callable[[bytes], object], type[FormatError]]] = [
    ("headers/first-delta-that-is-no-full-one", "without a parent", open_header, FormatError),
    ("headers/first-delta-with-a-parent", "without a parent", open_header, FormatError),
    ("headers/later-feature", "0x4", open_header, NewerFormatError),
    ("headers/data-pack-with-a-feature", "0x2", open_header, NewerFormatError),
    ("catalogs/unknown-kind", "kind 22", open_catalog, NewerFormatError),
    ("catalogs/forgotten-without-a-time", "cannot be read", open_catalog, FormatError),
    ("catalogs/condemned-by-a-short-id", "cannot be read", open_catalog, FormatError),
]


@pytest.mark.parametrize(("name", "says", "read", "error"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_files_are_refused(
    name: str, says: str, read: Callable[[bytes], object], error: type[FormatError]
) -> None:
    with pytest.raises(error, match=says) as caught:
        read(golden(f"broken/{name}"))
    assert type(caught.value) is error


def test_every_broken_file_is_tried() -> None:
    root = os.path.join(FOLDER, "broken")
    found = {f"{kind}/{name}" for kind in os.listdir(root) for name in os.listdir(os.path.join(root, kind))}
    assert found == {row[0] for row in BROKEN}
