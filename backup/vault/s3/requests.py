"""Requests to one bucket: its settings, and every call of its client, with failures turned into our
errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from backup.errors import (
    ArchiveMissingError,
    DeniedError,
    NightvaultError,
    UnreachableError,
    VaultError,
    VaultMissingError,
)
from backup.model import MIB, ArchiveId
from backup.protocols import VaultTraits
from backup.vault.aws import denial_in, translated_errors, vault_time
from backup.vault.s3.answers import FROZEN
from backup.vault.s3_error_codes import ELSEWHERE

CRC64NVME = "crc64nvme"

_LISTED = ("Contents", "Uploads", "Parts")
_MOST_STILL = 100  # pages in a row without a key behind all before: of uploads of one key, or empty ones

_BURIED = (
    "somebody deleted it, but the bucket keeps versions: once its delete marker is deleted it is there again;"
    " `nightvault undelete --versions` does that; see docs/s3.md"
)

_MAY_BE_HIDDEN = (
    "if the bucket keeps versions, `nightvault undelete --versions` brings it back (a rebuild needs `lock` to"
    " see it)"
)

_UNLOCKABLE = "Bucket is missing Object Lock Configuration"
_NEEDS_LOCK = (
    "`lock` of this vault needs a bucket with object lock, else nothing is stored: `nightvault setup aws`"
    " switches it on"
)

_MARKER = "x-amz-delete-marker"

_WITHOUT_REASON = "Access Denied"
"""The whole text of a denial that names no permission: of requests to a bucket of another account."""

_NOT_OWNED = (
    "bucket {0} seems to belong to another account than {1}, as S3 names no permission that is missing:"
    " choose another bucket; or set account_id of the vault, if that account is the right one; or compare the"
    " role's policy with `nightvault aws policy`"
)

_MINIMUM = {"GLACIER": 90, "GLACIER_IR": 90, "DEEP_ARCHIVE": 180, "STANDARD_IA": 30, "ONEZONE_IA": 30}  # days


class BucketLock(Struct, frozen=True):
    """The locks of new objects: the mode as S3 has it, and the end of one that begins at a time of S3's."""

    mode: str
    until: Callable[[datetime], datetime]


class Bucket(Struct, frozen=True):
    """A bucket and its settings as a vault.

    `prefix` is empty or ends with a slash. `kept_days` is how long a retrieved copy stays readable.
    `checksums` is `CRC64NVME`, or "none" for services that do not know it: then only the signature, which
    covers the SHA-256 of each part, protects what is sent. `owner`: the account that the bucket must belong
    to; None where none is known, as with services that have no accounts. `lock`: what is stored is locked,
    and each object is the version of its key that was stored first: what hides or overwrites it is not ours.
    """

    name: str
    region: str
    prefix: str = ""
    storage_class: str = "DEEP_ARCHIVE"
    catalog_class: str = "STANDARD"
    kept_days: int = 7
    checksums: str = CRC64NVME
    owner: str | None = None
    lock: BucketLock | None = None

    @property
    def description(self) -> str:
        """The name of the bucket in errors."""
        return f"bucket {self.name}"

    @property
    def is_frozen(self) -> bool:
        """Whether data packs must be retrieved before they can be read."""
        return self.storage_class in FROZEN


def traits_of(bucket: Bucket) -> VaultTraits:
    """The limits and abilities of a vault in that bucket."""
    return VaultTraits(
        retrieves_ranges=not bucket.is_frozen,
        waits=bucket.is_frozen,
        keeps_metadata_hot=True,
        minimum_storage=timedelta(days=_MINIMUM.get(bucket.storage_class, 0)),
        smallest_part=8 * MIB,  # S3's own bound is 5 MiB; parts are powers of two
        largest_part=4096 * MIB,
        most_parts=10_000,
        checks_sha256=False,
        checks_crc64=bucket.checksums == CRC64NVME,
        tags_parts=True,
        requests_at_once=32,  # some 600 a second; S3 takes 1,000 restore requests a second
        lists_at_once=True,
        deletes_at_once=1000,
        if_missing="" if bucket.lock else _MAY_BE_HIDDEN,
    )


class BucketRequests:
    """The client of one bucket; `doing` completes "cannot …" in each error."""

    def __init__(self, client: Any, bucket: Bucket) -> None:
        self.client = client
        self.bucket = bucket
        self.traits = traits_of(bucket)
        self.keeps_versions: bool | None = None  # as the answer to an upload says
        self._versions: dict[str, str] = {}  # by key, where the bucket locks, or something lies over ours
        self._looked: set[str] = set()  # the keys of which all versions were looked at

    def require(self, doing: str) -> Any:
        """The answer to HeadBucket; `VaultMissingError` if there is no such bucket.

        A role that may list below its own prefix alone is denied that, and asks for a list there. The
        denial of a list has a reason, too, which that of HeadBucket never has; without one the bucket is
        another account's.
        """
        try:
            try:
                return self.call("head_bucket", doing, unknown=VaultMissingError)
            except DeniedError:
                if not (self.bucket.prefix or self.bucket.owner):
                    raise
                below: dict[str, Any] = {"Prefix": self.bucket.prefix, "MaxKeys": 1}
                listed = self.call("list_objects_v2", doing, unknown=VaultMissingError, **below)
                if not self.bucket.prefix:
                    raise
                return listed
        except VaultMissingError as error:
            advice = "check the bucket's name, region and account"
            what = f"cannot {doing}: there is no bucket {self.bucket.name}"
            raise VaultMissingError(what, advice=advice) from error

    def head(self, key: ArchiveId, doing: str, **parameters: Any) -> Any:
        """HeadObject; `ArchiveMissingError` for its 404, which does not say whether key or bucket is
        missing."""
        try:
            return self.call_on("head_object", key, doing, unknown=ArchiveMissingError, **parameters)
        except ArchiveMissingError:
            self.require(doing)
            raise

    def call_on(self, operation: str, key: ArchiveId, doing: str, **how: Any) -> Any:
        """`call` on an object: what a delete marker hides is named by its version."""
        try:
            return self.call(operation, doing, **self.naming(key, doing), **how)
        except VaultError as error:
            if _headers_of(error).get(_MARKER) != "true" or not self.lies_beneath(key, doing):
                raise
        return self.call(operation, doing, **self.naming(key, doing), **how)

    def lies_beneath(self, key: ArchiveId, doing: str) -> bool:
        """Whether something lies over the object of a key that was stored first, which is named from now on.

        ListObjectVersions, once for each key, of which something was wrong. False where the role may not see
        versions, or there is none.
        """
        whole = self.bucket.prefix + key
        if self.bucket.lock is None and whole not in self._looked:
            try:
                for line in self.oldest(doing, unknown=VaultMissingError, Prefix=whole):
                    if line["Key"] == whole and not line["IsLatest"]:
                        self.remember(line)
            except UnreachableError:
                raise
            except (DeniedError, VaultError):
                pass
            self._looked.add(whole)
        return self.is_covered(key)

    def is_covered(self, key: ArchiveId) -> bool:
        """Whether something is known to lie over the object of a key, in a bucket that does not lock."""
        return self.bucket.lock is None and self.bucket.prefix + key in self._versions

    def naming(self, key: ArchiveId, doing: str) -> dict[str, Any]:
        """The parameters that name an object; `ArchiveMissingError` if it is locked, and is not there."""
        whole = self.bucket.prefix + key
        if self.bucket.lock is None and whole not in self._versions:
            return {"Key": whole}
        if whole not in self._versions:
            for line in self.lines(doing, whole):
                self.remember(line)
        if whole not in self._versions:
            raise ArchiveMissingError(f"cannot {doing}: there is no {key}")
        return {"Key": whole, "VersionId": self._versions[whole]}

    def remember(self, line: Mapping[str, Any]) -> None:
        """Remember the version of an object in a list, so that it need not be looked up."""
        self._versions[line["Key"]] = line["VersionId"]

    def lines(self, doing: str, prefix: str, **parameters: Any) -> Iterator[Mapping[str, Any]]:
        """The objects below a prefix, by key, as S3 lists them; where they are locked also what is hidden."""
        wanted = {"unknown": VaultMissingError, "Prefix": prefix, **parameters}
        if self.bucket.lock is None:
            for page in self.pages("list_objects_v2", doing, **wanted):
                yield from page.get("Contents", ())
            return
        yield from self.oldest(doing, **wanted)

    def oldest(self, doing: str, **wanted: Any) -> Iterator[Mapping[str, Any]]:
        """Of each key the object that was stored first, by ListObjectVersions."""
        oldest: Mapping[str, Any] | None = None
        for page in self.pages("list_object_versions", doing, **wanted):
            for line in page.get("Versions", ()):  # of a key the newest first
                if oldest is not None and oldest["Key"] != line["Key"]:
                    yield oldest
                oldest = line
        if oldest is not None:
            yield oldest

    def locking(self, doing: str) -> dict[str, Any]:
        """The parameters that lock a new object, by the time of S3 itself; none where nothing is locked."""
        if self.bucket.lock is None:
            return {}
        now = self.now(doing)
        return {
            "ObjectLockMode": self.bucket.lock.mode,
            "ObjectLockRetainUntilDate": self.bucket.lock.until(now),
        }

    def now(self, doing: str) -> datetime:
        """The time by S3's own clock."""
        now = vault_time(self.require(doing))
        if now is None:
            raise VaultError(
                f"cannot {doing}: bucket {self.bucket.name} does not tell its time",
                advice="locks go by the vault's clock alone: this service cannot be locked",
            )
        return now

    def call(
        self,
        operation: str,
        doing: str,
        *,
        unknown: type[VaultError] = VaultError,
        refused: type[NightvaultError] = VaultError,
        meaning: Mapping[str, type[NightvaultError]] | None = None,
        **parameters: Any,
    ) -> Any:
        """Send one request; `unknown`, `refused` and `meaning` are those of `aws.translated_errors`."""
        with self._translated_errors(doing, unknown=unknown, refused=refused, meaning=meaning):
            return getattr(self.client, operation)(**self._where(operation), **parameters)

    def _where(self, operation: str) -> dict[str, str]:
        """The bucket, and the account that must own it: S3 denies everything if another does."""
        where = {"Bucket": self.bucket.name}
        if self.bucket.owner is not None and operation != "create_bucket":  # which makes it in our own
            where["ExpectedBucketOwner"] = self.bucket.owner
        return where

    def pages(
        self, operation: str, doing: str, *, unknown: type[VaultError] = VaultError, **parameters: Any
    ) -> Iterator[Any]:
        """All pages of a paginated list."""
        with self._translated_errors(doing, unknown=unknown):
            pages = self.client.get_paginator(operation)
            found = pages.paginate(**self._where(operation), **parameters)
            # versions of one key may fill any number of pages; boto3 notices a marker that comes again
            yield from found if operation == "list_object_versions" else self._ending(found)

    def _ending(self, pages: Iterable[Any]) -> Iterator[Any]:
        """The pages of a list that is in order, as S3's are, until one does not get on any more."""
        furthest: Any = None
        still = 0
        for page in pages:
            yield page
            lines = (line for name in _LISTED for line in page.get(name, ()))
            position = max((line.get("Key") or line.get("PartNumber") for line in lines), default=None)
            if position is not None and (furthest is None or position > furthest):
                furthest, still = position, 0
            else:
                still += 1
            if still >= _MOST_STILL:
                raise VaultError(
                    f"the list of bucket {self.bucket.name} does not end: {still} pages have nothing new",
                    advice="ask whoever runs this service: no list of it can be relied on",
                )

    @contextmanager
    def _translated_errors(self, doing: str, **how: Any) -> Iterator[None]:
        """`aws.translated_errors`, plus the errors that an answer's headers explain better than its code."""
        name = self.bucket.description
        try:
            with translated_errors(doing if name in doing else f"{doing} ({name})", **how):
                yield
        except NightvaultError as error:
            raise self._told_by_answer(error) or error from error.__cause__

    def _told_by_answer(self, error: NightvaultError) -> NightvaultError | None:
        headers, answer = _headers_of(error), _answer_of(error)
        region, code = headers.get("x-amz-bucket-region"), answer.get("Error", {}).get("Code")
        if region and region != self.bucket.region and code in ELSEWHERE:
            what = f"bucket {self.bucket.name} is in {region}, not in {self.bucket.region}"
            return VaultError(what, advice=f'set region = "{region}" for this vault')
        if headers.get(_MARKER) == "true" and isinstance(error, VaultError):
            return type(error)(str(error), advice=_BURIED)
        if self.bucket.lock is not None and _UNLOCKABLE in answer.get("Error", {}).get("Message", ""):
            return type(error)(str(error), advice=_NEEDS_LOCK)
        if self.bucket.owner is not None and denial_in(error.__cause__) == _WITHOUT_REASON:
            return DeniedError(str(error), advice=_NOT_OWNED.format(self.bucket.name, self.bucket.owner))
        return None


def _answer_of(error: NightvaultError) -> Mapping[str, Any]:
    """The answer that an error came of; empty where there was none."""
    return getattr(error.__cause__, "response", None) or {}


def _headers_of(error: NightvaultError) -> Mapping[str, str]:
    headers: Mapping[str, str] = _answer_of(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers
