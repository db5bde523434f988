"""An S3 bucket as a vault: data packs go directly into a cold storage class, catalogs stay readable.

Sources of all facts on requests and answers: Amazon S3 API reference and user guide. Differences of other
services: docs/s3.md.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from backup.errors import RetrievalExpiredError, VaultError, VaultMissingError
from backup.model import Listing, ListingId, RetrievalStatus, VaultName, VaultState
from backup.protocols import Clock, VaultTraits
from backup.vault.aws import vault_time
from backup.vault.partbody import limit_rate, rely_on_crc, stay_in_region
from backup.vault.rate_limit import NO_LIMITS, RateLimits
from backup.vault.s3 import answers
from backup.vault.s3.deletions import S3Deletions, guard_by_md5
from backup.vault.s3.identity import S3Identity, is_identity
from backup.vault.s3.keys import is_passed_over
from backup.vault.s3.locks import S3Locks
from backup.vault.s3.requests import CRC64NVME, Bucket, BucketRequests
from backup.vault.s3.retrievals import S3Retrievals
from backup.vault.s3.uploads import S3Uploads
from backup.vault.s3.versions import S3Versions
from backup.vault.s3.warnings import lifecycle_told, lock_told

_LISTING = ListingId("now")


class _OwnedByUsError(VaultError):
    """CreateBucket's code for a bucket that exists and belongs to us."""


class S3Vault(S3Identity, S3Uploads, S3Retrievals, S3Deletions, S3Locks, S3Versions):
    """A `Vault` in a bucket; `client` is `aws.make_client(session, "s3", …)`."""

    def __init__(
        self, name: VaultName, client: Any, bucket: Bucket, clock: Clock, limits: RateLimits = NO_LIMITS
    ) -> None:
        rely_on_crc(client)
        stay_in_region(client)
        limit_rate(client)
        if bucket.checksums != CRC64NVME:
            guard_by_md5(client)
        S3Uploads.__init__(self, BucketRequests(client, bucket), limits)
        self._name = name
        self.harms: list[str] = []  # of the lifecycle rules as they were last seen
        self._clock = clock

    @property
    def name(self) -> VaultName:
        """The vault's name in the config."""
        return self._name

    @property
    def bucket_name(self) -> str:
        """The bucket's name."""
        return self._requests.bucket.name

    @property
    def keeps_versions(self) -> bool | None:
        """Whether the bucket keeps versions, as the answer to the last upload said; None without one."""
        return self._requests.keeps_versions

    def rules_told(self) -> list[str]:
        """A sentence for each of its lifecycle rules that does harm, or is missing; one request."""
        self.harms, others = lifecycle_told(self._requests)
        return [*self.harms, *others]

    def lock_told(self) -> list[str]:
        """A sentence on a lock that it has, or lacks; one request."""
        return list(lock_told(self._requests))

    @property
    def traits(self) -> VaultTraits:
        """The limits and abilities of this bucket as a vault."""
        return self._requests.traits

    def create(self) -> None:
        """CreateBucket, unless there is a bucket of that name that we can use."""
        with suppress(VaultMissingError):
            self._requests.require(f"look for {self._requests.bucket.description}")
            return
        elsewhere: dict[str, Any] = {}
        if self._requests.bucket.region != "us-east-1":  # which has no constraint
            elsewhere["CreateBucketConfiguration"] = {"LocationConstraint": self._requests.bucket.region}
        if self._requests.bucket.lock is not None:
            elsewhere["ObjectLockEnabledForBucket"] = True
        ours = {"BucketAlreadyOwnedByYou": _OwnedByUsError}
        with suppress(_OwnedByUsError):
            self._requests.call(
                "create_bucket", f"make {self._requests.bucket.description}", meaning=ours, **elsewhere
            )

    def state(self) -> VaultState:
        """HeadBucket; without counts, which only a listing gives."""
        location = f"s3://{self._requests.bucket.name}/{self._requests.bucket.prefix}"
        try:
            answer = self._requests.require(f"look for {self._requests.bucket.description}")
        except VaultMissingError:
            return VaultState(exists=False, location=location)
        region = answer.get("BucketRegion")
        return VaultState(exists=True, location=location, at=vault_time(answer), region=region)

    # Listings: at once, and true to the moment.

    def request_listing(self, token: str) -> ListingId:  # noqa: ARG002 (there is nothing to find again)
        """A listing that is ready at once."""
        self._requests.require("list the archives")
        return _LISTING

    def listing_status(self, listing_id: ListingId) -> RetrievalStatus:
        """READY, always: the list is made when it is fetched."""
        self._requests.require("list the archives")
        return answers.READY if listing_id == _LISTING else answers.EXPIRED

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        """ListObjectsV2, all pages; where objects are locked ListObjectVersions."""
        doing, as_of = "list the archives", self._clock.now()
        if listing_id != _LISTING:
            self._requests.require(doing)
            raise RetrievalExpiredError(
                f"cannot {doing}: bucket {self._requests.bucket.name} has no such listing"
            )
        prefix = self._requests.bucket.prefix
        lines = (
            line
            for line in self._requests.lines(doing, prefix)
            if not (is_identity(line, prefix) or is_passed_over(line["Key"].removeprefix(prefix)))
        )
        return Listing(as_of, [answers.listed(line, prefix) for line in lines])
