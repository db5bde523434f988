"""The daemon put together: board, executor, loop, control socket, reload."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event
from typing import Any

from backup.app.machine.page_access import PAGE_SOCKET, close_to_page, open_to_page, page_group
from backup.app.machine.page_config import remove_page_config, write_page_config
from backup.app.machine.restore_units import RestoreUnits
from backup.app.status.metrics_file import refresh_metrics, remove_metrics
from backup.app.tasks.book import InventoryBook
from backup.app.tasks.tasks import Task, renewal_tasks, restores_task, scheduled_tasks, tasks_of
from backup.config import Config
from backup.daemon.board import Board
from backup.daemon.center_teller import CenterTeller
from backup.daemon.control import ControlServer
from backup.daemon.executor import Executor
from backup.daemon.loop import Loop
from backup.daemon.page_watcher import PageWatcher
from backup.daemon.reload import differences, require_same_place
from backup.daemon.systemd import Systemd
from backup.daemon.task_run import FollowedProgress, Work
from backup.daemon.teller import Teller
from backup.daemon.verbs import Verbs
from backup.daemon.work import TaskWork
from backup.errors import ConfigError, NightvaultError
from backup.protocols import Clock

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """A daemon. `reread` reads the config file again; `told` wraps the work, to notify people of crashes.

    `tell_center` tells the center of a config, `reloaded` is called with each config that was read again.
    `woken`: SIGHUPs that arrived already.
    """

    config: Config
    clock: Clock
    progress: Callable[[Task], FollowedProgress]
    environ: Mapping[str, str]
    reread: Callable[[], Config]
    told: Callable[[Work], Work] = lambda work: work
    reloaded: Callable[[Config], None] = lambda _: None
    tell_center: Callable[[Config], object] = lambda _: None
    stop: Event = field(default_factory=Event)
    woken: SimpleQueue[int] = field(default_factory=SimpleQueue)
    begins_anew: bool = field(default=False, init=False)

    def run(self) -> bool:
        """Run tasks until asked to stop; False if a run did not end in time, so the process must be ended.

        `begins_anew` then says whether the daemon is to be restarted, as SIGUSR1 asked.
        """
        work = TaskWork(self.config, self.clock, RestoreUnits.of(self.environ))
        teller = Teller(lambda: self.config, self.clock)
        center = CenterTeller(lambda: self.config, self.tell_center)
        page = PageWatcher(lambda: self.config)
        executor = Executor(self.told(work), self.clock, (teller, center, page))
        executor.board = board = Board(
            all_tasks(self.config),
            InventoryBook(self.config),
            self.clock,
            launch=executor.launch,
            progress=self.progress,
        )
        verbs = Verbs(self.config, board, self.clock)
        log_tasks(board.scheduled)
        with _listening(self.config.state_dir, verbs, page), teller.sending(), center.telling():
            loop = Loop(
                board,
                executor,
                self.stop,
                reload=lambda: self._reload(work, board, verbs),
                systemd=Systemd.of(self.environ),
                woken=self.woken,
            )
            has_ended = loop.run()
        self.begins_anew = loop.begins_anew
        return has_ended

    def _reload(self, work: TaskWork, board: Board, verbs: Verbs) -> None:
        """Read the config again, and go on by it; one with mistakes is refused, and the old one stays."""
        try:
            new = self.reread()
            require_same_place(self.config, new)
        except NightvaultError as error:
            _log.error("the config was not reloaded, and the old one stays in force: %s", error)
            if error.advice:
                _log.info("%s", error.advice)
            return
        changed, metrics = differences(self.config, new), self.config.monitoring.metrics_file
        self.config = work.config = verbs.config = new
        self.reloaded(new)
        if new.web is not None:
            _hand_to_page(new)
        board.replace(every_task(new), InventoryBook(new))
        _log.info("the config was read again: %s", "these have changed" if changed else "nothing has changed")
        for line in changed:
            _log.info("config: %s", line)
        if not board.scheduled:
            _log.warning("no task has a schedule any more: only requested runs and open restores are done")
        if metrics is not None and metrics != new.monitoring.metrics_file:
            remove_metrics(metrics)
        refresh_metrics(new, self.clock)  # what went is gone from them, too


@contextmanager
def _listening(directory: str, verbs: Verbs, page: PageWatcher) -> Iterator[None]:
    """The sockets; a daemon that cannot have one does its work all the same."""
    group = _group_of_page(verbs.config)
    sockets = [ControlServer(directory, verbs.all())]
    if verbs.config.web is not None:
        sockets.append(_page_socket(verbs, page, group))
    for server in sockets:
        try:
            server.start()
        except OSError as error:
            _log.warning("there is no socket %s in %s: %s", server.name, directory, error.strerror)
    try:
        with page.copying(group) if group is not None else nullcontext():
            yield
    finally:
        for server in sockets:
            server.close()


def _group_of_page(config: Config) -> int | None:
    """The page's group, which may enter the state directory from now on; None where there is none.

    Without `[web]` what it was allowed is taken back.
    """
    if config.web is None:
        close_to_page(config)
        remove_page_config(config)
        return None
    _hand_to_page(config)
    try:
        if (group := page_group(config)) is not None:
            open_to_page(config, group)
        return group
    except NightvaultError as error:
        _log.warning("only a page of this daemon's own user is served: %s", error)
        return None


def _page_socket(verbs: Verbs, page: PageWatcher, group: int | None) -> ControlServer:
    """The page's socket; without a group it is for the daemon's own user, who may read the inventory."""

    def status(request: Mapping[str, object]) -> dict[str, Any]:
        told = verbs.status(request)
        if group is None:
            return told
        page.is_looked_at()
        return {**told, **page.document()}

    return ControlServer(
        verbs.config.state_dir, {**verbs.of_page(), "status": status}, PAGE_SOCKET, group=group
    )


def _hand_to_page(config: Config) -> None:
    """Write what the page is to know of the config; it is read when its process starts."""
    try:
        write_page_config(config)
    except (NightvaultError, OSError) as error:
        _log.warning("the page keeps the config that it has: %s", error)


def every_task(config: Config) -> list[Task]:
    """Return the tasks of a config, and those without a schedule, such as open restores."""
    return [*tasks_of(config), restores_task(), *renewal_tasks(config)]


def all_tasks(config: Config) -> list[Task]:
    """Return the tasks of a config at a start. `ConfigError` if none has a schedule."""
    if not scheduled_tasks(config):
        raise ConfigError(
            f"{config.path}: no job has a schedule", advice='give one a line like schedule = "every 6h"'
        )
    return every_task(config)


def log_tasks(tasks: Sequence[Task]) -> None:
    """Log each task with its schedule."""
    for task in tasks:
        if (when := task.timing.schedule) is not None:
            _log.info("%s: %s, %s", task, when.text, when.timezone)
