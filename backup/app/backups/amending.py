"""Amends jobs by a config, one vault after the other, each under its lock; recovery lines go to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from backup.app.backups.contexts import backup_context, read_keys, sending_to
from backup.app.backups.recovery_lines import keep_line_of
from backup.app.base.run_context import RunContext
from backup.app.status.metrics_file import metrics_after
from backup.catalogs.amend import Amender, amending
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.model import VaultName


@contextmanager
def amending_vault(at: RunContext, vault: VaultName) -> Iterator[Amender]:
    """A context manager that amends a vault's jobs under the lock of backups. `LockedError` if one runs."""
    context = backup_context(at, vault)
    keys, sending = read_keys(at.config, at.inventory), sending_to(at.config, vault)
    keep_line = partial(keep_line_of, at.config)
    with metrics_after(at.config, at.clock), amending(keys, context, sending, keep_line=keep_line) as amender:
        yield amender


def amending_vaults_of(at: RunContext, jobs: Iterable[int]) -> Iterator[tuple[Amender, Sequence[JobRow]]]:
    """Iterate over the vaults of these jobs (by number), each under its lock and with all its jobs."""
    with at.inventory.reading() as tx:
        vaults = dict.fromkeys(runs.vault_of_job(tx, job) for job in sorted(set(jobs)))
    for vault in vaults:
        with amending_vault(at, vault) as amender:
            with at.inventory.reading() as tx:
                rows = runs.list_jobs(tx, vault)
            yield amender, rows
