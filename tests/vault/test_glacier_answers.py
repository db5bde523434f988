"""What Glacier answers, read with care."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from backup.errors import IntegrityError, VaultError
from backup.format.pack import describe
from backup.model import ByteRange, RetrievalState, RetrievalStatus, StoredPart, TreeHash
from backup.vault import glacier_answers as answers
from tests.support.archives import CATALOG

ARN = "arn:aws:glacier:us-west-2:123456789012:vaults/x"


def listing(*archives: dict[str, object]) -> bytes:
    """A listing as the service writes it."""
    inventory = {"VaultARN": ARN, "InventoryDate": "2017-08-22T07:32:12Z", "ArchiveList": list(archives)}
    return json.dumps(inventory, separators=(",", ":")).encode()


def test_a_listing_of_the_service() -> None:
    ours = {
        "ArchiveId": "-abc",
        "ArchiveDescription": describe(CATALOG),
        "CreationDate": "2017-08-21T01:31:12Z",
        "Size": 5,
        "SHA256TreeHash": "ab" * 32,
    }
    read = answers.parse_listing(listing(ours), "read it")
    assert read.as_of == datetime(2017, 8, 22, 7, 32, 12, tzinfo=UTC)
    (archive,) = read.archives
    assert (archive.archive_id, archive.label, archive.size) == ("-abc", CATALOG, 5)
    assert archive.tree_hash == b"\xab" * 32
    assert archive.created_at == datetime(2017, 8, 21, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("description", ["", None, 'quotes " and \\', "mt2 eyJmaWxlbmFtZSI6", "é"])
def test_archives_of_others_are_listed_without_label(description: str | None) -> None:
    other = {"ArchiveId": "a", "ArchiveDescription": description, "CreationDate": "2017-08-21T01:31:12.5Z"}
    (archive,) = answers.parse_listing(listing({**other, "Size": 1, "New": {}}), "read it").archives
    assert archive.label is None
    assert archive.tree_hash is None
    assert archive.description == (description or "")


@pytest.mark.parametrize("data", [b"", b"{}", b"ArchiveId,Size", listing()[:-3], listing({"ArchiveId": "a"})])
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(VaultError, match="read it"):
        answers.parse_listing(data, "read it")


def test_a_failed_job_is_completed_but_not_ready() -> None:
    failed = {"Completed": True, "StatusCode": "Failed", "StatusMessage": "The archive was deleted"}
    assert answers.status(failed) == RetrievalStatus(RetrievalState.FAILED, "The archive was deleted")
    assert answers.status({"StatusCode": "Succeeded"}).state is RetrievalState.READY
    assert answers.status({"StatusCode": "InProgress"}).state is RetrievalState.WAITING


def test_which_bytes_an_answer_holds() -> None:
    metadata = {"ResponseMetadata": {"HTTPHeaders": {"content-length": "10"}}}
    assert answers.range_of(metadata) == ByteRange(0, 10)
    assert answers.range_of({**metadata, "contentRange": "bytes 5-14/100"}) == ByteRange(5, 15)


def test_parts_have_both_ends_on_the_wire() -> None:
    part = {"RangeInBytes": "1048576-2097151", "SHA256TreeHash": "ab" * 32}
    assert answers.stored_part(part) == StoredPart(1048576, 1048576, TreeHash(b"\xab" * 32))


def test_another_hash_than_ours_is_noticed() -> None:
    ours = TreeHash(b"\xab" * 32)
    answers.check_answered({"checksum": "ab" * 32}, ours, "it")
    answers.check_answered({}, ours, "it")
    with pytest.raises(IntegrityError):
        answers.check_answered({"checksum": "00" * 32}, ours, "it")
