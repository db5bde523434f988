"""Concerns about the newest runs that failed or were partial, with what to do; pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from backup.app.status.parts import UNKNOWN, Concern, Level, Status, Topic
from backup.inventory.records.runs import Run
from backup.kinds import Outcome, RunKind, command_after, name_of_task, run_title
from backup.model import JobName
from backup.wording import counted


def failed_runs(status: Status) -> Iterator[Concern]:
    """Yield a concern for each newest run that failed or was partial."""
    for run in bad_runs(status):
        level = Level.CRITICAL if run.found_damage else Level.WARNING
        command = command_after(run.kind, run.job, run.vault, reads_back=run.reads_back)
        yield Concern(level, Topic.RUN, _run_text(run), command, run.job, kind=run.kind)


def bad_runs(status: Status) -> Iterator[Run]:
    """Yield the newest runs that failed or were partial, of what the config still has."""
    jobs = {None, *(job.name for job in status.jobs)}
    vaults = {None, *(vault.name for vault in status.vaults if vault.kind != UNKNOWN)}
    for run in status.ended:
        is_there = run.drill in {None, *status.drills} or _is_damage_yet(run, status)
        if _is_bad(run) and run.job in jobs and run.vault in vaults and is_there:
            yield run


def _is_damage_yet(run: Run, status: Status) -> bool:
    """Whether a drill that has another name now found damage, and none of its grade was good since."""
    later = (drill for drill in status.ended if drill.kind is RunKind.DRILL and drill.number > run.number)
    made_good = any(
        (drill.vault, drill.grade, drill.outcome) == (run.vault, run.grade, Outcome.DONE) for drill in later
    )
    return run.found_damage and not made_good


def attempts(status: Status) -> Iterator[Concern]:
    """Yield concerns about failures of the daemon that no run records: unexpected errors, unknown jobs."""
    told = {
        (str(run.kind), name_of_task(run.kind, run.job, run.vault, run.drill))
        for run in status.ended
        if _is_bad(run)
    }
    tried = [
        *((str(RunKind.BACKUP), job.name, f"backup of job {job.name}", job.failed_at) for job in status.jobs),
        *((task.kind, task.name, task.text, task.failed_at) for task in status.scheduled),
    ]
    for kind, name, text, at in tried:
        if at is not None and (kind, name) not in told:
            job = JobName(name) if kind == RunKind.BACKUP else None
            about, why = f"{kind} {name}", f"{text} failed, {shown(at)}: the daemon's log says why"
            command = "systemctl status nightvault"
            of = RunKind(kind) if kind in set(RunKind) else None
            yield Concern(Level.WARNING, Topic.RUN, why, command, job, about=about, kind=of)


def _is_bad(run: Run) -> bool:
    return run.outcome in {Outcome.FAILED, Outcome.PARTIAL}


def _run_text(run: Run) -> str:
    if run.drill is not None:
        return _told_of_drill(run)
    what = run_title(run.kind, run.job, run.vault, reads_back=run.reads_back)
    if run.kind is RunKind.CHECK:
        unseen = "could not read everything" if run.reads_back else "could not look at everything"
        how = "failed" if run.outcome is Outcome.FAILED else unseen
        how = "found something missing or damaged" if run.found_damage else how
    else:
        how = "failed" if run.outcome is Outcome.FAILED else "was partial"
    why = run.error or _why_partial(run)
    return f"{what} {how}, {shown(run.started_at)} (run {run.number}){': ' * bool(why)}{why}"


def _why_partial(run: Run) -> str:
    """The first reason why a renewal of locks was partial; empty for any other run."""
    report = run.report if run.kind is RunKind.EXTEND else {}
    covered, missing = report.get("covered_count"), report.get("missing")
    if covered:
        return f"somebody put delete markers, or something else, over {counted(covered, 'object')}"
    if missing:
        return f"{counted(len(missing), 'object')} that restores need, not in the vault"
    return str(next(iter((*report.get("rules", ()), *report.get("servers", ()))), ""))


def _told_of_drill(run: Run) -> str:
    how = "failed" if run.outcome is Outcome.FAILED else "could not read everything"
    why = f": {run.error}" if run.error else ""
    return f"drill {run.drill} {how}, {shown(run.started_at)} (run {run.number}){why}"


def shown(moment: datetime) -> str:
    """Return a time in this machine's time zone, as text."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
