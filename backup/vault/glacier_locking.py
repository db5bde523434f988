"""The lock of a Glacier vault: a day in which it may be tried, then it is completed, or gone.

Source: Amazon Glacier developer guide, "Vault Lock API" (InitiateVaultLock, CompleteVaultLock,
AbortVaultLock, GetVaultLock) and "Vault Lock Policies".
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

from backup.errors import NightvaultError, VaultError
from backup.vault.aws import field
from backup.vault.glacier_answers import parse_date
from backup.vault.glacier_lock import Lock

TRIED = "a trial of this vault's lock by nightvault; it holds nothing"
"""The description of an archive of one byte, which the lock must keep."""


class _NoLockError(VaultError):
    """Glacier's answer about a vault without a lock."""


class GlacierLocking(ABC):
    """The part of `GlacierVault` on its lock."""

    _locked: Lock | None = None

    @abstractmethod
    def _call(
        self,
        operation: str,
        doing: str,
        *,
        unknown: type[VaultError] = VaultError,
        refused: type[NightvaultError] = VaultError,
        **parameters: Any,
    ) -> Any:
        """Call the service; what it does not know, and what it refuses, as these errors."""

    def lock(self) -> Lock | None:
        """GetVaultLock; None without one. Once locked it never changes, so it is asked for once."""
        if self._locked is None:
            try:
                found = self._call("get_vault_lock", "read its lock", unknown=_NoLockError)
            except _NoLockError:
                return None
            policy, ends = str(field(found, "Policy", "read its lock")), found.get("ExpirationDate")
            if found.get("State") != "Locked":
                return Lock(policy, is_final=False, ends_at=parse_date(ends) if ends else None)
            self._locked = Lock(policy, is_final=True)
        return self._locked

    def initiate_lock(self, policy: str) -> str:
        """InitiateVaultLock: it is in force for a day; the id by which it is completed."""
        doing = "begin its lock"
        answer = self._call("initiate_vault_lock", doing, policy={"Policy": policy})
        return str(field(answer, "lockId", doing))

    def complete_lock(self, lock_id: str) -> None:
        """CompleteVaultLock: from then on nobody takes it away. It may be repeated."""
        self._call("complete_vault_lock", "complete its lock", lockId=lock_id)

    def abort_lock(self) -> None:
        """AbortVaultLock; no error where there is none."""
        self._call("abort_vault_lock", "abort its lock")


def policy_for(arn: str, days: int) -> str:
    """The policy by which nobody deletes an archive of that vault before it is so many days old."""
    statement = {
        "Sid": "NobodyDeletesSooner",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "glacier:DeleteArchive",
        "Resource": arn,
        "Condition": {"NumericLessThan": {"glacier:ArchiveAgeInDays": str(days)}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
