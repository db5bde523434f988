"""Uploads to a bucket: directly into their storage class, verified by the service, never overwriting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backup.errors import (
    ArchiveMissingError,
    ArchiveTakenError,
    DeniedError,
    IntegrityError,
    UploadExpiredError,
    VaultError,
)
from backup.format import pack
from backup.format.crc64 import combine_crc64
from backup.format.treehash import tree_hash as tree_hash_of
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    OpenUpload,
    PackKind,
    Part,
    StoredPart,
    TreeHash,
    UploadId,
)
from backup.protocols import VaultTraits
from backup.vault.aws import field
from backup.vault.partbody import PartBody
from backup.vault.rate_limit import NO_LIMITS, RateLimits
from backup.vault.s3 import answers, keys
from backup.vault.s3.requests import BucketRequests

DESCRIPTION = "nightvault"  # the user metadata that repeats what the key says

_CHANGED = "its bytes changed in spool or memory: check this machine's disk and memory"


class _ExistsError(VaultError):
    """S3's codes for a key that exists already."""


class _ConflictError(VaultError):
    """S3's code for a concurrent write to the same key."""


class S3Uploads:
    """The part of `protocols.Vault` that uploads."""

    def __init__(self, requests: BucketRequests, limits: RateLimits = NO_LIMITS) -> None:
        self._requests = requests
        self._limits = limits
        self._tags: dict[UploadId, dict[int, str]] = {}  # ETags of the parts that this process sent
        self._versions: dict[ArchiveId, str] = {}  # of objects that it completed

    def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
        """CreateMultipartUpload, in the storage class for this kind of pack."""
        traits = self._requests.traits
        if part_size & (part_size - 1) or not traits.smallest_part <= part_size <= traits.largest_part:
            raise VaultError(f"parts have a power of two from 8 MiB to 4 GiB, not {part_size} bytes")
        key, doing = keys.key_of(label), "begin an upload"
        bucket = self._requests.bucket
        storage_class = bucket.storage_class if label.kind is PackKind.DATA else bucket.catalog_class
        answer = self._requests.call(
            "create_multipart_upload",
            doing,
            Key=bucket.prefix + key,
            StorageClass=storage_class,
            Metadata={DESCRIPTION: pack.describe(label), answers.SENT_AS: storage_class},
            ContentType="application/octet-stream",
            **self._requests.locking(doing),
            **self._checksum(ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"),
        )
        return keys.upload_id_of(key, field(answer, "UploadId", doing))

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """UploadPart; the tree hash, which S3 does not know, is checked here, the CRC by the service."""
        doing = f"send the part at {part.offset} of {_describe(upload_id)}"
        upload = self._upload(upload_id, doing)
        _check_place(part, body.nbytes, self._requests.traits)
        if tree_hash_of(body) != part.tree_hash:
            raise IntegrityError(
                f"cannot {doing}: its bytes are not those that were recorded", advice=_CHANGED
            )
        crc = self._checksum(ChecksumCRC64NVME=answers.encode_crc(part.crc64 or 0))
        answer = self._requests.call(
            "upload_part",
            doing,
            unknown=UploadExpiredError,
            **upload,
            PartNumber=part.number,
            ContentLength=body.nbytes,
            Body=PartBody(body, b"", self._limits.up),
            **crc,
        )
        self._tags.setdefault(upload_id, {})[part.number] = answers.tag_of(answer)

    def list_parts(self, upload_id: UploadId, part_size: int) -> Sequence[StoredPart]:
        """ListParts, all pages; parts come with their ETag, and their CRC if the service keeps one."""
        parts = self._parts(upload_id, f"list the parts of {_describe(upload_id)}")
        return [answers.stored_part(part, part_size) for part in parts]

    def complete_upload(
        self,
        upload_id: UploadId,
        label: ArchiveLabel,  # noqa: ARG002 (the upload's key was made of it)
        size: int,
        tree_hash: TreeHash,
        parts: Sequence[Part],
    ) -> ArchiveId:
        """CompleteMultipartUpload, without overwriting; the same if our object exists already.

        Repeated after a success, the service knows no such upload or finds the key taken: then the object
        there is ours if it has the ETag that these parts give. Anybody with the permission to store can put
        another one there, of the same size and CRC.
        """
        doing = f"complete {_describe(upload_id)}"
        key = self._key_of(upload_id, doing)
        answers.check_parts(doing, size, tree_hash, parts)
        sent = self._tags.get(upload_id, {})
        tags = [sent.get(part.number) or part.tag for part in parts]
        version = answers.whole_tag(tags)
        try:
            there = self._parts(upload_id, doing)
            answers.check_present(doing, parts, there, tags)
            version = self._complete(upload_id, doing, size, parts, there) or version
        except (UploadExpiredError, _ExistsError, _ConflictError) as error:
            if not self._holds(upload_id, key, (size, version), doing):
                raise self._given_up(upload_id, error) from error
            self.abort_upload(upload_id)
        self._tags.pop(upload_id, None)
        self._versions[key] = version
        return key

    def take_version(self, archive_id: ArchiveId) -> str:
        """The ETag of an object that was completed here, once."""
        return self._versions.pop(archive_id, "")

    def _complete(
        self,
        upload_id: UploadId,
        doing: str,
        size: int,
        parts: Sequence[Part],
        there: Sequence[Mapping[str, Any]],
    ) -> str:
        """Its ETag; the service refuses parts that were replaced since they were listed."""
        wanted = ("PartNumber", "ETag", "ChecksumCRC64NVME")
        whole = answers.encode_crc(_crc_of(parts))
        answer = self._requests.call(
            "complete_multipart_upload",
            doing,
            unknown=UploadExpiredError,
            refused=IntegrityError,
            meaning={"PreconditionFailed": _ExistsError, "ConditionalRequestConflict": _ConflictError},
            **self._upload(upload_id, doing),
            MultipartUpload={
                "Parts": [{name: part[name] for name in wanted if name in part} for part in there]
            },
            IfNoneMatch="*",
            **self._checksum(ChecksumCRC64NVME=whole, ChecksumType="FULL_OBJECT", MpuObjectSize=size),
        )
        self._requests.keeps_versions = answer.get("VersionId", "null") != "null"
        return answers.tag_of(answer)

    def _holds(self, upload_id: UploadId, key: ArchiveId, ours: tuple[int, str], doing: str) -> bool:
        """Whether the vault has exactly this archive, by size and ETag; `ArchiveTakenError` if another object
        has its key."""
        try:
            found = self._size_and_tag(key, doing)
        except ArchiveMissingError:
            return False
        if all(ours) and found == ours:
            return True
        self.abort_upload(upload_id)
        bucket = self._requests.bucket
        raise ArchiveTakenError(
            f"cannot {doing}: something else lies at {bucket.prefix}{key} in bucket {bucket.name}",
            advice="nothing was overwritten, and the next run reads and stores anew what this archive holds; "
            "find out who else writes to this bucket",
        )

    def _size_and_tag(self, key: ArchiveId, doing: str) -> tuple[int, str]:
        """Size and ETag of an object, by HeadObject, or by a list for a role that may not read."""
        try:
            head = self._requests.head(key, doing)
        except DeniedError:
            whole = self._requests.bucket.prefix + key
            page = self._requests.call("list_objects_v2", doing, Prefix=whole, MaxKeys=1)
            lines = [line for line in page.get("Contents", ()) if line["Key"] == whole]
            if not lines:
                raise ArchiveMissingError(f"cannot {doing}: there is no {key}") from None
            return lines[0]["Size"], answers.tag_of(lines[0])
        return head["ContentLength"], answers.tag_of(head)

    def _given_up(self, upload_id: UploadId, error: VaultError) -> VaultError:
        """Abort an upload after a conflict, since S3 then requires a new one."""
        if isinstance(error, _ConflictError):
            self.abort_upload(upload_id)
        return error if isinstance(error, UploadExpiredError) else UploadExpiredError(str(error))

    def abort_upload(self, upload_id: UploadId) -> None:
        """AbortMultipartUpload; no error for an upload that was completed or is unknown."""
        doing = f"abort {_describe(upload_id)}"
        with suppress(UploadExpiredError):
            upload = self._upload(upload_id, doing)
            self._requests.call("abort_multipart_upload", doing, unknown=UploadExpiredError, **upload)
        self._tags.pop(upload_id, None)

    def list_uploads(self) -> Sequence[OpenUpload]:
        """ListMultipartUploads below the prefix, all pages."""
        doing = "list the uploads"
        found = []
        for page in self._requests.pages(
            "list_multipart_uploads", doing, Prefix=self._requests.bucket.prefix
        ):
            for upload in page.get("Uploads", ()):
                key = ArchiveId(upload["Key"].removeprefix(self._requests.bucket.prefix))
                label = keys.label_of(key)
                upload_id = keys.upload_id_of(key, upload["UploadId"])
                found.append(OpenUpload(upload_id, label, None, upload["Initiated"]))
        return found

    def _parts(self, upload_id: UploadId, doing: str) -> list[Mapping[str, Any]]:
        upload = self._upload(upload_id, doing)
        pages = self._requests.pages("list_parts", doing, unknown=UploadExpiredError, **upload)
        parts = [part for page in pages for part in page.get("Parts", ())]
        oldest_first = sorted(parts, key=lambda part: part["LastModified"])
        numbered = {part["PartNumber"]: part for part in oldest_first}  # some list what was replaced, too
        return [numbered[number] for number in sorted(numbered)]

    def _checksum(self, **parameters: Any) -> dict[str, Any]:
        """The parameters that ask for a checksum; empty if the service does not know it."""
        return parameters if self._requests.traits.checks_crc64 else {}

    def _key_of(self, upload_id: UploadId, doing: str) -> ArchiveId:
        parsed = keys.parse_upload_id(upload_id)
        if parsed is None:
            self._requests.require(doing)
            raise UploadExpiredError(f"cannot {doing}: no upload to a bucket has such an id")
        return parsed[0]

    def _upload(self, upload_id: UploadId, doing: str) -> dict[str, Any]:
        key = self._key_of(upload_id, doing)
        return {"Key": self._requests.bucket.prefix + key, "UploadId": upload_id.rpartition(":")[0]}


def _describe(upload_id: UploadId) -> str:
    """An upload by its key, for messages: the service's own id means nothing to a reader and takes two
    lines."""
    return f"the upload of {upload_id.rpartition(':')[2]}"


def _crc_of(parts: Sequence[Part]) -> int:
    """The CRC of the whole object, computed from those of its parts."""
    return combine_crc64((part.crc64 or 0, part.length) for part in parts)


def _check_place(part: Part, length: int, traits: VaultTraits) -> None:
    """Raise `VaultError` unless the part's number, offset and length are consistent."""
    part_size = part.offset // (part.number - 1) if part.number > 1 else traits.largest_part
    if length != part.length or not 1 <= length <= part_size:
        raise VaultError(f"{length} bytes at {part.offset} are not the {part.length} of that part")
    if part.offset != (part.number - 1) * part_size * (part.number > 1) or part_size % traits.smallest_part:
        raise VaultError(f"part {part.number} cannot lie at {part.offset}")
    if not 1 <= part.number <= traits.most_parts:
        raise VaultError(f"part {part.number} is beyond {traits.most_parts} parts")
