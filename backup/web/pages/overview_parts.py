"""The parts of the overview, made from its values: verdict, strips and table of nights, growth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup
from msgspec import Struct

from backup.app.status.parts import Level
from backup.web.charts.lines import Curves, Series, curves
from backup.web.charts.strip import Night, NightSign, strip
from backup.web.texts import Texts
from backup.web.views.values.overview import JobCard, LiveTask, NightCell, NightOutcome, Overview
from backup.wording import duration, size

SIGNS = {
    NightOutcome.DONE: NightSign.GOOD,
    NightOutcome.PARTIAL: NightSign.WARN,
    NightOutcome.INTERRUPTED: NightSign.WARN,
    NightOutcome.FAILED: NightSign.BAD,
    NightOutcome.MISSED: NightSign.BAD,
    NightOutcome.RUNNING: NightSign.BUSY,
    NightOutcome.NONE: NightSign.NONE,
}
ACTIVE = frozenset({"running", "queued", "waiting"})


class Verdict(Struct, frozen=True):
    """The headline of the overview: `kind` is good, warn or bad."""

    kind: str
    title: Markup
    told: Markup


class Matrix(Struct, frozen=True):
    """The table of nights: a row for each night, the newest first; a column for each job."""

    jobs: Sequence[str]
    rows: Sequence[tuple[date, Sequence[NightCell]]]


class GrowthRow(Struct, frozen=True):
    """The growth of a job's snapshots, from the first to the last that is drawn."""

    name: str
    first: datetime
    before: int
    last: datetime
    now: int


class Growth(Struct, frozen=True):
    """The chart of snapshot sizes, with the ends of its scales and its table."""

    drawn: Curves
    top: int
    first: datetime
    last: datetime
    rows: Sequence[GrowthRow]


def shown(it: Overview, said: Texts) -> dict[str, Any]:
    """Return the values of the template."""
    return {
        "it": it,
        "verdict": verdict(it, said),
        "active": active(it.tasks),
        "rows": [
            (host.name, [(job, _strip(job, said)) for job in host.jobs]) for host in it.hosts if host.jobs
        ],
        "matrix": matrix(list(_jobs(it))),
        "growth": growth(list(_jobs(it)), said),
    }


def active(tasks: Sequence[LiveTask]) -> list[LiveTask]:
    """Return the tasks that run, or wait to run."""
    return [task for task in tasks if task.state in ACTIVE]


def verdict(it: Overview, said: Texts) -> Verdict:
    """Return the headline; it mentions the good backups first, even if not all is well."""
    jobs = [job for job in _jobs(it) if job.is_configured]
    good = [job for job in jobs if job.last_good is not None and not job.is_overdue]
    if not jobs:
        return Verdict("warn", said.say("Nothing is backed up yet"), said.say("The config names no job."))
    newest = (
        max((job.last_good, job.name) for job in jobs if job.last_good)
        if any(job.last_good for job in jobs)
        else None
    )
    told = [_covered(len(good), len(jobs), said)]
    if newest is not None and newest[0] is not None:
        ago = duration(max(0.0, (it.now - newest[0]).total_seconds()))
        told.append(said.say("The newest: %(job)s, %(time)s ago.", job=newest[1], time=ago))
    coming = sorted(job.next_at for job in jobs if job.next_at is not None and job.next_at > it.now)
    if coming:
        left = duration((coming[0] - it.now).total_seconds())
        told.append(said.say("The next begins in %(time)s.", time=left))
    text = Markup(" ").join(told)
    failed = [job.name for job in jobs if job.newest_failed]
    if failed:
        wrong = said.count(
            "The newest night of %(jobs)s went wrong.",
            "The newest nights of %(jobs)s went wrong.",
            len(failed),
            jobs=", ".join(failed),
        )
        return Verdict("bad", said.say("Not all is well"), Markup(" ").join([wrong, text]))
    if it.level is None:
        return Verdict("good", said.say("All is well"), text)
    if it.level is Level.CRITICAL:
        return Verdict("bad", said.say("Not all is well"), text)
    return Verdict("warn", said.say("Well, with a warning"), text)


def _covered(good: int, all_: int, said: Texts) -> Markup:
    if good == all_:
        return said.count(
            "The job has a good backup in time.", "Each of the %(n)s jobs has a good backup in time.", all_
        )
    return said.say("%(good)s of %(all)s jobs have a good backup in time.", good=good, all=all_)


def _jobs(it: Overview) -> Iterator[JobCard]:
    for host in it.hosts:
        yield from host.jobs


def _strip(job: JobCard, said: Texts) -> Markup:
    nights = [Night(SIGNS[cell.outcome], _cell_text(cell)) for cell in job.nights]
    good = sum(cell.outcome is NightOutcome.DONE for cell in job.nights)
    bad = sum(SIGNS[cell.outcome] is NightSign.BAD for cell in job.nights)
    label = said.say(
        "%(job)s, thirty nights: %(good)s done, %(bad)s failed or missed", job=job.name, good=good, bad=bad
    )
    return strip(nights, label)


def _cell_text(cell: NightCell) -> str:
    stored = f", {size(cell.bytes_uploaded)}" if cell.bytes_uploaded else ""
    return f"{cell.day}: {cell.outcome}{stored}" + "".join(f"; {remark}" for remark in cell.unusual)


def matrix(jobs: Sequence[JobCard]) -> Matrix:
    """Return the nights of all jobs as one table."""
    days = sorted({cell.day for job in jobs for cell in job.nights}, reverse=True)
    cells = [{cell.day: cell for cell in job.nights} for job in jobs]
    rows = [(day, [by_day.get(day) or NightCell(day, NightOutcome.NONE) for by_day in cells]) for day in days]
    return Matrix([job.name for job in jobs], rows)


def growth(jobs: Sequence[JobCard], said: Texts) -> Growth | None:
    """Return the chart of the sizes of each job's newest snapshots; None without snapshots."""
    jobs = [job for job in jobs if job.sizes]
    if not jobs:
        return None
    series = [Series(job.name, [(at.timestamp(), float(count)) for at, count in job.sizes]) for job in jobs]
    drawn = curves(series, said.say("Sizes of snapshots over time; the table below has the figures"))
    rows = [
        GrowthRow(job.name, job.sizes[0][0], job.sizes[0][1], job.sizes[-1][0], job.sizes[-1][1])
        for job in jobs
    ]
    first, last = (datetime.fromtimestamp(at, UTC) for at in (drawn.first, drawn.last))
    return Growth(drawn, int(drawn.top), first, last, rows)
