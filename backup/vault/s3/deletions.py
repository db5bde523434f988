"""Deletions in a bucket: many keys a request, each by its version or its ETag: nothing else in its place.

Sources: Amazon S3 API reference (DeleteObjects, HeadObject) and user guide, "Managing Object Lock" and
"How to perform conditional deletes".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from backup.errors import (
    ArchiveMissingError,
    DeniedError,
    NightvaultError,
    ThrottledError,
    UnreachableError,
    VaultError,
    VaultMissingError,
)
from backup.model import ArchiveId, Refusal
from backup.vault.aws import NOT_AWS, error_for, is_forbidden_by_vault, vault_time
from backup.vault.s3 import keys
from backup.vault.s3.answers import tag_of
from backup.vault.s3.requests import CRC64NVME, BucketRequests

MOST = 1000
"""S3's bound on the keys of one DeleteObjects."""

LOOKS_AT_ONCE = 16
"""How many versions are looked up at the same time: a thousand one by one would take a minute."""

_GONE = {"NoSuchKey", "NoSuchVersion"}
_UNEXPLAINED = Refusal("S3 denied it and gives no reason")
_BY_POLICY = Refusal("the bucket's own policy forbids it")
_ANOTHER = Refusal("another object lies in its place than the list showed")

Heads = Mapping[ArchiveId, Mapping[str, Any]]


class S3Deletions:
    """The part of `protocols.Vault` on deletions."""

    _requests: BucketRequests

    def delete_archives(
        self, stored: Mapping[ArchiveId, datetime | None], versions: Mapping[ArchiveId, str] | None = None
    ) -> Mapping[ArchiveId, Refusal]:
        """DeleteObjects of the very objects that are meant: by their ETags, or by their versions.

        In a bucket that keeps versions after a HeadObject of each: it would answer a plain deletion by a
        delete marker: the bytes stayed, and were billed on; and what Object Lock holds would seem deleted.
        In another one after a HeadObject of those whose ETag is not known.
        """
        doing = f"delete {len(stored)} archives" if len(stored) != 1 else f"delete archive {min(stored)}"
        ours = [archive_id for archive_id in stored if keys.label_of(archive_id) is not None]
        if not ours:
            self._requests.require(doing)
            return {}
        refusals: dict[ArchiveId, Refusal] = {}
        compares = self._requests.bucket.checksums == CRC64NVME  # an older service may know no ETags here
        known = {key: version for key, version in (versions or {}).items() if version and compares}
        keeps_versions = self._keeps_versions(doing)
        for start in range(0, len(ours), MOST):
            few = ours[start : start + MOST]
            heads = self._heads(few, doing) if keeps_versions else self._known_heads(few, known, doing)
            others = [key for key, head in heads.items() if known.get(key, tag_of(head)) != tag_of(head)]
            refusals |= dict.fromkeys(others, _ANOTHER)
            meant = {key: head for key, head in heads.items() if key not in refusals}
            if meant:
                refusals |= self._delete(meant, doing)
        return refusals

    def _known_heads(self, ids: Sequence[ArchiveId], known: Mapping[ArchiveId, str], doing: str) -> Heads:
        """The ETags of the objects that are meant, as heads; none for a service that may not know them."""
        if self._requests.bucket.checksums != CRC64NVME:
            return {archive_id: {} for archive_id in ids}
        unknown = [archive_id for archive_id in ids if archive_id not in known]
        told = {archive_id: {"ETag": f'"{known[archive_id]}"'} for archive_id in ids if archive_id in known}
        try:
            return {**told, **self._heads(unknown, doing)}
        except DeniedError:  # a HEAD says no reason: the deletion tells which permission is missing
            return {**told, **{archive_id: {} for archive_id in unknown}}

    def _keeps_versions(self, doing: str) -> bool:
        """Whether the bucket may hold versions; yes if that cannot be learned."""
        if self._requests.bucket.lock is not None:
            return True
        try:
            versioning = self._requests.call("get_bucket_versioning", doing, unknown=VaultMissingError)
        except (VaultMissingError, UnreachableError):
            raise
        except (DeniedError, VaultError):  # no permission to look, or a service without that request
            return True
        return "Status" in versioning

    def _heads(self, ids: Sequence[ArchiveId], doing: str) -> Heads:
        """HeadObject of each archive that is there: its version, and its lock if the role may see that."""
        with ThreadPoolExecutor(max(1, min(LOOKS_AT_ONCE, len(ids))), "head") as workers:
            heads = list(workers.map(lambda archive_id: self._head(archive_id, doing), ids))
        return {archive_id: head for archive_id, head in zip(ids, heads, strict=True) if head is not None}

    def _head(self, archive_id: ArchiveId, doing: str) -> Mapping[str, Any] | None:
        try:
            head: Mapping[str, Any] = self._requests.head(archive_id, doing)
        except ArchiveMissingError:
            return None
        return head

    def _named(self, key: ArchiveId, head: Mapping[str, Any]) -> Mapping[str, str]:
        """The object that is meant, for DeleteObjects."""
        bucket, tag = self._requests.bucket, tag_of(head)
        named = {"Key": bucket.prefix + key}
        if head.get("VersionId"):
            return {**named, "VersionId": head["VersionId"]}
        return {**named, "ETag": f'"{tag}"'} if tag and bucket.checksums == CRC64NVME else named

    def _delete(self, heads: Heads, doing: str) -> Mapping[ArchiveId, Refusal]:
        """One DeleteObjects. The answer names every key, so an answer of anything else deletes nothing."""
        prefix = self._requests.bucket.prefix
        answer = self._requests.call(
            "delete_objects",
            doing,
            unknown=VaultMissingError,
            Delete={"Objects": [self._named(key, head) for key, head in heads.items()], "Quiet": False},
        )
        errors = {
            ArchiveId(error.get("Key", "").removeprefix(prefix)): error for error in answer.get("Errors", ())
        }
        told = {
            deleted.get("Key", "").removeprefix(prefix) for deleted in answer.get("Deleted", ())
        } | errors.keys()
        if heads.keys() - told:
            raise UnreachableError(f"cannot {doing}: the answer does not name all of them", advice=NOT_AWS)
        doing = f"{doing} ({self._requests.bucket.description})"
        return _refusals(errors, heads, doing, vault_time(answer))


def _refusals(
    errors: Mapping[ArchiveId, Mapping[str, Any]], heads: Heads, doing: str, now: datetime | None
) -> Mapping[ArchiveId, Refusal]:
    """The refusals among the errors for single keys; raises for every other error, first those of haste.

    `DeniedError` if all keys were denied and S3 gives no reason for any: then the permission is missing.
    """
    refusals: dict[ArchiveId, Refusal] = {}
    failures: list[NightvaultError] = []
    for key, error in errors.items():
        if error.get("Code") == "AccessDenied":
            refusals[key] = _refusal(heads.get(key, {}), str(error.get("Message") or ""), now)
        elif error.get("Code") == "PreconditionFailed":
            refusals[key] = _ANOTHER
        elif error.get("Code") == "ConditionalRequestConflict":
            failures.append(ThrottledError(f"cannot {doing}: something else was written there just now"))
        elif error.get("Code") not in _GONE:
            failures.append(error_for(error, doing))
    if failures:
        raise min(failures, key=lambda failure: not failure.retryable)
    if len(refusals) == len(heads) and all(refusal is _UNEXPLAINED for refusal in refusals.values()):
        raise error_for(next(iter(errors.values())), doing)
    return refusals


def _refusal(head: Mapping[str, Any], text: str, now: datetime | None) -> Refusal:
    """The reason why S3 denied the deletion of an object, from its lock or the answer's text."""
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        return Refusal("it is under a legal hold")
    until = head.get("ObjectLockRetainUntilDate")
    if until is not None and (now is None or until > now):
        return Refusal(f"object lock keeps it ({head.get('ObjectLockMode')})", until.astimezone(UTC))
    return _BY_POLICY if is_forbidden_by_vault(text) else _UNEXPLAINED


def guard_by_md5(client: Any) -> None:
    """Have an S3 `client` send a Content-MD5 with DeleteObjects, for services that know no newer checksum."""
    client.meta.events.register_last(
        "before-call.s3.DeleteObjects", _add_md5, unique_id="nightvault-delete-md5"
    )


def _add_md5(params: MutableMapping[str, Any], **_: Any) -> None:
    body = params["body"].encode() if isinstance(params["body"], str) else params["body"]
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
