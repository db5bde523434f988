"""Puts all parts together: it takes a config, carries out runs by it, and returns their reports.

The ways in (CLI, daemon) call functions of this package with a config; it makes vaults with their credentials
(`base/vaults.py`), reads the keys in the state directory (`base/state.py`), and builds the contexts that
`archiver`, `restorer`, `checker` and `rebuilder` are given: those take exactly what they use, never a config
and never this package. Begin with `backups/runs.py`: `run_job` is a whole backup in one screen.
`rebuilds/setup.py` is `init`; the rest is a wing for each kind of run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.app.backups.runs import backup_job, run_job
    from backup.app.base.clock import SystemClock
    from backup.app.base.state import State
    from backup.app.restores.contexts import restore_context

__all__ = ["State", "SystemClock", "backup_job", "restore_context", "run_job"]

_HOMES = {"SystemClock": "base.clock", "State": "base.state", "restore_context": "restores.contexts"}


def __getattr__(name: str) -> Any:
    """A part, imported when it is first used: who needs the clock alone loads no database."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'backups.runs')}"), name)
