"""`nightvault backup`: one job, several or all, now."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.keep_options import tags_of
from backup.cli.render.problems import problem_document
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.failures import failure_of, worst_of
from backup.cli.support.stopping import stop_on_signals
from backup.errors import ExitCode, InterruptedRunError, NightvaultError, UsageError
from backup.log_context import about

if TYPE_CHECKING:
    from backup.catalogs.report import BackupReport
    from backup.config import Config, JobSettings
    from backup.operations.backup import BackupDone, BackupOptions

EXAMPLES = {
    "backup": ("nightvault backup", "nightvault backup etc --dry-run --list  # what would be read, and why")
}

_MOST_SHOWN = 20


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--dry-run", is_flag=True, help="Show what would be read; change nothing.")
@click.option(
    "--list", "listed", is_flag=True, help="With --dry-run: list what is new, changed or left out, and why."
)
@click.option("--reread", is_flag=True, help="Read files that seem unchanged, too; nothing is stored twice.")
@click.option(
    "--disk-gone",
    "disks_gone",
    metavar="PATH",
    multiple=True,
    help="The file system on PATH will not come back: save what is there now.",
)
@click.option("--tag", "tags", metavar="TAG[,TAG]", multiple=True, help="Give the new snapshot these tags.")
@click.option("--stdin", is_flag=True, help="Save standard input alone, and leave the sources as they were.")
@click.option("--name", metavar="NAME", help="With --stdin: the file's name below /.streams.")
@click.option(
    "--accept-recipients",
    is_flag=True,
    help="Confirm that you changed the recipients; stored data stays sealed for the old ones.",
)
@click.option("--unless-paused", is_flag=True, help="Leave out jobs that are paused, as timers do.")
@pass_cli
def backup(
    cli: Cli,
    jobs: tuple[str, ...],
    dry_run: bool,
    listed: bool,
    reread: bool,
    disks_gone: tuple[str, ...],
    tags: tuple[str, ...],
    stdin: bool,
    name: str | None,
    accept_recipients: bool,
    unless_paused: bool,
) -> None:
    """Back up the named jobs, or all of the config. If one fails, the others are run all the same.

    Exit code 3 says that something could not be read: it is named, and stays in the snapshot as it was.

    `pg_dump shop | nightvault backup JOB --stdin --name shop.dump` saves what comes in; a [[job.command]]
    does that better, for it knows whether the dump is whole.
    """
    config = cli.config()
    chosen = [config.job(name) for name in jobs] if jobs else list(config.jobs)
    if not chosen:
        raise UsageError(f"{config.path} has no job", advice="add a [[job]]; config.example.toml shows one")
    if unless_paused:
        chosen = _not_paused(cli, config, chosen)
    from backup.operations.backup import BackupOptions

    options = BackupOptions(
        reread=reread,
        accept_recipients=accept_recipients,
        stdin=_name_of_stdin(stdin, name, chosen),
        disks_gone=_real(disks_gone),
        tags=_tags(tags),
    )
    _warn_of_unknown_disks(cli, config, chosen, options)
    if dry_run:
        from backup.cli.daily.backup_dry_run import show_dry_run
        from backup.operations.backup import job_of

        looks = [show_dry_run(cli, config, job_of(config, job, options), listed=listed) for job in chosen]
        cli.show(looks)
        if any(look["problems"] for look in looks):
            raise click.exceptions.Exit(int(ExitCode.PARTIAL))
        return
    documents, worst = _run_all(cli, config, chosen, options)
    cli.show(documents)
    if worst is not ExitCode.DONE:
        raise click.exceptions.Exit(int(worst))


def _real(paths: Sequence[str]) -> frozenset[bytes]:
    """Paths as entries have them: symlinks above each are resolved."""
    if not paths:
        return frozenset()
    from backup.source.roots import resolved

    return frozenset(resolved(os.fsencode(path)) for path in paths)


def _not_paused(cli: Cli, config: Config, chosen: Sequence[JobSettings]) -> list[JobSettings]:
    from backup.app.tasks.pausing import paused_jobs
    from backup.cli.render.render import local_time

    paused = paused_jobs(config, cli.clock.now())
    for job in chosen:
        if (until := paused.get(job.name)) is not None:
            cli.say(f"job {job.name} is paused until {local_time(until)}: it is left out")
    return [job for job in chosen if job.name not in paused]


def _warn_of_unknown_disks(
    cli: Cli, config: Config, chosen: Sequence[JobSettings], options: BackupOptions
) -> None:
    """Name what was given up with `--disk-gone` and is no disk that a job knows: a misspelt path, mostly."""
    from backup.app.backups.source_warnings import unknown_disks
    from backup.app.base.opened import opened

    if options.disks_gone:
        with closing(opened(config)) as inventory:
            for warning in unknown_disks(inventory, chosen, options.disks_gone):
                cli.warn(f"warning: {warning}")


def _run_all(
    cli: Cli, config: Config, chosen: Sequence[JobSettings], options: BackupOptions
) -> tuple[list[dict[str, Any]], ExitCode]:
    """The reports of the jobs, run one after the other, and the exit code: the first failure's, if any."""
    from backup.kinds import Outcome

    documents: list[dict[str, Any]] = []
    worst = ExitCode.DONE
    with stop_on_signals() as stop:
        for job in chosen:
            try:
                with about(job=job.name, vault=job.vault):
                    done = _run(cli, config, job, stop, options)
            except NightvaultError as error:
                if len(chosen) == 1:
                    raise
                documents.append(_failed(cli, job, error))
                worst = worst_of([worst, error.exit_code])
                if stop.is_set():
                    break
                continue
            documents.append(_document(done))
            if done.outcome is Outcome.PARTIAL:
                worst = worst_of([worst, ExitCode.PARTIAL])
    return documents, worst


def _failed(cli: Cli, job: JobSettings, error: NightvaultError) -> dict[str, Any]:
    """Tell that one of several jobs failed; the entry for it in the JSON document."""
    failure = failure_of(error)
    cli.error(f"nightvault: {error}" + (f"\n  {error.advice}" if error.advice else ""))
    outcome = "interrupted" if isinstance(error, InterruptedRunError) else "failed"
    return {"job": job.name, "outcome": outcome, "error": failure}


def _name_of_stdin(stdin: bool, name: str | None, chosen: Sequence[JobSettings]) -> str | None:
    """The name under which standard input is saved; None if it is not. `UsageError`."""
    from backup.config import STREAM_NAME

    if not stdin and name is None:
        return None
    if not stdin or name is None:
        raise UsageError("--stdin and --name NAME go together")
    if len(chosen) != 1:
        raise UsageError("into which job? --stdin is saved by one", advice="name one: " + _names(chosen))
    if re.fullmatch(STREAM_NAME, name) is None:
        raise UsageError(f"--name {name}: must be a name such as shop.dump or db/shop.dump")
    return name


def _tags(values: Sequence[str]) -> tuple[str, ...]:
    """The tags of the new snapshots. `UsageError`."""
    from backup.format.marks import MOST_TAGS

    tags = tuple(sorted({tag for value in values for tag in tags_of("--tag", value)}))
    if len(tags) > MOST_TAGS:
        raise UsageError(f"a snapshot has {MOST_TAGS} tags at most, not {len(tags)}")
    return tags


def _names(jobs: Sequence[JobSettings]) -> str:
    return ", ".join(job.name for job in jobs)


def _run(
    cli: Cli, config: Config, job: JobSettings, stop: threading.Event, options: BackupOptions
) -> BackupDone:
    from backup.app.base.priority import Priority
    from backup.cli.support.telling import telling
    from backup.operations.backup import Backup
    from backup.operations.recorded import context, step

    Priority.of(job).set_here()
    with telling(cli, config, Backup.kind, job=job.name):
        try:
            limit, progress = cli.retry_limit(), cli.progress()
            with context(
                config, clock=cli.clock, progress=progress, stop=stop.is_set, retry_limit=limit
            ) as at:
                done = step(Backup(at, job, options), at)
        except NightvaultError as error:
            error.args = (f"job {job.name}: {error}",)
            raise
        if not cli.json:
            _tell_report(cli, config, done)
    return done


def _tell_report(cli: Cli, config: Config, done: BackupDone) -> None:
    from backup.cli.render.render import counted, duration, shown_id, shown_path, size

    report, forgot = done.report, done.forgot
    for problem in report.problems[:_MOST_SHOWN]:
        cli.warn(f"{problem.kind}: {shown_path(problem.path)}: {problem.detail}")
    if len(report.problems) > _MOST_SHOWN:
        cli.warn(
            f"… and {len(report.problems) - _MOST_SHOWN} more; `nightvault snapshots --json` has them all"
        )
    for warning in report.warnings:
        cli.warn(f"warning: {warning}")
    new = size(report.bytes_new)
    text: tuple[str, ...] = (
        f"snapshot {shown_id(report.snapshot)} of job {report.job} in vault {report.vault}",
        f"  holds     {counted(report.files, 'file')}, {size(report.bytes)}",
        f"  read      {counted(report.files_read, 'file')}, {size(report.bytes_read)}; new {new}",
        f"  uploaded  {size(report.bytes_uploaded)} in {counted(report.archives, 'archive')}",
        f"  took      {duration(report.seconds)}",
    )
    if report.files_again:
        again = counted(report.files_again, "unchanged file")
        text = (*text, f"  again     {again}, as what held them is lost, damaged or given up")
    if forgot is not None and forgot.snapshots:
        text = (*text, f"  forgot    {counted(len(forgot.snapshots), 'older snapshot')}, by the policy")
    cli.report(None, "\n".join(text))
    if report.recovery_line:
        cli.report(None, _line_text(cli, config, report))
    if any(not problem.is_warning for problem in report.problems):
        cli.warn("some entries could not be read; where an older version is known, the snapshot keeps it")


def _line_text(cli: Cli, config: Config, report: BackupReport) -> str:
    """The recovery line; on a terminal that has seen one of the job today, only the files that hold it."""
    from backup.app.backups.recovery_lines import line_files
    from backup.cli.render.render import shown_path

    is_kept = not any("recovery line" in warning for warning in report.warnings)
    if sys.stdout.isatty() and is_kept and _backed_up_today(cli, config, report):
        files = " and ".join(shown_path(os.fsencode(path)) for path in line_files(config))
        return f"  recovery  its line is in {files}; shown once a day"
    second = config.recovery_file
    kept = (
        f"is in {shown_path(os.fsencode(second))}, too"
        if second
        else "copy it, or set recovery_file in [state]"
    )
    return f"  recovery line, to be kept off this server ({kept}):\n{report.recovery_line}"


def _backed_up_today(cli: Cli, config: Config, report: BackupReport) -> bool:
    """Whether an earlier backup of the job has ended well on this day, as the clock here has it."""
    from backup.app.base.opened import opened
    from backup.inventory.records.runs import list_runs
    from backup.kinds import Outcome, RunKind

    with closing(opened(config)) as inventory, inventory.reading() as tx:
        earlier = [
            run
            for outcome in (Outcome.DONE, Outcome.PARTIAL)
            for run in list_runs(
                tx, job=report.job, kinds=[RunKind.BACKUP], outcome=outcome, before=report.run, limit=1
            )
        ]
    today = cli.clock.now().astimezone().date()
    return any(run.started_at.astimezone().date() == today for run in earlier)


def _document(done: BackupDone) -> dict[str, Any]:
    problems = [
        problem_document(problem) | {"warning": problem.is_warning} for problem in done.report.problems
    ]
    document = done.document()
    forgotten = document.pop("forgotten")
    return {**document, "problems": problems, "forgotten": forgotten}
