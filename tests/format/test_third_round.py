"""The golden catalog of the format's third round is read as it was written; broken ones are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from backup.errors import FormatError
from backup.format import catalog, enrolment, frame, pack
from backup.format.content import SignedContent
from backup.format.header import CatalogOption
from backup.model import ArchiveLabel, Generation, PackKind, VaultName
from backup.rebuilder.catalogs.candidates import NothingToRebuildError
from backup.vault.directory import DirectoryVault
from tests.support.archives import store
from tests.support.doubles import ManualClock
from tests.support.packs import INVENTORY_ID, KEY, SIGNER
from tests.support.rebuilds import Bare
from tests.vectors.format.make_round3 import (
    ANCESTORS,
    FOLDER,
    JOB_ID,
    OTHER_KEY,
    REBUILT_ID,
    fields,
    rebuilt_records,
    start,
    values,
)


def golden(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


def opened(name: str, key: Any = KEY) -> tuple[pack.Header, list[catalog.Record]]:
    """A golden catalog's header and records; its content must be as it was signed."""
    data = golden(name)
    header = pack.parse_header(data)
    pack.verify_header(header, SIGNER.public)
    keys = pack.derive_keys(pack.open_header(header, key), header.raw)
    offset, length = pack.parse_trailer(data[-pack.TRAILER_SIZE :])
    rows, chunks = pack.open_directory(keys, REBUILT_ID, data[offset : offset + length])
    assert chunks == []
    codec = frame.FrameCodec()
    found = [
        codec.open(keys.frame_key, REBUILT_ID, row, data[row.offset : row.offset + row.sealed_length])
        for row in rows
    ]
    return header, list(catalog.unpack_records(found, SignedContent(header)))


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_a_catalog_of_a_rebuilt_inventory(key: Any) -> None:
    header, records = opened("rebuilt.pack", key)
    assert header.fields == fields()
    assert header.fields.catalog is not None
    assert header.fields.catalog.options == CatalogOption.SIGNED_CONTENT
    assert records == rebuilt_records()
    assert pack.is_enrolled(header, key)
    signature = enrolment.signature_in(header.fields.catalog.enrolments, key.recipient.id)
    assert signature is not None
    voucher = enrolment.enrolment_key(key)
    assert voucher.vouches(INVENTORY_ID, SIGNER.public, ANCESTORS, signature)
    assert not voucher.vouches(INVENTORY_ID, SIGNER.public, ANCESTORS[:1], signature)
    assert not voucher.vouches(INVENTORY_ID, SIGNER.public, [], signature)


def test_without_the_new_fields_it_is_read_as_before() -> None:
    """A reader of 0.1.0 passes over fields that it does not know; one of today gives them a default."""
    values_of = msgspec.structs.astuple(start())
    short = catalog.decode_record(msgspec.msgpack.encode([1, *values_of[:8]]))
    assert short == catalog.Start(*values_of[:8])
    longer = catalog.decode_record(msgspec.msgpack.encode([1, *values_of, "a later field"]))
    assert longer == start()


def test_records_of_later_kinds_are_passed_over() -> None:
    first, *others = map(catalog.encode_record, rebuilt_records())
    later = [msgspec.msgpack.encode([kind, b"what", [1, "is"], None]) for kind in range(131, 141)]
    pieces = [first, *later, *others]
    pieces.append(msgspec.msgpack.encode([17, len(pieces)]))
    body = b"".join(len(piece).to_bytes(4, "little") + piece for piece in pieces)
    assert list(catalog.unpack_records([body])) == rebuilt_records()


def test_the_derived_values() -> None:
    known = json.loads(golden("enrolments.json"))
    assert values() == known
    key = enrolment.EnrolmentKey.from_text(known["enrolment_text"])
    assert key == enrolment.enrolment_key(KEY)
    mark = enrolment.HeirMark.from_text(known["mark_of_the_heir"])
    assert mark is not None
    assert len(known["mark_of_the_heir"]) == 269
    assert mark.is_proven([key], ANCESTORS[1:])
    assert not mark.is_proven([key], [])


BROKEN = {
    "content-signature-flipped": "signature does not fit",
    "content-signature-missing": "lacks its signature",
}


@pytest.mark.parametrize(("name", "says"), BROKEN.items(), ids=BROKEN)
def test_broken_contents_are_refused(name: str, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        opened(f"broken/packs/{name}")


def test_a_job_id_that_follows_from_nothing_is_refused(tmp_path: Path) -> None:
    """By a rebuild, which has nothing else."""
    vault = DirectoryVault(VaultName("cold"), str(tmp_path / "vault"), ManualClock())
    vault.create()
    label = ArchiveLabel(PackKind.CATALOG, REBUILT_ID, INVENTORY_ID, 9, Generation.FULL, JOB_ID)
    store(vault, golden("broken/packs/job-of-another-inventory"), label)
    machine = Bare(tmp_path / "bare", vault, cast("Any", SimpleNamespace(clock=ManualClock())), KEY)
    with pytest.raises(NothingToRebuildError, match="does not follow from the inventory"):
        machine.rebuild()


def test_every_broken_file_is_tried() -> None:
    assert set(os.listdir(os.path.join(FOLDER, "broken", "packs"))) == {*BROKEN, "job-of-another-inventory"}
