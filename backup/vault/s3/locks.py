"""Locks of a bucket's objects: their ends are seen, and set later; never earlier.

Sources: Amazon S3 API reference (GetObjectRetention, PutObjectRetention) and user guide, "Managing Object
Lock".
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from backup.errors import ArchiveMissingError, DeniedError, VaultError
from backup.model import ArchiveId, InventoryId, ObjectLock
from backup.protocols import LockableObjects
from backup.vault.s3 import keys
from backup.vault.s3.requests import BucketRequests
from backup.vault.s3.warnings import harmful_rules


class _NotLockedError(VaultError):
    """S3's code for an object that was never locked."""


class S3Locks:
    """The part of `S3Vault` that is `protocols.LocksObjects`."""

    _requests: BucketRequests

    @property
    def locks(self) -> bool:
        """Whether what is stored in it is locked."""
        return self._requests.bucket.lock is not None

    def vault_time(self) -> datetime:
        """The time by S3's own clock."""
        return self._requests.now("look what time it is")

    def lockable(self, inventory_ids: Collection[InventoryId]) -> LockableObjects:
        """The keys of all archives that are there, and of these inventories' identities and marks.

        By versions, so that what is hidden is among them; the versions are remembered.
        """
        prefix = self._requests.bucket.prefix
        below = tuple(keys.catalogs_of(inventory_id) for inventory_id in inventory_ids)
        archives, others, covered = set[ArchiveId](), set[ArchiveId](), set[ArchiveId]()
        for line in self._requests.lines("list what is locked", prefix):
            key = line["Key"].removeprefix(prefix)
            if keys.label_of(key) is None and not (key.startswith(below) and not line["Size"]):
                continue
            self._requests.remember(line)
            (others if keys.label_of(key) is None else archives).add(ArchiveId(key))
            if not line["IsLatest"]:
                covered.add(ArchiveId(key))
        rules = tuple(harmful_rules(self._requests))
        return LockableObjects(frozenset(archives), frozenset(others), frozenset(covered), rules)

    def lock_of(self, key: ArchiveId) -> ObjectLock | None:
        """GetObjectRetention; None for what is not locked."""
        doing = f"see the lock of {key}"
        try:
            answer = self._requests.call(
                "get_object_retention",
                doing,
                unknown=ArchiveMissingError,
                meaning={"NoSuchObjectLockConfiguration": _NotLockedError},
                **self._requests.naming(key, doing),
            )
        except _NotLockedError:
            return None
        told: dict[str, Any] = answer["Retention"]
        return ObjectLock(told["Mode"], told["RetainUntilDate"].astimezone(UTC))

    def lock_until(self, key: ArchiveId, until: datetime) -> ObjectLock:
        """PutObjectRetention; the lock that S3 has then, which may end later if it did so before.

        S3 refuses to shorten a lock, or to make it less strict: then it is kept in its own mode.
        """
        doing, lock = f"lock {key} until {until:%Y-%m-%d}", self._requests.bucket.lock
        wanted = ObjectLock(lock.mode if lock else "", until)
        try:
            self._retain(key, wanted, doing)
        except DeniedError:
            there = self.lock_of(key)
            if there is None or (there.until < until and there.mode == wanted.mode):
                raise
            if there.until < until:
                self._retain_stricter(key, ObjectLock(there.mode, until), doing)
                return ObjectLock(there.mode, until)
            return there
        return wanted

    def hold(self, key: ArchiveId, *, is_on: bool) -> None:
        """PutObjectLegalHold."""
        doing = f"{'hold' if is_on else 'end the legal hold of'} {key}"
        self._requests.call(
            "put_object_legal_hold",
            doing,
            unknown=ArchiveMissingError,
            LegalHold={"Status": "ON" if is_on else "OFF"},
            **self._requests.naming(key, doing),
        )

    def _retain_stricter(self, key: ArchiveId, wanted: ObjectLock, doing: str) -> None:
        try:
            self._retain(key, wanted, doing)
        except DeniedError as error:
            mode = wanted.mode.lower()
            advice = (
                f"its lock is in {mode} mode, which a policy of before denies: `nightvault setup aws --plan`"
            )
            raise DeniedError(str(error), advice=advice) from error

    def _retain(self, key: ArchiveId, wanted: ObjectLock, doing: str) -> None:
        self._requests.call(
            "put_object_retention",
            doing,
            unknown=ArchiveMissingError,
            Retention={"Mode": wanted.mode, "RetainUntilDate": wanted.until},
            **self._requests.naming(key, doing),
        )
