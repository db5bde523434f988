"""What S3 says of restores, parts and classes, read as its documents and servers write it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import IntegrityError
from backup.format.treehash import tree_hash
from backup.model import ByteRange, RetrievalState
from backup.vault.s3 import answers
from tests.support.archives import cut, some_bytes

UNTIL = datetime(2012, 12, 21, tzinfo=UTC)
DONE = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('ongoing-request="true"', (True, None)),
        (DONE, (False, UNTIL)),
        ('expiry-date="Fri, 21 Dec 2012 00:00:00 GMT",ongoing-request="false"', (False, UNTIL)),
        ('Ongoing-Request = "TRUE"', (True, None)),
        ('ongoing-request="false", expiry-date="some day"', (False, None)),
        ("", (False, None)),
        ("nonsense", (False, None)),
    ],
)
def test_the_restore_header(header: str, expected: tuple[bool, datetime | None]) -> None:
    assert answers.parse_restore(header) == expected


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    answers.parse_restore(header)


@pytest.mark.parametrize(
    ("head", "state"),
    [
        ({}, RetrievalState.READY),  # HeadObject names no class for STANDARD
        ({"StorageClass": "GLACIER_IR"}, RetrievalState.READY),
        ({"StorageClass": "STANDARD_IA", "Restore": DONE}, RetrievalState.READY),
        ({"StorageClass": "GLACIER"}, RetrievalState.EXPIRED),
        ({"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="true"'}, RetrievalState.WAITING),
        ({"StorageClass": "DEEP_ARCHIVE", "Restore": DONE}, RetrievalState.READY),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, RetrievalState.EXPIRED),
    ],
)
def test_states_by_head(head: dict[str, Any], state: RetrievalState) -> None:
    assert answers.status_of_head(head).state is state


def test_until_when_a_copy_is_kept_is_told() -> None:
    head = {"StorageClass": "GLACIER", "Restore": DONE}
    assert answers.status_of_head(head).message == "kept until 2012-12-21 00:00 UTC"


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ({"StorageClass": "STANDARD"}, RetrievalState.READY),
        ({"StorageClass": "GLACIER", "RestoreStatus": {"IsRestoreInProgress": True}}, RetrievalState.WAITING),
        (
            {
                "StorageClass": "GLACIER",
                "RestoreStatus": {"IsRestoreInProgress": False, "RestoreExpiryDate": UNTIL},
            },
            RetrievalState.READY,
        ),
    ],
)
def test_states_by_list(line: dict[str, Any], state: RetrievalState) -> None:
    status = answers.status_of_line(line)
    assert status is not None
    assert status.state is state


def test_a_list_without_a_status_does_not_decide() -> None:
    assert answers.status_of_line({"StorageClass": "GLACIER"}) is None


@given(st.integers(0, 2**64 - 1))
def test_a_crc_is_written_and_read(value: int) -> None:
    assert answers.decode_crc(answers.encode_crc(value)) == value


@pytest.mark.parametrize("text", ["", "AAAA", "8KZjykwgEXY=-3", "?"])
def test_no_crc(text: str) -> None:
    assert answers.decode_crc(text) is None


def test_ranges() -> None:
    assert answers.range_of({"ContentRange": "bytes 5-9/20", "ContentLength": 5}) == ByteRange(5, 10)
    assert answers.range_of({"ContentLength": 20}) == ByteRange(0, 20)


@pytest.mark.parametrize("flaw", [
    "none", "missing", "length", "crc", "unknown crc", "tag", "no tag", "unknown tag",
])  # fmt: skip
def test_the_parts_there_must_be_ours(flaw: str) -> None:
    data = some_bytes(3000)
    parts = cut(data, 1024)
    there = [
        {
            "PartNumber": part.number,
            "Size": part.length,
            "ChecksumCRC64NVME": answers.encode_crc(part.crc64 or 0),
            "ETag": f'"{part.tag}"',
        }
        for part in parts
    ]
    tags = [part.tag for part in parts]
    if flaw == "missing":
        del there[1]
    elif flaw == "length":
        there[1]["Size"] = 5
    elif flaw == "crc":
        there[1]["ChecksumCRC64NVME"] = answers.encode_crc(1)
    elif flaw == "unknown crc":
        del there[1]["ChecksumCRC64NVME"]
    elif flaw == "tag":
        there[1]["ETag"] = f'"{parts[0].tag}"'
    elif flaw == "no tag":
        del there[1]["ETag"]
    elif flaw == "unknown tag":
        there[1]["ETag"] = tags[1] = ""
    if flaw in {"none", "unknown crc"}:
        answers.check_present("complete it", parts, there, tags)
        return
    with pytest.raises(IntegrityError):
        answers.check_present("complete it", parts, there, tags)


def test_a_part_is_the_same_by_its_tag_whatever_its_crc_says() -> None:
    (part,) = cut(some_bytes(100))
    there = {"PartNumber": 1, "Size": 100, "ChecksumCRC64NVME": answers.encode_crc(part.crc64 or 0)}
    assert answers.stored_part({**there, "ETag": f'"{part.tag}"'}, 100).is_same_as(part)
    assert not answers.stored_part({**there, "ETag": '"of a KMS"'}, 100).is_same_as(part)
    assert not answers.stored_part(there, 100).is_same_as(part)
    assert not answers.stored_part({**there, "Size": 99, "ETag": part.tag}, 100).is_same_as(part)


@pytest.mark.parametrize("tags", [[], [""], ["0" * 32, ""], ["e"], ["of a KMS"]])
def test_parts_without_an_md5_tell_nothing_of_the_whole(tags: list[str]) -> None:
    assert answers.whole_tag(tags) == ""


def test_parts_with_a_gap_between() -> None:
    data = some_bytes(3000)
    parts = cut(data, 1024)
    answers.check_parts("complete it", 3000, tree_hash(data), cut(data, 1 << 20))
    for wrong in ([], parts[:2], [parts[0], parts[2]], parts[::-1]):
        with pytest.raises(IntegrityError):
            answers.check_parts("complete it", 3000, tree_hash(data), wrong)
