"""Changes what was saved before, without a backup; a change is committed once its catalog is stored.

    with amending(keys, context, sending) as amender:      # the lock; finishes what a dead process left
        amender.amend(RunKind.FORGET, job, amendment, report)

The change is recorded with the run, then the catalog is stored, then one transaction applies it. A run that
died in between is finished by the next one, as a backup is (`recovery.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from backup.catalogs.context import BackupContext, Keys, OpenRun, OpenVault, Sending
from backup.catalogs.full import lacks_full
from backup.catalogs.recovery import recover
from backup.catalogs.run_setup import (
    look_before_taking_back,
    open_vault,
    require_ours,
    require_still_ours,
)
from backup.catalogs.sending import CatalogSender
from backup.errors import NightvaultError
from backup.format.catalog import Record
from backup.inventory.content import archives
from backup.inventory.records import amendments, copied_amendments, runs
from backup.inventory.records.runs import JobRow, Run
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName

KeepLine = Callable[[str], Sequence[str]]
"""Keeps a recovery line, and returns warnings."""


class Amended(Struct, frozen=True):
    """A committed change of one job: the run that recorded it, its report, the new recovery line."""

    job: JobName
    vault: VaultName
    run: int
    report: Mapping[str, Any]
    recovery_line: str
    warnings: tuple[str, ...] = ()


@contextmanager
def amending(
    keys: Keys,
    context: BackupContext,
    sending: Sending,
    *,
    only_plan: bool = False,
    keep_line: KeepLine | None = None,
) -> Iterator[Amender]:
    """A context manager that yields an amender of the context's vault, under the lock of backups.

    `keep_line` is called with each new recovery line. A rebuilt inventory leaves its heir's mark in the
    vault, but not for a plan. `LockedError` if a backup runs. What a dead process left in the vault is
    finished first.
    """
    with context.inventory.locked("backup"):
        at = open_vault(keys, context, sending)
        require_ours(keys, context, leaves_marks=not only_plan)
        with at.uploader:
            recover(at)
            yield Amender(at, keep_line)


class Amender:
    """Amends one job after the other; each change is committed by itself."""

    def __init__(self, at: OpenVault, keep_line: KeepLine | None) -> None:
        self.vault = at.context.vault
        self._at = at
        self._context = at.context
        self._keep_line = keep_line
        self._looked = at.context.clock.now()

    def look_before_taking_back(self) -> None:
        """Learn which condemned archives are gone, before anything that needs them is taken back."""
        look_before_taking_back(self._context)

    def amend(
        self, kind: RunKind, job: JobRow, amendment: Sequence[Record], report: Mapping[str, Any]
    ) -> Amended:
        """Store the amendment in a catalog of the job, then apply it; `report` is kept with the run.

        Of a job that has copies in this vault it concerns these alone.

        Any error leaves everything as it was, or, where the catalog may have arrived, to the next run.
        """
        context, vault = self._context, self._at.vault
        is_copy = job.vault != vault
        self._looked = require_still_ours(self._at, self._looked)
        with context.inventory.writing() as tx:
            prepared, to = amendments.encode(amendment), vault if is_copy else None
            run = runs.open_amendment(tx, kind, job, context.clock.now(), prepared, copied_to=to)
        at = OpenRun(**asdict(self._at), row=job, run=run)
        sender = CatalogSender(at)
        if is_copy:
            from backup.catalogs.copied import CopySender  # few vaults have copies

            sender = CopySender(at)
        try:
            sender.delta_of_amendment(amendment)
        except BaseException as error:
            self._fail(run, error)
            raise
        self._looked = require_still_ours(self._at, self._looked)
        due = sender.full_due()
        with context.inventory.writing() as tx:
            copied_amendments.apply_in(tx, vault, job, amendment, context.clock.now())
            runs.finish_run(tx, run.number, Outcome.DONE, report, context.clock.now())
        warnings: tuple[str, ...] = ()
        if due is not None:
            try:
                sender.full()
            except NightvaultError as error:
                warnings = (lacks_full(job.name, due, str(error)),)
        line = sender.line()
        if self._keep_line is not None:
            warnings = (*warnings, *self._keep_line(line))
        return Amended(job.name, self.vault.name, run.number, report, line, warnings)

    def _fail(self, run: Run, error: BaseException) -> None:
        """Record that the run came to nothing, unless its catalog may still arrive."""
        if not isinstance(error, (NightvaultError, KeyboardInterrupt)):
            return
        outcome = Outcome.FAILED if isinstance(error, NightvaultError) else Outcome.INTERRUPTED
        inventory = self._context.inventory
        with suppress(NightvaultError), inventory.writing() as tx:  # the first error is the one to report
            if archives.catalog_of_run(tx, run.number) is None:
                now = self._context.clock.now()
                runs.finish_run(tx, run.number, outcome, {"error": str(error)}, now)
