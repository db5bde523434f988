"""`nightvault daemon`: do the tasks of the config by their schedules until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.daemon_log import LogWatcher
from backup.cli.support.failures import write_crash
from backup.cli.support.logs import log_to_stderr
from backup.errors import ExitCode, NightvaultError

if TYPE_CHECKING:
    from backup.config import Config
    from backup.daemon.task_run import Done, TaskRun, Work


@click.command()
@pass_cli
def daemon(cli: Cli) -> None:
    """Do what has a schedule (backups, forgets, prunes, compactions, checks), until SIGTERM or Ctrl-C.

    Then what runs has 8 seconds to end; what it stored by then is not lost, and the next start goes on with
    it. Another signal ends it at once. SIGHUP reads the config again. A second daemon on the same state stops
    (11).
    """
    from contextlib import closing

    from backup.app.runs import opened
    from backup.cli.support.progress import Followed
    from backup.config import load_config
    from backup.daemon.service import Service, all_tasks
    from backup.inventory.locks import hold_lock

    config = cli.config()
    all_tasks(config)
    with closing(opened(config)):
        pass  # no inventory: say so now, not each minute
    _log_by(cli, config)
    with hold_lock(config.state_dir, "daemon"):  # the inventory is open while something is done, no longer
        service = Service(
            config,
            cli.clock,
            progress=lambda _: Followed(),
            environ=os.environ,
            reread=lambda: load_config(config.path),
            watchers=[LogWatcher()],
            told=lambda work: _crashes_told(config, work),
            reloaded=partial(_log_by, cli),
        )
        if not service.run():
            _leave()


def _log_by(cli: Cli, config: Config) -> None:
    log_to_stderr(config.monitoring.log, quiet=cli.quiet, verbose=cli.verbose, environ=os.environ)


def _leave() -> None:
    """End the process although threads of it are busy, as `kill -9` could at any time: all is recorded."""
    logging.shutdown()
    os._exit(ExitCode.DONE)


def _crashes_told(config: Config, work: Work) -> Work:
    """Work whose unforeseen errors are ours, and name the file with their details."""

    def told(run: TaskRun) -> Done:
        try:
            return work(run)
        except NightvaultError:
            raise
        except Exception as error:
            path = write_crash(error, ["daemon", f"{run.task}"], config.state_dir)
            sentence = f"unexpected {type(error).__name__}: {error}"
            raise NightvaultError(sentence, advice=f"please report it with {path}") from error

    return told
