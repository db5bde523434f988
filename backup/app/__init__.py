"""The one place where parts are put together: config in, runs out."""

from backup.app.clock import SystemClock
from backup.app.runs import backup_job, last_run, restore_world, run_job
from backup.app.state import State

__all__ = ["State", "SystemClock", "backup_job", "last_run", "restore_world", "run_job"]
