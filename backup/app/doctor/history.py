"""Checks of runs, checks and drills: missing or long ago, unusual, or with warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta

import msgspec

from backup.app.base.opened import opened
from backup.app.doctor import table
from backup.app.doctor.finding import DoctorContext, Finding
from backup.app.status.parts import UNKNOWN
from backup.app.status.unusual import unusual_in
from backup.inventory.records import drills, runs
from backup.inventory.records.center_chains import told_chain
from backup.inventory.records.runs import Run
from backup.kinds import Outcome, RunKind, TaskKind
from backup.model import VaultName
from backup.wording import counted, printable

UNREAD = timedelta(days=180)
"""The age from which an archive that was never read back, not even in part, is a finding."""

UNCHECKED = timedelta(days=90)
"""The greatest age of a vault's last good check where the config has no `check_age`."""

UNDRILLED, NEVER_DRILLED = timedelta(days=400), timedelta(days=90)
"""The greatest age of the last good rebuild drill, or of the first archive if there was none."""

NO_DRILL = timedelta(days=90)
"""The greatest age of the first archive where the config has no drill."""

UNTOLD = timedelta(hours=26)
"""For how long a center may have answered nothing."""

RECENT = timedelta(days=30)
"""The time for which warnings of a restore are reported; a backup's last until one has none."""
_SHOWN = 3  # of the warnings of one run
_MADE = {Outcome.DONE, Outcome.PARTIAL}


def never_run(context: DoctorContext) -> Iterator[Finding]:
    """Find jobs without a backup that are not overdue, as they have no schedule or are new."""
    for job in context.status.jobs if context.status else ():
        if job.last_good is None and not job.is_overdue:
            yield table.NEVER_RUN.finding(job=job.name)


def never_read(context: DoctorContext) -> Iterator[Finding]:
    """Find vaults with old archives of which no check has read anything."""
    for vault in context.status.vaults if context.status else ():
        since = vault.unverified_since
        if since is not None and context.now - since > UNREAD:
            yield table.NEVER_READ.finding(vault=vault.name, since=since)


def unchecked(context: DoctorContext) -> Iterator[Finding]:
    """Find vaults without a good check for long. With a schedule or `check_age` the status reports that."""
    if context.status is None or context.config.monitoring.check_age is not None:
        return
    scheduled = {task.name for task in context.status.scheduled if task.kind == TaskKind.CHECK}
    for vault in context.status.vaults:
        since = vault.checked_at or vault.stored_since
        if (
            vault.kind == UNKNOWN
            or vault.name in scheduled
            or since is None
            or context.now - since <= UNCHECKED
        ):
            continue
        if vault.checked_at is None:
            yield table.NEVER_CHECKED.finding(vault=vault.name)
        else:
            yield table.LONG_UNCHECKED.finding(vault=vault.name, since=since)


def never_drilled(context: DoctorContext) -> Iterator[Finding]:
    """Find vaults without a successful rebuild drill for long."""
    for vault in context.status.vaults if context.status else ():
        last, since = vault.rebuild_drilled_at, vault.stored_since
        if vault.kind == UNKNOWN or since is None:
            continue
        if last is None and context.now - since > NEVER_DRILLED:
            yield table.NEVER_REBUILT.finding(vault=vault.name)
        elif last is not None and context.now - last > UNDRILLED:
            yield table.LONG_NOT_REBUILT.finding(vault=vault.name, last=last)


def last_drill(context: DoctorContext) -> Iterator[Finding]:
    """Find what is stored for long without any drill, and unscheduled drills without a good run for long.

    Overdue drills with a schedule are in the status.
    """
    stored = [vault.stored_since for vault in context.status.vaults] if context.status else []
    since = min((at for at in stored if at is not None), default=None)
    if since is None:
        return
    if not context.config.drills:
        if context.now - since > NO_DRILL:
            yield table.NO_DRILL.finding()
        return
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        for drill in context.config.drills:
            run = drills.newest_of(tx, drill.name, outcomes=[Outcome.DONE])
            last = None if run is None else run.started_at
            if drill.when is not None or context.now - (last or since) <= NO_DRILL:
                continue
            if last is None:
                yield table.DRILL_NEVER_DONE.finding(drill=drill.name)
            else:
                yield table.DRILL_LONG_AGO.finding(drill=drill.name, last=last)


def never_loaded(context: DoctorContext) -> Iterator[Finding]:
    """Find jobs with dumps of databases that no drill has loaded, or none for long."""
    for job in context.status.jobs if context.status else ():
        if job.vault not in _old_vaults(context):
            continue
        never = [proof.database for proof in job.databases if proof.loaded_at is None]
        since = context.now - UNDRILLED
        long_ago = [proof.database for proof in job.databases if proof.loaded_at and proof.loaded_at < since]
        if never:
            yield table.DATABASE_NEVER_LOADED.finding(job=job.name, databases=_some(never))
        if long_ago:
            yield table.DATABASE_LOADED_LONG_AGO.finding(job=job.name, databases=_some(long_ago), last=since)


def _old_vaults(context: DoctorContext) -> set[VaultName]:
    """The vaults that have held something for so long that a drill is to be expected."""
    vaults, since = context.status.vaults if context.status else (), context.now - NO_DRILL
    return {vault.name for vault in vaults if vault.stored_since and vault.stored_since < since}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more


def unusual(context: DoctorContext) -> Iterator[Finding]:
    """Find jobs whose newest backup was far from the thirty before it."""
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
        yield table.UNUSUAL.finding(job=name, run=run.number, text=text)


def center_untold(context: DoctorContext) -> Iterator[Finding]:
    """Find a center that has not been told for longer than a night, or never."""
    center = context.config.center
    if center is None:
        return
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        chain = told_chain(tx, center.url)
    told = msgspec.json.decode(chain.told).get("as_of") if chain is not None else None
    if told is None:
        yield table.CENTER_UNTOLD.finding(url=center.url, since="was never told how this server is")
    elif context.clock.now() - datetime.fromisoformat(told) > UNTOLD:
        yield table.CENTER_UNTOLD.finding(url=center.url, since=f"has answered nothing since {told[:16]} UTC")


def unread_warnings(context: DoctorContext) -> Iterator[Finding]:
    """Find warnings of each job's newest backup, and of its newest restore if that is recent."""
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
    texts = run.warnings if run.outcome in _MADE else []
    if not texts:
        return
    more = f"; and {counted(len(texts) - _SHOWN, 'more warning')}" if len(texts) > _SHOWN else ""
    told = printable("; ".join(texts[:_SHOWN]))
    yield table.RUN_WARNED.finding(kind=run.kind, job=run.job, run=run.number, texts=f"{told}{more}")
