"""Puts all parts together by a config: contexts of runs, status, notifications, tasks, the first set-up.

The operations and the ways in (CLI, daemon) call functions of this package with a config; it makes vaults
with their credentials (`base/vaults.py`), reads the keys in the state directory (`base/state.py`), and builds
the contexts that `archiver`, `restorer`, `checker` and `rebuilder` are given: those take exactly what they
use, never a config and never this package. Begin with `backups/contexts.py`; `rebuilds/setup.py` is `init`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.app.backups.contexts import backup_job
    from backup.app.base.clock import SystemClock
    from backup.app.base.state import State
    from backup.app.restores.contexts import restore_context

__all__ = ["State", "SystemClock", "backup_job", "restore_context"]

_HOMES = {"SystemClock": "base.clock", "State": "base.state", "restore_context": "restores.contexts"}


def __getattr__(name: str) -> Any:
    """A part, imported when it is first used: who needs the clock alone loads no database."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'backups.contexts')}"), name)
