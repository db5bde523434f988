"""Amendments by a config: the lock and the vault they need, and the recovery line that each leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from backup.app.backups.recovery_lines import keep_line_of
from backup.app.backups.run_context import RunContext
from backup.app.backups.runs import backup_context, read_keys, sending_to
from backup.app.status.metrics_file import metrics_after
from backup.catalogs.amend import Amender, amending
from backup.format.catalog import Record
from backup.inventory.records.runs import JobRow, RunKind
from backup.model import JobName, VaultName
from backup.protocols import Vault


class Amended(Struct, frozen=True):
    """A change of one job that is true now; `run` recorded it, and `report` is kept with the run."""

    job: JobName
    vault: VaultName
    run: int
    report: Mapping[str, Any]
    recovery_line: str
    warnings: tuple[str, ...] = ()


class VaultAmender:
    """Amends jobs of one vault, one after the other, and keeps the recovery line of each."""

    def __init__(self, at: RunContext, amender: Amender, vault: Vault) -> None:
        self._at = at
        self._amender = amender
        self.vault = vault

    def amend(
        self, kind: RunKind, job: JobRow, amendment: Sequence[Record], report: Mapping[str, Any]
    ) -> Amended:
        """Make a change of one job true."""
        done = self._amender.amend(kind, job, amendment, report)
        warnings = keep_line_of(self._at.config, done.recovery_line)
        return Amended(
            job.name, self.vault.name, done.run, report, done.recovery_line, (*done.warnings, *warnings)
        )


@contextmanager
def amending_vault(at: RunContext, vault: VaultName) -> Iterator[VaultAmender]:
    """A context manager that amends a vault's jobs under the lock of backups. `LockedError` if one runs."""
    context = backup_context(at, vault)
    keys, sending = read_keys(at.config, at.inventory), sending_to(at.config, vault)
    with metrics_after(at.config, at.clock), amending(keys, context, sending) as amender:
        yield VaultAmender(at, amender, context.vault)
