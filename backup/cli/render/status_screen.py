"""The status on a screen of 80 columns: concerns, jobs, and a line for each other subject."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from backup.app.status.parts import (
    JobStatus,
    Level,
    RestoreStatus,
    ScheduledStatus,
    Status,
    VaultStatus,
)
from backup.app.status.verified import loads_text, proof_text
from backup.cli.render.render import (
    counted,
    duration,
    local_time,
    printable,
    shown_id,
    shown_path,
    size,
    table,
)
from backup.cli.render.tables import Column
from backup.cli.render.task_lines import task_lines
from backup.inventory.records.runs import Run
from backup.kinds import RunKind
from backup.wording import money

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backup.cli.render.tables import Sheet

_LONGEST = 60
_STYLES = {Level.CRITICAL: "bold red", Level.WARNING: "yellow"}


def status_screen(status: Status) -> Group:
    """Return the whole screen of a status."""
    title = f"{headline(status)} ({local_time(status.now)})"
    parts: list[RenderableType] = [Text(title, style="" if status.is_well else "bold")]
    if status.concerns:
        parts.append(_concerns(status))
    if status.jobs:
        parts += [Text(), _jobs(status)]
    if status.scheduled:
        parts += [Text(), _scheduled(status)]
    lines = _grid()
    not_yet = (("not yet", sentence) for sentence in _not_yet(status))
    for name, text in (*not_yet, *_lines(status)):
        lines.add_row(name, Text(printable(text)))
    return Group(*parts, Text(), lines)


def overdue_screen(status: Status) -> Group:
    """Return the screen of `status --overdue`: its concerns are all about overdue tasks."""
    if status.is_well:
        return Group(Text("nothing is overdue"))
    return Group(_concerns(status))


def headline(status: Status) -> str:
    """Return the headline: all is well, or how many concerns there are."""
    if status.is_well:
        return "all is well so far" if any(_not_yet(status)) else "all is well"
    of_level = [sum(concern.level is level for concern in status.concerns) for level in Level]
    warnings, critical = counted(of_level[0], "warning"), f"{of_level[1]} critical"
    told = [text for text, count in ((critical, of_level[1]), (warnings, of_level[0])) if count]
    return f"not all is well: {', '.join(told)}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _concerns(status: Status) -> Table:
    grid = _grid()
    for concern in status.concerns:
        text = Text(printable(concern.text))
        if concern.command:
            text.append(f"\n-> {concern.command}")
        grid.add_row(Text(concern.level, style=_STYLES[concern.level]), text)
    return grid


def _jobs(status: Status) -> Sheet:
    columns = [
        Column("job", least=10),
        Column("vault", rank=1, least=6),
        "last good",
        Column("age", right=True),
        "last run",
        "next",
    ]
    rows = [
        (
            *(job.name, job.vault, _time(job.last_good) if job.last_good else "never"),
            duration((status.now - job.last_good).total_seconds()) if job.last_good else None,
            _outcome(job.last_run),
            _next(job, status),
        )
        for job in status.jobs
    ]
    return table(columns, rows)


def _scheduled(status: Status) -> Sheet:
    """All else that has a schedule, in the form of the jobs."""
    columns = [Column("also scheduled", least=14), "last good", Column("age", right=True), "next"]
    rows = [
        (
            task.text,
            _time(task.last_good) if task.last_good else "never",
            duration((status.now - task.last_good).total_seconds()) if task.last_good else None,
            _next_of(task, status),
        )
        for task in status.scheduled
    ]
    return table(columns, rows)


def _next_of(scheduled: ScheduledStatus, status: Status) -> str:
    live = next(
        (task for task in status.tasks or () if (task.kind, task.name) == (scheduled.kind, scheduled.name)),
        None,
    )
    if live is not None and live.state == "running":
        return "runs now"
    if scheduled.is_overdue:
        return "overdue"
    if scheduled.paused_until is not None:
        return f"paused until {scheduled.paused_until.astimezone():%m-%d %H:%M}"
    if scheduled.next_at is None:
        return "by another program"
    return "due now" if scheduled.next_at <= status.now else _time(scheduled.next_at)


def _outcome(run: Run | None) -> str | None:
    return None if run is None else str(run.outcome)


def _next(job: JobStatus, status: Status) -> str:
    """Return the next due time of a job as text."""
    if job.name in status.backups:
        return "runs now"
    if job.is_overdue:
        return "overdue"
    if job.paused_until is not None:
        return f"paused until {job.paused_until.astimezone():%m-%d %H:%M}"
    if job.next_at is None:
        return "by hand"
    return "due now" if job.next_at <= status.now else _time(job.next_at)


def _not_yet(status: Status) -> Iterator[str]:
    """Sentences on what is not wrong, and not looked after either, with the command that begins it."""
    if not status.jobs:
        yield "the config has no job, so nothing is backed up"
    for job in status.jobs:
        if job.last_good is None and not job.is_overdue and job.name not in status.backups:
            yield f"job {job.name} was never backed up: `nightvault backup {job.name}`"
        if job.schedule is None and not job.has_timer:
            yield f"job {job.name} has no schedule: it is backed up by hand alone"
    checked = {run.vault for run in status.ended if run.kind is RunKind.CHECK}
    for vault in status.vaults:
        if vault.archives and vault.name not in checked:
            yield f"vault {vault.name} was never checked: `nightvault check --vault {vault.name}`"


def _proven(job: JobStatus) -> Iterator[tuple[str, str]]:
    if job.proof.bytes:
        yield "tested", f"{job.name}: {proof_text(job.proof)}"
    if job.locks is not None and job.lock_for is not None:
        yield "locked", f"{job.name}: {job.locks.text}{_renew_by(job)}"
    if job.holds:
        those = ", ".join(map(shown_id, job.holds))
        yield "legal hold", f"{job.name}: what {counted(len(job.holds), 'snapshot')} needs: {those}"
    if job.databases:
        yield "databases", f"{job.name}: {loads_text(job.databases)}"


def _renew_by(job: JobStatus) -> str:
    """By when locks are to be renewed, for at least `lock_for` to be left."""
    if job.locks is None or job.locks.until is None or job.lock_for is None:
        return ""
    return f"; to be renewed by {job.locks.until - job.lock_for:%Y-%m-%d}"


def _lines(status: Status) -> Iterator[tuple[str, str]]:
    yield from task_lines(status)
    for run in status.running:
        if not _is_told(run, status):
            is_left = run.drill is not None and run.drill not in status.drills
            yield "cut off" if run.number in status.dead or is_left else "runs now", _running(run, status)
    for restore in status.restores:
        yield "restore", _restore(restore)
    for vault in status.vaults:
        yield "vault", _vault(vault, status)
    for job in status.jobs:
        yield from _proven(job)
    if status.certificate is not None and status.certificate.not_after is not None:
        yield "certificate", _days_left(status.certificate.not_after, status.now)
    for disk in status.disks:
        yield "free", f"{size(disk.free)} where {disk.what} lies: {_short(disk.path)}"
    yield "daemon", _daemon(status)
    without = [job.name for job in status.jobs if not job.has_policy]
    if without:
        yield "retention", f"no policy, so all snapshots are kept: {', '.join(without)}"


def _running(run: Run, status: Status) -> str:
    """A run without a recorded end: since when, or that no process works on it any more."""
    of = f" of job {run.job}" if run.job else f" {run.drill}" if run.drill else ""
    since = f"{run.kind}{of} since {_time(run.started_at)}"
    if run.number in status.dead:
        return f"{since}: its process died; the next backup records that"
    if run.drill is not None and run.drill not in status.drills:
        return f"{since}: the config does not have this drill any more, so nothing goes on with it"
    if run.kind in {RunKind.CHECK, RunKind.DRILL}:
        return f"{since}: may wait for its vault"
    took = (status.now - run.started_at).total_seconds()
    return since if took < 0 else f"{since}, for {duration(took)}"


def _is_told(run: Run, status: Status) -> bool:
    """Whether the daemon tells of this run itself."""
    running = [task for task in status.tasks or () if task.state == "running"]
    return any((task.kind, task.name) == (run.kind, run.job) for task in running)


def _daemon(status: Status) -> str:
    if status.daemon_runs and status.tasks is None:
        return "runs, and gives no answer on its socket"
    if status.daemon_runs is not True and any(job.has_timer for job in status.jobs):
        return "does not run; timers of systemd make backups"
    return {True: "runs", False: "does not run", None: "nobody can tell here"}[status.daemon_runs]


def _restore(restore: RestoreStatus) -> str:
    text = f"{restore.id[:8]} below {_short(shown_path(restore.target))}: {restore.stage}"
    if restore.waiting:
        text += f", {restore.waiting} of {counted(restore.retrievals, 'retrieval')} to come"
    if restore.expected_at:
        text += f", expected by {_time(restore.expected_at)}"
    if restore.ready_until:
        text += f", to be fetched until {_time(restore.ready_until)}"
    return text


def _vault(vault: VaultStatus, status: Status) -> str:
    if not vault.archives:
        return f"{vault.name}: nothing is stored yet"
    cost = "no known price" if vault.month is None else f"{money(vault.month, status.currency)} a month"
    cost = "costs nothing" if vault.is_free else cost
    text = f"{vault.name}: {counted(vault.archives, 'archive')}, {size(vault.bytes)}, {cost}"
    if vault.unverified_since:
        text += f"; the oldest that no check has read is of {vault.unverified_since.astimezone():%Y-%m-%d}"
    if vault.lock is not None and vault.lock.locked_at is not None:
        text += f"; locked for ever: {vault.lock.text}"
    return text


def _days_left(end: datetime, now: datetime) -> str:
    left = (end - now).total_seconds()
    on = f"{end.astimezone():%Y-%m-%d}"
    return f"{duration(left)} left, until {on}" if left >= 0 else f"expired on {on}"


def _short(text: str) -> str:
    """A long text without its middle, so that all stays one screen."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def _time(moment: datetime) -> str:
    """A time in this machine's zone, to the minute."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
