"""Finds a job by name, in the config or in the inventory."""

from __future__ import annotations

from backup.config import Config
from backup.errors import UsageError
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.model import JobName


def known_job(config: Config, tx: Transaction, name: str) -> JobName:
    """Return the job of that name, in the config or ever backed up. `UsageError` if there is none."""
    if name not in runs.all_job_names(tx):
        try:
            config.job(name)
        except UsageError as error:
            raise UsageError(
                str(error),
                advice="`nightvault snapshots` also lists those of jobs that the config has no more",
            ) from error
    return JobName(name)
