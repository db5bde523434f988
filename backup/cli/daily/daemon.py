"""`nightvault daemon`: do the tasks of the config by their schedules until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.error_stream import drain, write_unread
from backup.cli.support.failures import write_crash
from backup.cli.support.logs import log_to_stderr
from backup.cli.support.stopping import kept_hangups
from backup.errors import ExitCode, LockedError, NightvaultError

if TYPE_CHECKING:
    from backup.config import Config
    from backup.daemon.task_run import Done, TaskRun, Work

EXAMPLES = {"daemon": ("nightvault daemon", "nightvault --config /etc/nightvault/config.toml daemon")}

_DRAIN_SECONDS = 0.5  # for who reads the log: it ends within ten seconds


@click.command()
@pass_cli
def daemon(cli: Cli) -> None:
    """Run the scheduled tasks (backups, forgets, prunes, compactions, checks) until SIGTERM or Ctrl-C.

    Runs in progress then have 8 seconds to end; what they stored is not lost, and the next start continues
    them. A second signal ends the daemon at once. SIGHUP reads the config again. SIGUSR1 ends the daemon as
    soon as nothing runs (75), so that systemd restarts it, as packages do after an upgrade. A second daemon
    on the same state stops (11).
    """
    woken = kept_hangups()
    write_unread()
    from contextlib import closing

    from backup.app.base.opened import opened
    from backup.cli.render.progress import Followed
    from backup.cli.support.telling import tell_center_of
    from backup.config import load_config
    from backup.daemon.service import Service, all_tasks

    config = cli.config()
    all_tasks(config)
    with closing(opened(config)):
        pass  # no inventory: say so now, not each minute
    _log_by(cli, config)
    _tell_not_set_up(cli, config)
    with _alone(config.state_dir):  # the inventory is open while something is done, no longer
        service = Service(
            config,
            cli.clock,
            progress=lambda _: Followed(),
            environ=os.environ,
            reread=lambda: load_config(config.path),
            told=lambda work: _crashes_told(config, work),
            reloaded=partial(_read_again, cli),
            tell_center=partial(tell_center_of, clock=cli.clock),
            woken=woken,
        )
        has_ended = service.run()
        code = ExitCode.BEGINS_ANEW if service.begins_anew else ExitCode.DONE
        if not (drain(_DRAIN_SECONDS) and has_ended):
            os._exit(code)  # although threads are busy, as `kill -9` could: all is recorded
    if code:
        raise click.exceptions.Exit(int(code))


@contextmanager
def _alone(state_dir: str) -> Iterator[None]:
    """The lock of the daemon of a state directory. `LockedError` names the daemon that has it."""
    from backup.inventory.store.holders import holders
    from backup.inventory.store.locks import hold_lock

    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(state_dir, "daemon"))
        except LockedError as error:
            there = (holders(state_dir) or {}).get("daemon", ())
            which = ", ".join(str(holder.process) for holder in there)
            raise LockedError(
                f"a daemon is already running with {state_dir}{f': process {which}' if which else ''}",
                advice="`nightvault status` shows what it does; one is enough. To run another in its place, "
                "end it first: `systemctl stop nightvault`, or SIGTERM",
            ) from error
        yield


def _log_by(cli: Cli, config: Config) -> None:
    log_to_stderr(config.monitoring.log, quiet=cli.quiet, verbose=cli.verbose, environ=os.environ)


def _read_again(cli: Cli, config: Config) -> None:
    _log_by(cli, config)
    if config.warning:
        cli.warn(f"warning: {config.warning}")
    _tell_not_set_up(cli, config)


def _tell_not_set_up(cli: Cli, config: Config) -> None:
    """Name the vaults for which each task will fail; the others' go on."""
    from backup.app.base.vaults import SET_UP

    for settings in config.vaults:
        if told := config.not_set_up(settings):
            cli.warn(f"warning: {told}; {SET_UP}")


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
