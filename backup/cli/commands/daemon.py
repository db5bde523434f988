"""`nightvault daemon`: run jobs, prunes and compactions by their schedules until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from backup.cli.support import render
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.failures import write_crash
from backup.cli.support.logs import log_to_stderr
from backup.errors import ConfigError, NightvaultError
from backup.model import JobName, VaultName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.app.regular_forgetting import Forgot
    from backup.archiver.report import BackupReport
    from backup.config import Config
    from backup.daemon import ScheduledJob
    from backup.pruner.compact import CompactReport
    from backup.pruner.report import PruneReport
    from backup.restorer.restore import RestoreReport

_MOST_SHOWN = 20
_RESTORES_SECONDS = 300
_log = logging.getLogger(__name__)


@click.command()
@pass_cli
def daemon(cli: Cli) -> None:
    """Run jobs, prunes and compactions that have a schedule, until SIGTERM or Ctrl-C.

    One runs at a time. A run in progress is asked to stop, and is waited for; what it has stored by then is
    not lost. Another signal ends it at once. A second daemon on the same state stops (11).
    """
    from contextlib import closing

    from backup.app.runs import opened
    from backup.daemon import ScheduledJob
    from backup.inventory.locks import hold_lock

    config = cli.config()
    jobs = [ScheduledJob(job.name, job.when) for job in config.jobs if job.when is not None]
    tasks = any(one.prune_when or one.compact_when for one in config.vaults)
    if not (jobs or tasks or forgetting_jobs(config)):
        raise ConfigError(
            f"{config.path}: no job has a schedule", advice='give one a line like schedule = "every 6h"'
        )
    with closing(opened(config)):
        pass  # no inventory: say so now, not each minute
    with hold_lock(config.state_dir, "daemon"):  # the inventory is open while something is done, no longer
        _run(cli, config, jobs)


def _run(cli: Cli, config: Config, jobs: Sequence[ScheduledJob]) -> None:
    """Run what has a schedule until the daemon is stopped; the caller holds the lock of the daemon."""
    from backup.app import last_run, run_job
    from backup.app.compacting import compact_once, last_compact_of
    from backup.app.priority import Priority, in_thread
    from backup.app.pruning import last_prune_of, prune_once
    from backup.app.regular_forgetting import forget_after, forget_job, last_forget
    from backup.app.restore_units import RestoreUnits
    from backup.app.restores import continue_restores
    from backup.cli.support.progress import Logged
    from backup.daemon import Chore, ScheduledVault, VaultTask, run_daemon

    clock, stop = cli.clock, threading.Event()
    log_to_stderr(config.monitoring.log, quiet=cli.quiet, verbose=cli.verbose, environ=os.environ)

    def run(name: JobName) -> None:
        with _crashes_told(config, name):
            report = in_thread(
                Priority.of(config.job(name)),
                lambda: run_job(config, name, clock=clock, progress=Logged(), stop=stop),
            )
            report, forgot = forget_after(config, report, clock=clock, progress=Logged(), stop=stop)
            tell(report)
            if forgot is not None:
                tell_forgotten(forgot)

    def prune(vault: VaultName) -> str:
        with _crashes_told(config, f"prune {vault}"):
            report = prune_once(config, vault, clock=clock, progress=Logged(), stop=stop)
            tell_prune(report)
        return report.waits_for

    def compact(vault: VaultName) -> None:
        with _crashes_told(config, f"compact {vault}"):
            tell_compaction(compact_once(config, vault, clock=clock, progress=Logged(), stop=stop))

    def forget(name: JobName) -> None:
        tell_forgotten(
            forget_job(config, name, clock=clock, progress=Logged(), stop=stop, always_record=True)
        )

    units = RestoreUnits.of(os.environ)

    def restores() -> None:
        for restore_id, report in continue_restores(config, clock=clock, stop=stop, units=units):
            tell_restore(restore_id, report)

    run_daemon(
        jobs,
        run=run,
        clock=clock,
        last_run=lambda name: last_run(config, name),
        stop=stop,
        forgetting=forgetting_jobs(config),
        forget=forget,
        last_forget=lambda name: last_forget(config, name),
        chores=[Chore("restores", restores, _RESTORES_SECONDS)],
        vault_tasks=[
            VaultTask(
                "compaction of vault",
                [ScheduledVault(one.name, when) for one in config.vaults if (when := one.compact_when)],
                compact,
                lambda vault: last_compact_of(config, vault),
            ),
            VaultTask(
                "prune of vault",
                [ScheduledVault(one.name, when) for one in config.vaults if (when := one.prune_when)],
                prune,
                lambda vault: last_prune_of(config, vault),
            ),
        ],
    )


@contextmanager
def _crashes_told(config: Config, what: str) -> Iterator[None]:
    """An unforeseen error as one of ours, which names the file with its details."""
    try:
        yield
    except NightvaultError:
        raise
    except Exception as error:
        path = write_crash(error, ["daemon", what], config.state_dir)
        sentence = f"unexpected {type(error).__name__}: {error}"
        raise NightvaultError(sentence, advice=f"please report it with {path}") from error


def forgetting_jobs(config: Config) -> list[ScheduledJob]:
    """The jobs that forget by a schedule of their own."""
    from backup.config import ForgetWhen
    from backup.daemon import ScheduledJob

    pairs = [(job.name, job.forget_when) for job in config.jobs]
    return [ScheduledJob(name, when) for name, when in pairs if not isinstance(when, ForgetWhen)]


def tell_forgotten(forgot: Forgot) -> None:
    """Log what a policy forgot; warnings after a backup are among those of its report."""
    if not forgot.has_failed:
        count = render.counted(len(forgot.snapshots), "snapshot")
        _log.info("job %s: forgot %s by the policy", forgot.job, count)


def tell(report: BackupReport) -> None:
    """Log the report of a run: a line for each entry that could not be read, and one of figures."""
    for problem in report.problems[:_MOST_SHOWN]:
        _log.warning(
            "job %s: %s: %s: %s", report.job, problem.kind, render.shown_path(problem.path), problem.detail
        )
    if len(report.problems) > _MOST_SHOWN:
        _log.warning("job %s: and %d more", report.job, len(report.problems) - _MOST_SHOWN)
    for warning in report.warnings:
        _log.warning("job %s: %s", report.job, render.printable(warning))
    _log.info(
        "job %s: snapshot %s, %s files of %s, %s read, %s uploaded in %s",
        report.job,
        render.shown_id(report.snapshot),
        f"{report.files:,}",
        render.size(report.bytes),
        render.size(report.bytes_read),
        render.size(report.bytes_uploaded),
        render.counted(report.archives, "archive"),
    )


def tell_prune(report: PruneReport) -> None:
    """Log the outcome of a prune: what was condemned, deleted, refused, and which snapshots are gone."""
    if report.waits_for:
        return  # it is logged once that it waits
    of = f"prune of vault {report.vault}"
    for warning in report.warnings:
        _log.warning("%s: %s", of, render.printable(warning))
    for group in report.refused:
        until = f"until {group.until:%Y-%m-%d}" if group.until else "for an unknown time"
        level = logging.INFO if group.until else logging.WARNING
        count = render.counted(group.archives, "archive")
        _log.log(level, "%s: the vault keeps %s %s: %s", of, count, until, render.printable(group.detail))
    for job, ids in report.dropped.items():
        _log.info("%s: %s of job %s gone for good", of, render.counted(len(ids), "forgotten snapshot"), job)
    waiting = sum(one.archives for one in report.waiting)
    _log.info(
        "%s: %s condemned, %s deleted (%s), %s taken up again, %d wait",
        of,
        render.counted(report.condemned.archives, "archive"),
        report.deleted.archives,
        render.size(report.deleted.bytes),
        report.taken_up.archives,
        waiting,
    )


def tell_compaction(report: CompactReport) -> None:
    """Log the outcome of a compaction."""
    of = f"compaction of vault {report.vault}"
    for warning in report.warnings:
        _log.warning("%s: %s", of, render.printable(warning))
    _log.info(
        "%s: %s retired, %s to be stored anew, %s come free",
        of,
        render.counted(len(report.chosen), "archive"),
        render.size(report.stored_anew),
        render.size(report.freed),
    )


def tell_restore(restore_id: str, report: RestoreReport | NightvaultError) -> None:
    """Log the outcome of work on an open restore."""
    if isinstance(report, NightvaultError):
        _log.error("restore %s: %s", restore_id, report)
        if report.advice:
            _log.info("restore %s: %s", restore_id, report.advice)
        return
    for problem in report.problems[:_MOST_SHOWN]:
        shown = render.shown_path(problem.path)
        _log.warning("restore %s: %s: %s: %s", restore_id, problem.kind, shown, problem.detail)
    for warning in report.warnings:
        _log.warning("restore %s: %s", restore_id, render.printable(warning))
    _log.info(
        "restore %s: %s, %s files of %s below %s, %d of %d retrievals to come",
        restore_id,
        report.outcome,
        f"{report.files:,}",
        render.size(report.bytes),
        render.shown_path(report.target),
        report.waiting,
        report.retrievals,
    )
