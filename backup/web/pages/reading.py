"""Queries that several pages share: the jobs, and their newest snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backup.config import Config
from backup.inventory.content.snapshots import list_snapshots
from backup.inventory.store.connections import Transaction
from backup.model import JobName


class NewestOfJob(Struct, frozen=True):
    """A job with its newest snapshot, if it has one."""

    name: JobName
    newest_snapshot: str | None
    last_good: datetime | None
    files: int
    bytes: int
    snapshots: int


def job_names(config: Config) -> list[JobName]:
    """Return the names of the configured jobs, in the order of the config."""
    return [job.name for job in config.jobs]


def newest_of_jobs(tx: Transaction, config: Config) -> Sequence[NewestOfJob]:
    """Return each configured job with its newest snapshot."""
    return [_newest(tx, name) for name in job_names(config)]


def newest_job(tx: Transaction, config: Config) -> str | None:
    """Return the job with the newest snapshot; the first of the config if there is no snapshot."""
    jobs = newest_of_jobs(tx, config)
    known = [(job.last_good, job.name) for job in jobs if job.last_good is not None]
    return max(known)[1] if known else jobs[0].name if jobs else None


def _newest(tx: Transaction, name: JobName) -> NewestOfJob:
    kept = list_snapshots(tx, job=name)
    if not kept:
        return NewestOfJob(name, None, None, 0, 0, 0)
    newest = kept[-1]
    return NewestOfJob(name, newest.id, newest.started_at, newest.files, newest.bytes, len(kept))
