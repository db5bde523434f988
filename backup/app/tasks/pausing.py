"""Pauses of jobs: their schedules rest until a given time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backup.app.tasks.book import InventoryBook
from backup.config import Config
from backup.errors import UsageError
from backup.inventory.records.tasks import Pause
from backup.model import JobName

LONGEST = timedelta(days=366)


def pause_job(config: Config, name: str, until: datetime, now: datetime) -> datetime:
    """Store a pause, in place of the job's earlier one.

    `UsageError` for a time in the past or too far away.
    """
    job = config.job(name)
    try:
        until = until.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"a pause cannot last until {until}") from error
    if until <= now:
        raise UsageError(f"{until.astimezone():%Y-%m-%d %H:%M} is past", advice="give a time to come")
    if until - now > LONGEST:
        raise UsageError(
            f"a pause until {until.astimezone():%Y-%m-%d} is longer than a year",
            advice="a job that is not to run any more has no schedule: change the config",
        )
    InventoryBook(config).pause(Pause(job.name, now, until))
    return until


def resume_job(config: Config, name: str, now: datetime) -> bool:
    """Remove a job's pause; returns whether it was paused."""
    found = InventoryBook(config).resume(config.job(name).name)
    return found is not None and found.until > now


def paused_jobs(config: Config, now: datetime) -> dict[JobName, datetime]:
    """Return the jobs that are paused now, and until when."""
    pauses = InventoryBook(config).read([]).pauses
    return {name: pause.until for name, pause in pauses.items() if pause.until > now}
