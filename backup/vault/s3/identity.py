"""The identity of a bucket: one empty object for each inventory, known by its key in a list, never read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from backup.errors import ThrottledError, VaultError, VaultMissingError
from backup.model import InventoryId, ListedArchive, VaultIdentity, VaultState
from backup.vault.aws import vault_time
from backup.vault.s3 import answers, keys
from backup.vault.s3.requests import BucketRequests

_MD5_OF_NOTHING = "1B2M2Y8AsgTpgAmY7PhCfg=="  # a bucket with object lock wants a checksum with each object


class _ExistsError(VaultError):
    """S3's codes for a key that exists: the object is ours, or says the same."""


def is_identity(line: Mapping[str, Any], prefix: str) -> bool:
    """Whether an item of a list is such an object; one that is not empty is not ours."""
    return line["Size"] == 0 and keys.token_of(line["Key"].removeprefix(prefix)) is not None


class S3Identity:
    """The part of `protocols.Vault` on the vault's identity and an inventory's newest catalogs."""

    _requests: BucketRequests

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        """ListObjectsV2 of the identity objects' prefix; in the order of their keys."""
        return [
            identity for page in self._identity_pages(inventory_id) for identity in self._identities_in(page)
        ]

    def state_with_identities(self, inventory_id: InventoryId) -> VaultState:
        """The vault's state, by the same list that has the identities for an inventory."""
        location = f"s3://{self._requests.bucket.name}/{self._requests.bucket.prefix}"
        try:
            pages = list(self._identity_pages(inventory_id))
        except VaultMissingError:
            return VaultState(exists=False, location=location)
        found = [identity for page in pages for identity in self._identities_in(page)]
        return VaultState(exists=True, location=location, at=vault_time(pages[-1]), identities=found)

    def _identity_pages(self, inventory_id: InventoryId) -> Iterator[Any]:
        below = self._requests.bucket.prefix + keys.identity_key(inventory_id)
        doing = "look which vault it is"
        return self._requests.pages("list_objects_v2", doing, unknown=VaultMissingError, Prefix=below)

    def _identities_in(self, page: Mapping[str, Any]) -> Iterator[VaultIdentity]:
        prefix = self._requests.bucket.prefix
        for line in page.get("Contents", ()):
            token = keys.token_of(line["Key"].removeprefix(prefix)) if is_identity(line, prefix) else None
            if token:
                yield VaultIdentity(token)

    def add_identity(self, inventory_id: InventoryId, token: str) -> None:
        """PutObject of an empty object, in the storage class of catalogs; never overwrites."""
        self._add_empty(keys.identity_key(inventory_id, token), "leave what the vault is known by")

    def _add_empty(self, key: str, doing: str) -> None:
        bucket, checks = self._requests.bucket, self._requests.traits.checks_crc64
        guard: dict[str, Any] = (
            {"ChecksumCRC64NVME": answers.encode_crc(0)} if checks else {"ContentMD5": _MD5_OF_NOTHING}
        )
        with suppress(_ExistsError):
            self._requests.call(
                "put_object",
                doing,
                unknown=VaultMissingError,
                meaning={"PreconditionFailed": _ExistsError, "ConditionalRequestConflict": ThrottledError},
                Key=bucket.prefix + key,
                Body=b"",
                StorageClass=bucket.catalog_class,
                IfNoneMatch="*",
                **guard,
            )

    def add_mark(self, name: str) -> None:
        """PutObject of an empty object; never overwrites."""
        self._add_empty(name, "leave a mark")

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
            found += [archive for archive in listed if answers.is_catalog_or_mark(archive)]
            if not listed or not page.get("IsTruncated"):
                return found
            after = {"StartAfter": prefix + keys.next_to_list(listed[-1].archive_id, known)}
