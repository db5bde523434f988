"""The one place where parts are put together: config in, runs out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.app.clock import SystemClock
    from backup.app.runs import backup_job, last_run, restore_world, run_job
    from backup.app.state import State

__all__ = ["State", "SystemClock", "backup_job", "last_run", "restore_world", "run_job"]

_HOMES = {"SystemClock": "clock", "State": "state"}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: whoever wants the clock alone loads no database."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'runs')}"), name)
