"""The one place where parts are put together: a config goes in, runs and their reports come out.

The ways in (CLI, daemon) call functions of this package with a config; it makes vaults with their credentials
(`vaults.py`), reads the keys in the state directory (`state.py`), and builds the contexts that `archiver`,
`restorer`, `checker` and `rebuilder` are given: those take exactly what they use, never a config and never
this package. Begin with `runs.py`: `run_job` is a whole backup in one screen. `setup.py` is `init`; the rest
is one file for each task.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.app.clock import SystemClock
    from backup.app.restore_contexts import restore_context
    from backup.app.runs import backup_job, run_job
    from backup.app.state import State

__all__ = ["State", "SystemClock", "backup_job", "restore_context", "run_job"]

_HOMES = {"SystemClock": "clock", "State": "state", "restore_context": "restore_contexts"}


def __getattr__(name: str) -> Any:
    """A part, imported when it is first used: who needs the clock alone loads no database."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'runs')}"), name)
