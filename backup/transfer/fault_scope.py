"""Distinguishes a failure of one archive, which affects what needs it, from one that ends the run."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from backup.errors import (
    ArchiveMissingError,
    ArchiveUnreadableError,
    IntegrityError,
    NightvaultError,
    VaultError,
)
from backup.model import RetrievalId
from backup.protocols import Vault
from backup.transfer.retry import RetryPolicy

_OF_ONE = (ArchiveMissingError, ArchiveUnreadableError, IntegrityError)


def is_of_one_archive(error: NightvaultError) -> bool:
    """Whether the kind of an error says that it concerns one archive, and others may be readable."""
    return isinstance(error, _OF_ONE)


def require_own_fault(error: NightvaultError, vault: Vault, patience: RetryPolicy) -> None:
    """Return if a failed fetch is the fault of the archive alone; else raise the error, or the vault's own.

    The vault is asked whether it is there at all: after a disk has failed, no error is the fault of one
    archive.
    """
    if not is_of_one_archive(error) and type(error) is not VaultError:
        raise error
    patience.call(vault.open_retrievals)


@runtime_checkable
class LooksBeneath(Protocol):
    """An optional ability of a `Vault` in which somebody may put another object over ours."""

    def look_beneath(self, retrieval_id: RetrievalId) -> bool:
        """Whether another object lies over that of a retrieval: from now on the one that was stored first is
        read.

        Asked when the bytes that came were not ours.
        """
        ...


def look_beneath(vault: object, retrieval_id: RetrievalId) -> bool:
    """Whether the next bytes of a retrieval are those of another object, which was stored first."""
    return isinstance(vault, LooksBeneath) and vault.look_beneath(retrieval_id)
