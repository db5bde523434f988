"""Tell a failure of one archive, which spoils what needs it, from one of the vault, which ends a run."""

from __future__ import annotations

from backup.errors import (
    ArchiveMissingError,
    ArchiveUnreadableError,
    IntegrityError,
    NightvaultError,
    VaultError,
)
from backup.protocols import Vault
from backup.transfer.retry import RetryPolicy

_OF_ONE = (ArchiveMissingError, ArchiveUnreadableError, IntegrityError)


def is_of_one_archive(error: NightvaultError) -> bool:
    """Whether an error says by its kind that another archive may well be had."""
    return isinstance(error, _OF_ONE)


def require_own_fault(error: NightvaultError, vault: Vault, patience: RetryPolicy) -> None:
    """Return if the failure of a fetch is the archive's own; else raise it, or what the vault says of itself.

    The vault is asked whether it is there at all: of a disk that died nothing is the fault of one archive.
    """
    if not is_of_one_archive(error) and type(error) is not VaultError:
        raise error
    patience.call(vault.open_retrievals)
