"""The context that runs of any vault share: config, inventory, clock, stop, retry limit.

An attempt that fails before it has a run of its own is recorded as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from backup.app.base.vaults import Purpose, make_vault
from backup.config import Config
from backup.errors import (
    LockedError,
    MonthSpentError,
    NightvaultError,
    UsageError,
    failure_report,
)
from backup.inventory.records import runs
from backup.inventory.store.database import Inventory
from backup.kinds import RunKind
from backup.model import JobName, VaultName
from backup.protocols import Clock
from backup.transfer.vault_run import RunBase, VaultRun

_RECORDED = "recorded as a run"


class RunContext(RunBase, frozen=True, kw_only=True):
    """The context of a run, the same for every vault."""

    config: Config
    inventory: Inventory

    def of_vault(self, vault: VaultName, purpose: Purpose) -> VaultRun:
        """The inputs of a run with that vault, with the rights of that purpose."""
        return VaultRun(
            clock=self.clock,
            progress=self.progress,
            stop=self.stop,
            retry_limit=self.retry_limit,
            inventory=self.inventory,
            vault=make_vault(self.config, vault, purpose, self.clock, stop=self.stop),
        )


@contextmanager
def attempt(
    inventory: Inventory,
    clock: Clock,
    kind: RunKind,
    report: dict[str, Any],
    job: JobName | None = None,
    *,
    makes_good: bool = False,
) -> Iterator[None]:
    """Record a failed run, with the report, if the body fails before it has recorded a run itself.

    The report names the vault or drill. With `makes_good` a body that ends well also ends the failed attempts
    of that report before it. A held lock or a spent monthly budget is waited for, and is no failure.
    """
    began = clock.now()
    with inventory.reading() as tx:
        before = runs.newest_number(tx)
    try:
        yield
    except (LockedError, UsageError, MonthSpentError):
        raise
    except Exception as error:
        from backup.inventory.records import attempts, drills

        with suppress(NightvaultError), inventory.writing() as tx:  # the first error is the one to report
            row = None if job is None else runs.find_job(tx, job)
            known = job is None or row is not None
            is_told = _is_recorded(error) or attempts.tells_of_failure(tx, kind, report, job, after=before)
            if known and not is_told:
                outcome, told = runs.outcome_of(error), report | _why(error)
                runs.record_attempt(tx, kind, row, outcome, told, began, clock.now())
                if kind is RunKind.DRILL:
                    drills.name_broken_drill(tx, runs.newest_number(tx), report)
                vars(error)[_RECORDED] = True
        raise
    if makes_good:
        with suppress(NightvaultError):  # the next one does it
            _end_others(inventory, kind, report)


def _is_recorded(error: Exception) -> bool:
    """Whether an attempt within this one has recorded the error: of a forget after its backup, say."""
    return _RECORDED in vars(error)


def _end_others(inventory: Inventory, kind: RunKind, report: Mapping[str, Any]) -> None:
    """A part that broke off before is made good, also by a run that began before it, with a lower number."""
    from backup.inventory.records import attempts

    with inventory.reading() as tx:
        over = attempts.failed_attempts(tx, kind, report)
    if over:
        with inventory.writing() as tx:
            attempts.end_attempts(tx, over)


def _why(error: Exception) -> dict[str, Any]:
    if isinstance(error, NightvaultError):
        return dict(failure_report(error))
    return {"error": f"unexpected {type(error).__name__}: {error}"}
