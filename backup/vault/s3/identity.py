"""The identity of a bucket: one empty object for each inventory, known by its key in a list, never read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from backup.errors import ThrottledError, VaultError, VaultMissingError
from backup.model import InventoryId, ListedArchive, VaultIdentity, VaultState
from backup.vault.aws import vault_time
from backup.vault.s3 import answers, keys
from backup.vault.s3.requests import BucketRequests

_WHICH = "look which vault it is"
_MD5_OF_NOTHING = "1B2M2Y8AsgTpgAmY7PhCfg=="  # a bucket with object lock wants a checksum with each object


class _ExistsError(VaultError):
    """S3's codes for a key that exists: the object is ours, or says the same."""


def is_identity(line: Mapping[str, Any], prefix: str) -> bool:
    """Whether an item of a list is such an object; one that is not empty is not ours."""
    return line["Size"] == 0 and keys.token_of(line["Key"].removeprefix(prefix)) is not None


def identities_in(lines: Iterable[Mapping[str, Any]], prefix: str) -> Iterator[VaultIdentity]:
    """Yield the identities among the items of a list."""
    for line in lines:
        token = keys.token_of(line["Key"].removeprefix(prefix)) if is_identity(line, prefix) else None
        if token:
            yield VaultIdentity(token)


class S3Identity:
    """The part of `protocols.Vault` on the vault's identity and an inventory's newest catalogs."""

    _requests: BucketRequests

    def identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        """ListObjectsV2 of the identity objects' prefix; in the order of their keys."""
        return list(identities_in(self._identity_lines(inventory_id), self._requests.bucket.prefix))

    def state_with_identities(self, inventory_id: InventoryId) -> VaultState:
        """The vault's state, by the same list that has the identities for an inventory."""
        location = f"s3://{self._requests.bucket.name}/{self._requests.bucket.prefix}"
        below = self._requests.bucket.prefix + keys.identity_key(inventory_id)
        try:
            if self._requests.bucket.lock is not None:
                at = vault_time(self._requests.require(_WHICH))
                lines = list(self._identity_lines(inventory_id))
            else:
                pages = list(
                    self._requests.pages("list_objects_v2", _WHICH, unknown=VaultMissingError, Prefix=below)
                )
                at = vault_time(pages[-1])
                lines = [line for page in pages for line in page.get("Contents", ())]
        except VaultMissingError:
            return VaultState(exists=False, location=location)
        found = list(identities_in(lines, self._requests.bucket.prefix))
        return VaultState(exists=True, location=location, at=at, identities=found)

    def _identity_lines(self, inventory_id: InventoryId) -> Iterator[Mapping[str, Any]]:
        below = self._requests.bucket.prefix + keys.identity_key(inventory_id)
        return self._requests.lines(_WHICH, below)

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
                Metadata={answers.SENT_AS: bucket.catalog_class},
                IfNoneMatch="*",
                **guard,
                **self._requests.locking(doing),
            )

    def add_mark(self, name: str) -> None:
        """PutObject of an empty object; never overwrites."""
        self._add_empty(name, "leave a mark")

    def newest_catalogs(
        self, inventory_id: InventoryId, known: Mapping[bytes, int]
    ) -> Sequence[ListedArchive]:
        """ListObjectsV2: one request for a thousand keys, then at most one or two for each job.

        Where objects are locked all of them are listed, with what is hidden.
        """
        prefix = self._requests.bucket.prefix
        if self._requests.bucket.lock is not None:
            lines = self._requests.lines("list the catalogs", prefix + keys.catalogs_of(inventory_id))
            every = (answers.listed(line, prefix) for line in lines)
            return [archive for archive in every if answers.is_catalog_or_mark(archive)]
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
