"""Notifications of commands: messages about the runs of a command are sent before it returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backup.cli.support.context import Cli
from backup.errors import InterruptedRunError, NightvaultError
from backup.model import JobName, VaultName

if TYPE_CHECKING:
    from backup.config import Config
    from backup.kinds import RunKind


@contextmanager
def telling(
    cli: Cli,
    config: Config,
    kind: RunKind | None = None,
    *,
    job: JobName | None = None,
    vault: VaultName | None = None,
) -> Iterator[None]:
    """Notify the config's channels of the runs of the body; of an error without a run as one of `kind`.

    Messages that cannot be sent now wait; a command that is stopped sends nothing more.
    """
    from backup.app.telling.record import messages_after

    try:
        with messages_after(config, cli.clock, kind, job=job, vault=vault):
            yield
    except InterruptedRunError:
        raise
    except NightvaultError:
        send_messages(cli, config)
        raise
    send_messages(cli, config)


def send_messages(cli: Cli, config: Config) -> None:
    """Send the messages that wait for a channel; failures are shown as warnings, and raise nothing."""
    if not config.notify.channel:
        return
    from backup.app.telling.send import deliver_messages

    try:
        deliver_messages(config, cli.clock)
    except NightvaultError as error:
        cli.warn(f"warning: messages could not be sent: {error}")
