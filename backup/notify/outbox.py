"""Delivers messages: in their order, each channel for itself, until the receiver has answered.

A delivery is recorded after the answer. A process that dies between the two sends the message again, with the
same id, by which a receiver can recognise it; so a message comes at least once. One process delivers at a
time.

A receiver that is away is tried again after a minute, then more rarely, and its other messages wait with the
first; one that refuses a message is tried again, too, since a wrong password can be put right, while the
others go on. After thirty days a message is dropped. A ping tells of now, so it is dropped after six hours,
and where a newer one of its job waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import LockedError, NightvaultError
from backup.inventory import messages
from backup.inventory.database import Inventory
from backup.inventory.messages import Delivery
from backup.inventory.stages import DeliveryState, MessageKind
from backup.model import JobName
from backup.notify.channel import AwayError, Channel, Note, safely
from backup.protocols import Clock

LOCK = "messages"
BACKOFF = tuple(timedelta(minutes=one) for one in (1, 2, 5, 15, 30, 60))
GIVE_UP = timedelta(days=30)
PING_LIFE = timedelta(hours=6)
KEEP = timedelta(days=90)
"""How long messages are kept that wait for nothing."""

_log = logging.getLogger(__name__)


class Flushed(Struct, frozen=True):
    """How many deliveries were made, and how many still wait."""

    sent: int = 0
    waiting: int = 0


def deliver(
    inventory: Inventory,
    channels: Mapping[str, Channel],
    note_of: Callable[[messages.Message], Note],
    clock: Clock,
    *,
    stop: Callable[[], bool] = lambda: False,
    only_due: bool = True,
) -> Flushed:
    """Send what is due, or with `only_due` False also what is held back until later, quiet hours included.

    Nothing is done while another process delivers.
    """
    try:
        with inventory.locked(LOCK):
            return _Round(inventory, channels, note_of, clock, stop).deliver(only_due=only_due)
    except LockedError:
        with inventory.reading() as tx:
            return Flushed(waiting=len(messages.waiting(tx)))


class _Round(Struct, frozen=True):
    inventory: Inventory
    channels: Mapping[str, Channel]
    note_of: Callable[[messages.Message], Note]
    clock: Clock
    stop: Callable[[], bool]

    def deliver(self, *, only_due: bool) -> Flushed:
        now = self.clock.now()
        with self.inventory.reading() as tx:
            there = messages.waiting(tx)
        if not there:
            return Flushed()
        in_vain = _in_vain(there, self.channels, now)
        with self.inventory.writing() as tx:
            messages.remove_old(tx, now - KEEP)
            for one, why in in_vain:
                messages.end_delivery(tx, one, DeliveryState.DROPPED, now, why)
        gone = {(one.message.number, one.channel) for one, _ in in_vain}
        return self._send(
            [one for one in there if (one.message.number, one.channel) not in gone], now, only_due
        )

    def _send(self, there: Sequence[Delivery], now: datetime, only_due: bool) -> Flushed:
        sent, left, away = 0, len(there), set[str]()
        for one in there:
            if self.stop():
                break
            if one.channel in away or (only_due and one.next_at > now):
                continue
            try:
                answer = safely(partial(self.channels[one.channel].send, self.note_of(one.message)))
            except NightvaultError as error:
                self._failed(one, error)
                if isinstance(error, AwayError):
                    away.add(one.channel)
                continue
            with self.inventory.writing() as tx:
                tried = replace(one, attempts=one.attempts + 1)
                messages.end_delivery(tx, tried, DeliveryState.SENT, self.clock.now(), answer)
            sent, left = sent + 1, left - 1
            _log.info("channel %s: sent: %s", one.channel, one.message.title)
        return Flushed(sent, left)

    def _failed(self, one: Delivery, error: NightvaultError) -> None:
        again = self.clock.now() + BACKOFF[min(one.attempts, len(BACKOFF) - 1)]
        with self.inventory.writing() as tx:
            messages.try_later(tx, replace(one, attempts=one.attempts + 1), again, str(error))
            if isinstance(error, AwayError):
                messages.hold_channel(tx, one.channel, again)
        _log.warning("channel %s: not sent: %s: %s", one.channel, one.message.title, error)
        if error.advice and not isinstance(error, AwayError):
            _log.info("channel %s: %s", one.channel, error.advice)


def _in_vain(
    there: Sequence[Delivery], channels: Mapping[str, Channel], now: datetime
) -> list[tuple[Delivery, str]]:
    """The deliveries that make no sense any more, with the reason."""
    newest = {
        (one.channel, one.message.job): one.message.number
        for one in there
        if one.message.kind is MessageKind.RUN
    }
    return [(one, why) for one in there if (why := _why_not(one, channels, newest, now))]


def _why_not(
    one: Delivery,
    channels: Mapping[str, Channel],
    newest: Mapping[tuple[str, JobName | None], int],
    now: datetime,
) -> str:
    age = now - one.message.created_at
    if one.channel not in channels:
        return "the config does not have this channel any more"
    if one.message.kind is MessageKind.RUN:
        if newest[one.channel, one.message.job] != one.message.number:
            return "a newer ping of the job follows"
        return "too late for a ping" if age > PING_LIFE else ""
    return "not to be sent for 30 days" if age > GIVE_UP else ""
