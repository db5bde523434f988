"""Parse Glacier's answers: jobs, parts, uploads, listings; pure.

Source: Amazon Glacier developer guide, API reference 2012-06-01; absent fields are null there, and boto3
drops nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from backup.errors import IntegrityError, VaultError
from backup.format import pack
from backup.model import (
    ArchiveId,
    ByteRange,
    ListedArchive,
    Listing,
    OpenUpload,
    RetrievalState,
    RetrievalStatus,
    StoredPart,
    TreeHash,
    UploadId,
    VaultIdentity,
)

OUTPUT_LIVES = timedelta(hours=24)
"""The minimum time for which an output can be fetched after completion: developer guide, "Get Job Output"."""

EXPIRED = RetrievalStatus(RetrievalState.EXPIRED)
"""The status of a job that AWS does not know (any more)."""


def status(job: Mapping[str, Any]) -> RetrievalStatus:
    """The status of a job. `Completed` is true for failed jobs, too, so the status code decides."""
    states = {"Succeeded": RetrievalState.READY, "Failed": RetrievalState.FAILED}
    state = states.get(job.get("StatusCode", ""), RetrievalState.WAITING)
    completed = job.get("CompletionDate") if state is RetrievalState.READY else None
    until = parse_date(completed) + OUTPUT_LIVES if completed else None
    return RetrievalStatus(state, job.get("StatusMessage") or "", until)


def range_of(answer: Mapping[str, Any]) -> ByteRange:
    """The range of the output that an answer holds, by its Content-Range; all of it without that header."""
    content_range = answer.get("contentRange")
    if content_range is None:
        length = answer["ResponseMetadata"]["HTTPHeaders"].get("content-length", "0")
        return ByteRange(0, int(length))
    first, last = content_range.removeprefix("bytes ").partition("/")[0].split("-")
    return ByteRange(int(first), int(last) + 1)


def check_answered(answer: Mapping[str, Any], tree_hash: TreeHash, what: str) -> None:
    """Raise `IntegrityError` if the service reports another tree hash."""
    checksum = answer.get("checksum")
    if checksum is not None and checksum != tree_hash.hex():
        raise IntegrityError(
            f"AWS has {checksum} as tree hash of {what}, we have {tree_hash.hex()}",
            advice="the bytes changed on their way, or in this machine's memory or disk",
        )


def stored_part(answer: Mapping[str, Any]) -> StoredPart:
    """One item of ListParts as a value; in AWS's ranges both ends are inclusive."""
    first, last = map(int, answer["RangeInBytes"].split("-"))
    return StoredPart(first, last - first + 1, _tree_hash(answer.get("SHA256TreeHash")))


def open_upload(answer: Mapping[str, Any]) -> OpenUpload:
    """One item of ListMultipartUploads as a value."""
    return OpenUpload(
        upload_id=UploadId(answer["MultipartUploadId"]),
        label=pack.parse_description(answer.get("ArchiveDescription") or ""),
        part_size=answer["PartSizeInBytes"],
        started_at=parse_date(answer["CreationDate"]),
    )


def identity_of(arn: str, made: str) -> VaultIdentity:
    """The vault's identity: its ARN and the date of its creation."""
    return VaultIdentity(f"{arn} {parse_date(made):%Y-%m-%dT%H:%M:%SZ}")


def parse_date(text: str) -> datetime:
    """The moment of a date as AWS writes it: with milliseconds, except in listings."""
    return datetime.fromisoformat(text)


def _tree_hash(text: str | None) -> TreeHash | None:
    return TreeHash(bytes.fromhex(text)) if text else None


class _InventoryArchive(msgspec.Struct, rename="pascal"):
    archive_id: str
    creation_date: str
    size: int
    archive_description: str | None = None
    tree_hash: str | None = msgspec.field(name="SHA256TreeHash", default=None)


class _Inventory(msgspec.Struct, rename="pascal"):
    inventory_date: str
    archive_list: list[_InventoryArchive]


def parse_listing(data: bytes, doing: str) -> Listing:
    """The entries of a listing's JSON; `VaultError` when it is not what AWS documents."""
    try:
        inventory = msgspec.json.decode(data, type=_Inventory)
        archives = [_listed(archive) for archive in inventory.archive_list]
        return Listing(parse_date(inventory.inventory_date), archives)
    except (msgspec.DecodeError, ValueError) as error:
        raise VaultError(f"cannot {doing}: it is not the JSON that AWS documents: {error}") from error


def _listed(archive: _InventoryArchive) -> ListedArchive:
    description = archive.archive_description or ""
    return ListedArchive(
        archive_id=ArchiveId(archive.archive_id),
        description=description,
        label=pack.parse_description(description),
        size=archive.size,
        tree_hash=_tree_hash(archive.tree_hash),
        created_at=parse_date(archive.creation_date),
    )
