"""The last runs: a night that was unusual, and warnings that nobody may have read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

from backup.app.base.opened import opened
from backup.app.doctor.finding import DoctorContext, Finding, warning
from backup.app.unusual_runs import unusual_in
from backup.inventory.records import runs
from backup.inventory.records.runs import Outcome, Run, RunKind
from backup.wording import counted, printable

RECENT = timedelta(days=30)
"""How long the warnings of a restore are told; those of a backup are until the next one has none."""
_SHOWN = 3  # of the warnings of one run
_MADE = {Outcome.DONE, Outcome.PARTIAL}


def unusual(context: DoctorContext) -> Iterator[Finding]:
    """Jobs whose newest backup was far from the thirty before it."""
    if context.status is None:
        return
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        found = [
            (job.name, run, text)
            for job in context.config.jobs
            if (run := runs.last_backup(tx, job.name)) is not None
            for text in unusual_in(tx, run)
        ]
    for name, run, text in found:
        yield warning(
            "unusual",
            f"job {name}: the last backup (run {run.number}) was {text}",
            "a source may have been emptied, moved, or encrypted by somebody else",
            f"nightvault diff --job {name} latest~1 latest",
        )


def unread_warnings(context: DoctorContext) -> Iterator[Finding]:
    """Warnings of each job's newest backup, and of its newest restore if that was not long ago."""
    if context.status is None:
        return
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        newest = [
            run
            for job in context.config.jobs
            for kind in (RunKind.BACKUP, RunKind.RESTORE)
            if (run := runs.newest_of_kind(tx, job.name, kind)) is not None
        ]
    for run in newest:
        if run.kind is RunKind.BACKUP or context.now - run.started_at < RECENT:
            yield from _warnings_of(run)


def _warnings_of(run: Run) -> Iterator[Finding]:
    texts = [str(one) for one in run.report.get("warnings") or ()] if run.outcome in _MADE else []
    if not texts:
        return
    more = f"; and {counted(len(texts) - _SHOWN, 'more warning')}" if len(texts) > _SHOWN else ""
    told = printable("; ".join(texts[:_SHOWN]))
    yield warning(
        "warnings",
        f"the last {run.kind} of job {run.job} (run {run.number}) warned: {told}{more}",
        "what was saved or restored may not be all that was meant",
        f"nightvault runs --job {run.job}",
    )
