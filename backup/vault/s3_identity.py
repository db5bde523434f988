"""The identity of a bucket: one empty object for each inventory, known by its key in a list, never read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backup.errors import ThrottledError, VaultError, VaultMissingError
from backup.model import InventoryId, ListedArchive, PackKind, VaultIdentity
from backup.vault import s3_answers as answers
from backup.vault import s3_keys as keys
from backup.vault.s3_requests import BucketRequests

_MD5_OF_NOTHING = "1B2M2Y8AsgTpgAmY7PhCfg=="  # a bucket with object lock wants a checksum with each object


class _ExistsError(VaultError):
    """S3's codes for a key that exists: the object is ours, since nobody else draws the same random token."""


def is_identity(line: Mapping[str, Any], prefix: str) -> bool:
    """Whether an item of a list is such an object; one that is not empty is not ours."""
    return line["Size"] == 0 and keys.token_of(line["Key"].removeprefix(prefix)) is not None


class S3Identity:
    """The part of `protocols.Vault` on the vault's identity and an inventory's newest catalogs."""

    _requests: BucketRequests

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        """ListObjectsV2 of the identity objects' prefix; in the order of their keys."""
        bucket, found = self._requests.bucket, []
        below = bucket.prefix + keys.identity_key(inventory_id)
        doing = "look which vault it is"
        for page in self._requests.pages("list_objects_v2", doing, unknown=VaultMissingError, Prefix=below):
            lines = [line for line in page.get("Contents", ()) if is_identity(line, bucket.prefix)]
            found += [keys.token_of(line["Key"].removeprefix(bucket.prefix)) for line in lines]
        return [VaultIdentity(token) for token in found if token]

    def add_identity(self, inventory_id: InventoryId, token: str) -> None:
        """PutObject of an empty object, in the storage class of catalogs; never overwrites."""
        bucket, checks = self._requests.bucket, self._requests.traits.checks_crc64
        guard: dict[str, Any] = (
            {"ChecksumCRC64NVME": answers.encode_crc(0)} if checks else {"ContentMD5": _MD5_OF_NOTHING}
        )
        with suppress(_ExistsError):
            self._requests.call(
                "put_object",
                "leave what the vault is known by",
                unknown=VaultMissingError,
                meaning={"PreconditionFailed": _ExistsError, "ConditionalRequestConflict": ThrottledError},
                Key=bucket.prefix + keys.identity_key(inventory_id, token),
                Body=b"",
                StorageClass=bucket.catalog_class,
                IfNoneMatch="*",
                **guard,
            )

    def newest_catalogs(
        self, inventory_id: InventoryId, known: Mapping[bytes, int]
    ) -> Sequence[ListedArchive]:
        """ListObjectsV2: one request for a thousand keys, then at most one or two for each job."""
        prefix = self._requests.bucket.prefix
        found: list[ListedArchive] = []
        after: dict[str, Any] = {}
        while True:
            page = self._requests.call(
                "list_objects_v2",
                "list the catalogs",
                unknown=VaultMissingError,
                Prefix=prefix + keys.catalogs_of(inventory_id),
                **after,
            )
            listed = [answers.listed(line, prefix) for line in page.get("Contents", ())]
            found += [one for one in listed if one.label and one.label.kind is PackKind.CATALOG]
            if not listed or not page.get("IsTruncated"):
                return found
            after = {"StartAfter": prefix + keys.next_to_list(listed[-1].archive_id, known)}
