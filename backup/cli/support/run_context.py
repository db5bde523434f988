"""The context of a command's run; the first signal stops the run between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backup.cli.support.context import Cli
from backup.cli.support.stopping import stop_on_signals

if TYPE_CHECKING:
    from backup.app.backups.run_context import RunContext
    from backup.config import Config
    from backup.inventory.store.database import Inventory


@contextmanager
def run_context(cli: Cli, config: Config, inventory: Inventory) -> Iterator[RunContext]:
    """Return a context manager that gives the context of a run: clock, progress, stop, retry limits."""
    from backup.app.backups.run_context import RunContext

    with stop_on_signals() as stop:
        yield RunContext(
            config=config,
            inventory=inventory,
            clock=cli.clock,
            progress=cli.progress(),
            stop=stop.is_set,
            retry_limit=cli.retry_limit(),
        )
