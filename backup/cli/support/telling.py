"""Notifications of commands: messages about the runs of a command are sent before it returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backup.cli.support.context import Cli
from backup.errors import InterruptedRunError, LockedError, NightvaultError, UsageError
from backup.model import JobName, VaultName

if TYPE_CHECKING:
    from backup.app.telling.center import ToldCenter
    from backup.config import Config
    from backup.kinds import RunKind
    from backup.protocols import Clock

_SECONDS = 60.0
_SECONDS_AFTER_RUNS = 5.0


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
        _tell_center(cli, config)
        raise
    send_messages(cli, config)
    _tell_center(cli, config)


def send_messages(cli: Cli, config: Config) -> None:
    """Send the messages that wait for a channel; failures are shown as warnings, and raise nothing."""
    if not config.notify.channel:
        return
    from backup.app.telling.send import deliver_messages

    try:
        deliver_messages(config, cli.clock)
    except NightvaultError as error:
        cli.warn(f"warning: messages could not be sent: {error}")


def _tell_center(cli: Cli, config: Config) -> None:
    """Tell the config's center, if any, how this server is now; one that is away is told later."""
    if config.center is None:
        return
    try:
        tell_center_of(config, cli.clock, seconds=_SECONDS_AFTER_RUNS)
    except LockedError:
        return  # another process tells it at this moment
    except NightvaultError as error:
        cli.warn(f"warning: the center could not be told, and is told later: {error}")


def tell_center_of(
    config: Config,
    clock: Clock,
    *,
    url: str | None = None,
    ca_file: str | None = None,
    seconds: float = _SECONDS,
) -> ToldCenter:
    """Tell a center what `status --json` says: that of the config, unless another address is given.

    `UsageError` if the config has none, and what `tell_center` raises.
    """
    import json

    from backup.app.status.status import read_status
    from backup.app.telling.center import tell_center
    from backup.cli.render.render import json_line
    from backup.cli.render.status_output import status_document
    from backup.cli.support.live_tasks import with_tasks

    if url is None:
        if config.center is None:
            raise UsageError(
                "the config has no [center]", advice="name one: nightvault center tell https://HOST"
            )
        url, ca_file = config.center.url, ca_file or config.center.ca_file
    found = with_tasks(read_status(config, clock.now()), config.state_dir, clock)
    document = json.loads(json_line(status_document(found)))
    return tell_center(config, clock, url, document, ca_file=ca_file, seconds=seconds)
