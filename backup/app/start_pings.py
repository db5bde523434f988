"""Pings that a backup has begun; they are sent beside it, and hold it up for some seconds at most."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from threading import Thread
from types import TracebackType
from typing import Self

from backup.app.channels import chosen, make_channel
from backup.app.message_ids import run_id
from backup.config import Config
from backup.errors import NightvaultError
from backup.inventory.store.stages import MessageKind
from backup.model import JobName
from backup.notify.channel import Pings, safely

_LOOK_SECONDS = 0.2
_log = logging.getLogger(__name__)


class StartPings:
    """Sends the start of one run to the channels of its job; at its end waits for what is on its way.

    So the ping of the run's end does not come before that of its start. What fails is logged, and not made up
    for: it would be of no use later.
    """

    def __init__(self, config: Config, job: JobName, inventory_id: bytes, stop: Callable[[], bool]) -> None:
        self._pings = [make_channel(one, os.environ) for one in chosen(config, MessageKind.RUN, job)]
        self._inventory_id, self._stop = inventory_id, stop
        self._threads: list[Thread] = []

    def send(self, run: int) -> None:
        """Tell that the run of this number has begun."""
        of_run = run_id(self._inventory_id, run)
        self._threads += [
            Thread(target=_ping, args=(one, of_run), name=f"ping {one.name}", daemon=True)
            for one in self._pings
            if isinstance(one, Pings)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            while thread.is_alive() and not self._stop():
                thread.join(_LOOK_SECONDS)


def _ping(channel: Pings, of_run: str) -> None:
    try:
        safely(partial(channel.start, of_run))
    except NightvaultError as error:
        _log.warning("channel %s: the start was not sent: %s", channel.name, error)
