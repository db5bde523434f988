"""The Glacier vault service of 2012 as a `Vault`: one request for each call, every byte hashed once.

Source of all facts on requests and answers: Amazon Glacier developer guide, API reference 2012-06-01.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from backup.errors import (
    ArchiveMissingError,
    ArchiveShortError,
    DeniedError,
    IntegrityError,
    NightvaultError,
    RetrievalExpiredError,
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.format import pack
from backup.model import (
    MIB,
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Fetched,
    InventoryId,
    ListedArchive,
    Listing,
    ListingId,
    OpenUpload,
    Part,
    Refusal,
    RetrievalId,
    RetrievalStatus,
    StoredPart,
    Tier,
    TreeHash,
    UploadId,
    VaultIdentity,
    VaultName,
    VaultState,
)
from backup.protocols import VaultTraits
from backup.vault import glacier_answers as answers
from backup.vault import glacier_lock
from backup.vault.aws import field, translated_errors, vault_time
from backup.vault.glacier_locking import GlacierLocking
from backup.vault.partbody import PartBody, hand_over_hashes, limit_rate
from backup.vault.rate_limit import NO_LIMITS, RateLimits, read_all

TRAITS = VaultTraits(
    retrieves_ranges=True,
    waits=True,
    keeps_metadata_hot=False,
    minimum_storage=timedelta(days=90),
    smallest_part=MIB,
    largest_part=4096 * MIB,
    most_parts=10_000,
)

TOKEN_PREFIX = "nightvault "  # noqa: S105 (of a retrieval's token, which is no secret)
"""The prefix of the descriptions of our retrievals and listings."""

_MARK = b"\0"
_IDS = {"archiveId", "uploadId", "jobId"}
_ID = re.compile(r"[A-Za-z0-9_-]+")

FEW = 3
"""Up to this number the states of retrievals are requested one by one; for more, AWS's list of 50 a page is
cheaper."""


class GlacierVault(GlacierLocking):
    """A vault of the Glacier service; `client` is `aws.make_client(session, "glacier", …)`.

    `account_id` "-" is the account of the signing keys.
    """

    def __init__(
        self, name: VaultName, client: Any, vault: str, account_id: str = "-", limits: RateLimits = NO_LIMITS
    ) -> None:
        self._name = name
        self._client = client
        self._vault = vault
        self._account_id = account_id
        self._limits = limits
        hand_over_hashes(client)
        limit_rate(client)

    @property
    def name(self) -> VaultName:
        """The vault's name in the config."""
        return self._name

    @property
    def traits(self) -> VaultTraits:
        """The limits and abilities of a Glacier vault."""
        return TRAITS

    def create(self) -> None:
        """CreateVault, which does not tell whether the vault existed before."""
        self._call("create_vault", "create it")

    def state(self) -> VaultState:
        """DescribeVault: counts as of the service's last listing; the size includes 32 KiB for each
        archive."""
        try:
            answer = self._call("describe_vault", "describe it")
        except VaultMissingError:
            url = f"{self._client.meta.endpoint_url}/{self._account_id}/vaults/{self._vault}"
            return VaultState(exists=False, location=url)
        listed, made = answer.get("LastInventoryDate"), answer.get("CreationDate")
        arn = field(answer, "VaultARN", "describe it")
        return VaultState(
            exists=True,
            location=arn,
            archives=answer.get("NumberOfArchives"),
            size=answer.get("SizeInBytes"),
            listed_at=answers.parse_date(listed) if listed else None,
            at=vault_time(answer),
            identities=[answers.identity_of(arn, made)] if made else None,
        )

    # Which vault this is.

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:  # noqa: ARG002 (all see the same)
        """DescribeVault: its ARN and creation date, since a deleted vault's name can be used again."""
        doing = "look which vault it is"
        answer = self._call("describe_vault", doing)
        arn, made = (field(answer, name, doing) for name in ("VaultARN", "CreationDate"))
        return [answers.identity_of(arn, made)]

    def add_identity(self, inventory_id: InventoryId, token: str) -> None:
        """Do nothing: ARN and creation date already identify the vault."""

    def add_mark(self, name: str) -> None:
        """An archive of one byte with that description, sent as any other: no further right is needed."""
        self.store_byte(name)

    def store_byte(self, name: str) -> ArchiveId:
        """Store an archive of one byte with that description."""
        upload, digest = self._begin(name, MIB), hashlib.sha256(_MARK).digest()
        self.put_part(upload, Part(0, 1, TreeHash(digest), digest, 1), memoryview(_MARK))
        return self._complete(upload, 1, TreeHash(digest))

    def newest_catalogs(
        self,
        inventory_id: InventoryId,  # noqa: ARG002 (a listing takes hours)
        known: Mapping[bytes, int],  # noqa: ARG002
    ) -> Sequence[ListedArchive]:
        """None: Glacier cannot list anything at once."""
        return ()

    # Uploads.

    def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
        """InitiateMultipartUpload, with the label as description."""
        return self._begin(pack.describe(label), part_size)

    def _begin(self, description: str, part_size: int) -> UploadId:
        doing, size = "begin an upload", str(part_size)
        answer = self._call("initiate_multipart_upload", doing, archiveDescription=description, partSize=size)
        return UploadId(field(answer, "uploadId", doing))

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """UploadMultipartPart; the service checks both hashes, and we check the tree hash that it reports."""
        if body.nbytes != part.length:
            raise VaultError(f"the part at {part.offset} has {body.nbytes} bytes, not {part.length}")
        answer = self._call(
            "upload_multipart_part",
            f"send the part at {part.offset} of upload {upload_id}",
            unknown=UploadExpiredError,
            uploadId=upload_id,
            range=f"bytes {part.offset}-{part.offset + part.length - 1}/*",
            checksum=part.tree_hash.hex(),
            body=PartBody(body, part.sha256, self._limits.up),
        )
        answers.check_answered(answer, part.tree_hash, f"the part at {part.offset} of upload {upload_id}")

    def list_parts(
        self,
        upload_id: UploadId,
        part_size: int,  # noqa: ARG002 (the service tells where each part lies)
    ) -> Sequence[StoredPart]:
        """ListParts, all pages."""
        doing = f"list the parts of upload {upload_id}"
        pages = self._pages("list_parts", "Parts", doing, unknown=UploadExpiredError, uploadId=upload_id)
        parts = [answers.stored_part(page) for page in pages]
        return sorted(parts, key=lambda part: part.offset)

    def complete_upload(
        self,
        upload_id: UploadId,
        label: ArchiveLabel,  # noqa: ARG002 (the description was given when the upload began)
        size: int,
        tree_hash: TreeHash,
        parts: Sequence[Part],  # noqa: ARG002 (the service knows its parts)
    ) -> ArchiveId:
        """CompleteMultipartUpload; a value that the service refuses here means a gap, a wrong size or
        hash."""
        return self._complete(upload_id, size, tree_hash)

    def _complete(self, upload_id: UploadId, size: int, tree_hash: TreeHash) -> ArchiveId:
        doing = f"complete upload {upload_id}"
        answer = self._call(
            "complete_multipart_upload",
            doing,
            unknown=UploadExpiredError,
            refused=IntegrityError,
            uploadId=upload_id,
            archiveSize=str(size),
            checksum=tree_hash.hex(),
        )
        answers.check_answered(answer, tree_hash, f"the archive made of upload {upload_id}")
        return ArchiveId(field(answer, "archiveId", doing))

    def abort_upload(self, upload_id: UploadId) -> None:
        """AbortMultipartUpload; no error for an upload that was completed or is unknown."""
        with suppress(UploadExpiredError):
            self._call(
                "abort_multipart_upload",
                f"abort upload {upload_id}",
                unknown=UploadExpiredError,
                refused=UploadExpiredError,
                uploadId=upload_id,
            )

    def list_uploads(self) -> Sequence[OpenUpload]:
        """ListMultipartUploads, all pages."""
        pages = self._pages("list_multipart_uploads", "UploadsList", "list the uploads")
        return [answers.open_upload(page) for page in pages]

    # Retrievals: AWS calls them jobs.

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        """InitiateJob for an archive or a range of it (in the request both ends are inclusive)."""
        job = {
            "Type": "archive-retrieval",
            "ArchiveId": archive_id,
            "Tier": tier.value.capitalize(),
            "Description": f"{TOKEN_PREFIX}{token}",
        }
        if extent is not None:
            job["RetrievalByteRange"] = f"{extent.start}-{extent.end - 1}"
        doing = f"request the retrieval of archive {archive_id}"
        answer = self._call("initiate_job", doing, unknown=ArchiveMissingError, jobParameters=job)
        return RetrievalId(field(answer, "jobId", doing))

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        """ListJobs, all pages: our retrievals that are waiting or ready."""
        found: dict[str, RetrievalId] = {}
        for job in self._pages("list_jobs", "JobList", "list the retrievals"):
            description = job.get("JobDescription") or ""
            if description.startswith(TOKEN_PREFIX) and job.get("StatusCode") != "Failed":
                found[description.removeprefix(TOKEN_PREFIX)] = RetrievalId(job["JobId"])
        return found

    def retrieval_statuses(self, ids: Iterable[RetrievalId]) -> Mapping[RetrievalId, RetrievalStatus]:
        """DescribeJob for a few, ListJobs for many."""
        wanted = list(dict.fromkeys(ids))
        if len(wanted) <= FEW:
            return {id_: self._job_status(id_) for id_ in wanted}
        jobs = {job["JobId"]: job for job in self._pages("list_jobs", "JobList", "list the retrievals")}
        return {id_: answers.status(jobs[id_]) if id_ in jobs else answers.EXPIRED for id_ in wanted}

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """GetJobOutput of a range; with a tree hash when the range is aligned to the hash tree.

        The service ignores a Range that it does not understand and sends everything with 200, so the range
        that the answer states is compared before a byte of it is read.
        """
        last = extent.end - 1
        doing = f"fetch bytes {extent.start} to {last} of retrieval {retrieval_id}"
        answer = self._output(retrieval_id, doing, range=f"bytes={extent.start}-{last}")
        with closing(answer["body"]) as body, translated_errors(doing):
            given = answers.range_of(answer)
            if given.start == extent.start and given.end < extent.end:
                raise ArchiveShortError(f"cannot {doing}: it ends at byte {given.end}")
            if given != extent:
                raise VaultError(f"cannot {doing}: the answer holds bytes {given.start} to {given.end - 1}")
            data = read_all(body, self._limits.down, extent.length)
        if len(data) != extent.length:
            raise VaultError(f"cannot {doing}: {len(data)} bytes came instead")
        checksum = answer.get("checksum")
        return Fetched(data, TreeHash(bytes.fromhex(checksum)) if checksum else None)

    # Listings.

    def request_listing(self, token: str) -> ListingId:
        """InitiateJob for the service's own list of archives, as JSON (its CSV is ambiguous)."""
        job = {"Type": "inventory-retrieval", "Format": "JSON", "Description": f"{TOKEN_PREFIX}{token}"}
        doing = "request a listing"
        return ListingId(field(self._call("initiate_job", doing, jobParameters=job), "jobId", doing))

    def listing_status(self, listing_id: ListingId) -> RetrievalStatus:
        """DescribeJob."""
        return self._job_status(listing_id)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        """GetJobOutput, all of it."""
        doing = f"fetch listing {listing_id}"
        answer = self._output(listing_id, doing)
        with closing(answer["body"]) as body, translated_errors(doing):
            data = read_all(body, self._limits.down, answers.range_of(answer).length)
        return answers.parse_listing(data, doing)

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], _: object = None
    ) -> Mapping[ArchiveId, Refusal]:
        """DeleteArchive, one by one; a refusal is explained by the vault's lock."""
        refusals: dict[ArchiveId, Refusal] = {}
        for archive_id, stored_at in stored.items():
            doing = f"delete archive {archive_id}"
            try:
                self.delete_archive(archive_id, doing)
            except DeniedError as error:
                refusal = glacier_lock.refusal_of(error.__cause__, stored_at, self.lock)
                if refusal is None:
                    raise
                refusals[archive_id] = refusal
        return refusals

    def delete_archive(self, archive_id: ArchiveId, doing: str) -> None:
        """One DeleteArchive, without finding out why it is denied; no error if it is deleted already."""
        with suppress(ArchiveMissingError):
            self._call("delete_archive", doing, unknown=ArchiveMissingError, archiveId=archive_id)

    # Requests.

    def _call(
        self,
        operation: str,
        doing: str,
        *,
        unknown: type[VaultError] = VaultError,
        refused: type[NightvaultError] = VaultError,
        **parameters: Any,
    ) -> Any:
        with self._request(doing, parameters, unknown=unknown, refused=refused) as which:
            return getattr(self._client, operation)(**which)

    def _pages(
        self,
        operation: str,
        key: str,
        doing: str,
        *,
        unknown: type[VaultError] = VaultError,
        **parameters: Any,
    ) -> Iterator[Any]:
        """All items of a paginated list."""
        with self._request(doing, parameters, unknown=unknown) as which:
            for page in self._client.get_paginator(operation).paginate(**which):
                yield from field(page, key, doing)

    @contextmanager
    def _request(
        self, doing: str, parameters: dict[str, Any], *, unknown: type[VaultError], **how: Any
    ) -> Iterator[dict[str, Any]]:
        """A context with the parameters of a request to this vault; AWS's errors become ours."""
        doing = f"{doing} (Glacier vault {self._vault})"
        for name in _IDS & parameters.keys():
            if not _ID.fullmatch(parameters[name]):  # an id such as ".." would change the path of the request
                raise unknown(f"cannot {doing}: no id of AWS looks like this")
        with translated_errors(doing, unknown=unknown, **how):
            yield {"accountId": self._account_id, "vaultName": self._vault, **parameters}

    def _output(self, job_id: str, doing: str, **parameters: Any) -> Any:
        return self._call("get_job_output", doing, unknown=RetrievalExpiredError, jobId=job_id, **parameters)

    def _job_status(self, job_id: str) -> RetrievalStatus:
        doing = f"look for retrieval {job_id}"
        try:
            return answers.status(
                self._call("describe_job", doing, unknown=RetrievalExpiredError, jobId=job_id)
            )
        except RetrievalExpiredError:
            return answers.EXPIRED
