"""The daemon of one config, put together: board, executor, loop, control socket, reload."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

from backup.app.restore_units import RestoreUnits
from backup.app.task_book import InventoryBook
from backup.app.tasks import Task, restores_task, scheduled_tasks
from backup.config import Config
from backup.daemon.board import Board
from backup.daemon.executor import Executor
from backup.daemon.loop import Loop
from backup.daemon.systemd import Systemd
from backup.daemon.task_run import FollowedProgress, Watcher, Work
from backup.daemon.work import TaskWork
from backup.errors import ConfigError
from backup.protocols import Clock

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """A daemon. `reread` reads the config file anew; `told` wraps the work, to tell of crashes."""

    config: Config
    clock: Clock
    progress: Callable[[Task], FollowedProgress]
    environ: Mapping[str, str]
    reread: Callable[[], Config]
    watchers: Sequence[Watcher] = ()
    told: Callable[[Work], Work] = lambda work: work
    stop: Event = field(default_factory=Event)

    def run(self) -> bool:
        """Run tasks until asked to stop; False if some run did not end in time, and the process has to."""
        work = TaskWork(self.config, self.clock, RestoreUnits.of(self.environ))
        executor = Executor(self.told(work), self.clock, self.watchers)
        executor.board = board = Board(
            all_tasks(self.config),
            InventoryBook(self.config),
            self.clock,
            launch=executor.launch,
            progress=self.progress,
        )
        log_tasks(board.scheduled)
        return Loop(board, executor, self.stop, systemd=Systemd.of(self.environ)).run()


def all_tasks(config: Config) -> list[Task]:
    """The tasks of a config. `ConfigError` if nothing has a schedule: there is nothing to wait for."""
    tasks = scheduled_tasks(config)
    if not tasks:
        raise ConfigError(
            f"{config.path}: no job has a schedule", advice='give one a line like schedule = "every 6h"'
        )
    return [*tasks, restores_task()]


def log_tasks(tasks: Sequence[Task]) -> None:
    """Log each task with its schedule."""
    for task in tasks:
        _log.info("%s: %s, %s", task, task.timing.schedule.text, task.timing.schedule.timezone)
