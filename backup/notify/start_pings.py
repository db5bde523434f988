"""Pings that a backup has begun; they are sent in parallel, and delay it by some seconds at most."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from threading import Thread
from types import TracebackType
from typing import Self

from backup.errors import NightvaultError
from backup.notify.channel import Channel, Pings, run_id, safely

_LOOK_SECONDS = 0.2
_log = logging.getLogger(__name__)


class StartPings:
    """Sends the start of one run to the channels that take it; at its end waits for what is on its way.

    So the ping of the run's end does not come before that of its start. A ping that fails is logged and not
    repeated: it would be of no use later.
    """

    def __init__(self, channels: Iterable[Channel], inventory_id: bytes, stop: Callable[[], bool]) -> None:
        self._channels = [channel for channel in channels if isinstance(channel, Pings)]
        self._inventory_id, self._stop = inventory_id, stop
        self._threads: list[Thread] = []

    def send(self, run: int) -> None:
        """Send that the run of this number has begun."""
        of_run = run_id(self._inventory_id, run)
        self._threads += [
            Thread(target=_ping, args=(channel, of_run), name=f"ping {channel.name}", daemon=True)
            for channel in self._channels
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
