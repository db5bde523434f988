"""All versions of a bucket's keys: what somebody put over objects is seen, and taken away one by one.

Sources: Amazon S3 API reference (ListObjectVersions, GetObject, DeleteObject, and
those on tags).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from msgspec import Struct

from backup.errors import ArchiveMissingError, DeniedError, NightvaultError, VaultError, VaultMissingError
from backup.format.enrolment import HeirMark
from backup.format.treehash import TreeHasher
from backup.model import MIB, ArchiveId, InventoryId, Refusal, TreeHash, VaultIdentity
from backup.vault.aws import translated_errors
from backup.vault.s3 import answers, keys
from backup.vault.s3.identity import identities_in
from backup.vault.s3.requests import BucketRequests


class _NoTagsError(VaultError):
    """The codes of a service that has no tags."""


_NO_TAGS: Mapping[str, type[NightvaultError]] = {
    "NotImplemented": _NoTagsError,
    "MethodNotAllowed": _NoTagsError,
    "NoSuchTagSet": _NoTagsError,
}


class _NotHeldError(VaultError):
    """S3's codes for an object that has neither lock nor hold, and for a bucket that cannot lock."""


_NO_HOLD = ("NoSuchObjectLockConfiguration", "InvalidRequest", "NotImplemented", "MethodNotAllowed")


class ObjectVersion(Struct, frozen=True):
    """One of the objects that a bucket keeps for a key; `tag` is its ETag."""

    id: str
    size: int
    tag: str
    storage_class: str


class KeyVersions(Struct, frozen=True):
    """All that a bucket keeps for a key: objects, the newest first, and the ids of delete markers.

    `is_hidden`: a delete marker is the newest of all. `is_name`: the key says all, the object is empty.
    `storage_class`: the one that the config has for such an object.
    """

    key: ArchiveId
    objects: Sequence[ObjectVersion]
    markers: Sequence[str]
    is_hidden: bool
    is_name: bool
    storage_class: str


class S3Versions:
    """The part of `S3Vault` on all versions of its keys, also those that are not ours."""

    _requests: BucketRequests

    def versions(self) -> Iterator[KeyVersions]:
        """ListObjectVersions, all pages; a key's objects may fill several."""
        bucket = self._requests.bucket
        found: dict[str, list[Mapping[str, Any]]] = {}
        doing, prefix = "list all versions", bucket.prefix
        for page in self._requests.pages(
            "list_object_versions", doing, unknown=VaultMissingError, Prefix=prefix
        ):
            for line in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                found.setdefault(line["Key"], []).append(line)
            last = max(found, default="")
            yield from self._ours({key: lines for key, lines in found.items() if key != last})
            found = {key: lines for key, lines in found.items() if key == last}
        yield from self._ours(found)

    def _ours(self, found: Mapping[str, list[Mapping[str, Any]]]) -> Iterator[KeyVersions]:
        bucket = self._requests.bucket
        for whole, lines in found.items():
            key = whole.removeprefix(bucket.prefix)
            is_name = keys.token_of(key) is not None or HeirMark.from_text(key) is not None
            if not is_name and keys.label_of(key) is None:
                continue
            objects = [_object(line) for line in lines if "Size" in line]
            markers = [line for line in lines if "Size" not in line]
            yield KeyVersions(
                ArchiveId(key),
                objects,
                [line["VersionId"] for line in markers],
                is_hidden=any(line["IsLatest"] for line in markers),
                is_name=is_name,
                storage_class=bucket.storage_class if key.startswith(keys.DATA) else bucket.catalog_class,
            )

    def identities_beneath(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        """The vault's identities for an inventory, also those that delete markers hide."""
        prefix = self._requests.bucket.prefix
        below = prefix + keys.identity_key(inventory_id)
        lines = self._requests.oldest("look which vault it is", unknown=VaultMissingError, Prefix=below)
        return list(identities_in(lines, prefix))

    def is_tagged(self, key: ArchiveId, version: str) -> bool:
        """GetObjectTagging of a version."""
        named = self._version(key, version)
        doing = f"see the tags of {key}"
        try:
            answer = self._requests.call(
                "get_object_tagging", doing, unknown=ArchiveMissingError, meaning=_NO_TAGS, **named
            )
        except _NoTagsError:
            return False
        return bool(answer["TagSet"])

    def is_held(self, key: ArchiveId, version: str) -> bool:
        """GetObjectLegalHold of a version; no request where nothing is locked."""
        if self._requests.bucket.lock is None:
            return False
        try:
            answer = self._requests.call(
                "get_object_legal_hold",
                f"see the legal hold of {key}",
                unknown=ArchiveMissingError,
                meaning=dict.fromkeys(_NO_HOLD, _NotHeldError),
                **self._version(key, version),
            )
        except _NotHeldError:
            return False
        return bool(answer["LegalHold"].get("Status") == "ON")

    def sent_as(self, key: ArchiveId, version: str) -> str:
        """HeadObject of a version: the storage class that it was stored in; empty where it says none."""
        doing = f"see in which class {key} was stored"
        head = self._requests.call(
            "head_object", doing, unknown=ArchiveMissingError, **self._version(key, version)
        )
        return str(head.get("Metadata", {}).get(answers.SENT_AS, ""))

    def is_readable_catalog(self, key: ArchiveId, version: ObjectVersion) -> bool:
        """Whether a version is a catalog's, and can be read at once."""
        return key.startswith(keys.META) and version.storage_class not in answers.FROZEN

    def hash_of(self, key: ArchiveId, version: str) -> TreeHash:
        """The tree hash of a version's bytes, by GetObject."""
        doing, hasher = f"read {key}", TreeHasher()
        named = self._version(key, version)
        answer = self._requests.call("get_object", doing, unknown=ArchiveMissingError, **named)
        with closing(answer["Body"]) as body, translated_errors(doing):
            while piece := body.read(MIB):
                hasher.update(piece)
        return hasher.digest()

    def remove_tags(self, key: ArchiveId, version: str) -> None:
        """DeleteObjectTagging of a version."""
        named = self._version(key, version)
        doing = f"take the tags of {key} away"
        self._requests.call("delete_object_tagging", doing, unknown=ArchiveMissingError, **named)

    def remove_version(self, key: ArchiveId, version: str) -> Refusal | None:
        """DeleteObject of a version; what is locked, or not allowed, is refused."""
        doing = f"delete what lies over {key}"
        try:
            self._requests.call(
                "delete_object", doing, unknown=ArchiveMissingError, **self._version(key, version)
            )
        except ArchiveMissingError:
            return None
        except DeniedError as error:
            return Refusal(str(error))
        return None

    def _version(self, key: ArchiveId, version: str) -> dict[str, Any]:
        return {"Key": self._requests.bucket.prefix + key, "VersionId": version}


def _object(line: Mapping[str, Any]) -> ObjectVersion:
    return ObjectVersion(
        line["VersionId"], line["Size"], answers.tag_of(line), line.get("StorageClass") or "STANDARD"
    )
