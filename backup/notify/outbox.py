"""Delivers messages: in their order, each channel for itself, until the receiver has answered.

A delivery is recorded after the answer. A process that dies between the two sends the message again, with the
same id, by which a receiver can recognise it; so a message comes at least once. One process delivers at a
time.

A receiver that is away is tried again after a minute, then more rarely, and its other messages wait with the
first; one that refuses a message is tried again, too, since a wrong password can be put right, while the
others go on. After thirty days a message is dropped, if its channel was tried a hundred times since. A ping
is about the present, so it is dropped after six hours, or when a newer one of its job waits.

A clock that is wrong for a moment drops no message: one that is too old is dropped only if it was postponed
or tried shortly before by the same clock, and one that is postponed for longer than any rule allows counts as
due.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import LockedError, NightvaultError
from backup.inventory.records import messages
from backup.inventory.records.messages import Delivery
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import DeliveryState, MessageKind
from backup.notify.channel import AwayError, Channel, Note, safely
from backup.protocols import Clock

LOCK = "messages"
BACKOFF = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 15, 30, 60))
GIVE_UP = timedelta(days=30)
LEAST_TRIES = 100
"""So often a channel is tried in vain before a message is dropped for its age: four days of hours."""
PING_LIFE = timedelta(hours=6)
LONGEST_HOLD = timedelta(hours=25)
"""Longer than quiet hours, and any pause between two tries, put a message off."""
PING_HOLD = timedelta(hours=2)
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
    chosen: Callable[[messages.Message], Collection[str]] = lambda _: (),
) -> Flushed:
    """Send what is due, or with `only_due` False also what is held back until later, quiet hours included.

    A message for a channel that is not configured any more goes to the channels that are `chosen` for it,
    unless they have it already: the channel may have been renamed. Nothing is done while another process
    delivers.
    """
    try:
        with inventory.locked(LOCK):
            return _Round(inventory, channels, note_of, clock, stop, chosen).deliver(only_due=only_due)
    except LockedError:
        with inventory.reading() as tx:
            return Flushed(waiting=len(messages.waiting(tx)))


class _Round(Struct, frozen=True):
    inventory: Inventory
    channels: Mapping[str, Channel]
    note_of: Callable[[messages.Message], Note]
    clock: Clock
    stop: Callable[[], bool]
    chosen: Callable[[messages.Message], Collection[str]]

    def deliver(self, *, only_due: bool) -> Flushed:
        now = self.clock.now()
        with self.inventory.reading() as tx:
            there = messages.waiting(tx)
        if not there:
            return Flushed()
        with self.inventory.writing() as tx:
            messages.remove_old(tx, now - KEEP)
            for other in there:
                if other.channel not in self.channels:
                    self._hand_on(tx, other, now)
            there = [message for message in messages.waiting(tx) if message.channel in self.channels]
            held = self._sort_out(tx, there, now)
        return self._send([other for other in there if other not in held], now, only_due)

    def _hand_on(self, tx: Transaction, delivery: Delivery, now: datetime) -> None:
        """Move deliveries for a channel that does not exist any more to those that should have them now."""
        to = set(self.chosen(delivery.message)) - messages.channels_of(tx, delivery.message)
        messages.add_channels(tx, delivery.message, dict.fromkeys(sorted(to), now))
        why = "the config does not have this channel any more"
        if to:
            why += f": it goes to {', '.join(sorted(to))}"
        messages.end_delivery(tx, delivery, DeliveryState.DROPPED, now, why)

    def _sort_out(self, tx: Transaction, there: Sequence[Delivery], now: datetime) -> list[Delivery]:
        """Drop what makes no sense any more, put off pings that seem too old; what is not to be sent now."""
        tries: Counter[str] = Counter()
        newest = {}
        for other in there:
            tries[other.channel] = max(tries[other.channel], other.attempts)
            if other.message.kind is MessageKind.RUN:
                newest[other.channel, other.message.job] = other.message.number
        held = []
        for other in there:
            is_ping = other.message.kind is MessageKind.RUN
            is_old = now - other.message.created_at > (PING_LIFE if is_ping else GIVE_UP)
            if is_ping and newest[other.channel, other.message.job] != other.message.number:
                why = "a newer ping of the job follows"
            elif (
                is_old and _is_of_this_clock(other, now) and (is_ping or tries[other.channel] >= LEAST_TRIES)
            ):
                why = "too late for a ping" if is_ping else "not to be sent for 30 days"
            elif is_old and is_ping:
                messages.try_later(tx, other, now, other.answer or "")
                why = ""
            else:
                continue
            held.append(other)
            if why:
                messages.end_delivery(tx, other, DeliveryState.DROPPED, now, why)
        return held

    def _send(self, there: Sequence[Delivery], now: datetime, only_due: bool) -> Flushed:
        sent, left, away = 0, len(there), set[str]()
        for delivery in there:
            if self.stop():
                break
            if delivery.channel in away or (
                only_due and now < delivery.next_at <= now + _longest_hold(delivery)
            ):
                continue
            try:
                answer = safely(partial(self.channels[delivery.channel].send, self.note_of(delivery.message)))
            except NightvaultError as error:
                self._failed(delivery, error)
                if isinstance(error, AwayError):
                    away.add(delivery.channel)
                continue
            with self.inventory.writing() as tx:
                tried = replace(delivery, attempts=delivery.attempts + 1)
                messages.end_delivery(tx, tried, DeliveryState.SENT, self.clock.now(), answer)
            sent, left = sent + 1, left - 1
            _log.info("channel %s: sent: %s", delivery.channel, delivery.message.title)
        return Flushed(sent, left)

    def _failed(self, delivery: Delivery, error: NightvaultError) -> None:
        again = self.clock.now() + BACKOFF[min(delivery.attempts, len(BACKOFF) - 1)]
        with self.inventory.writing() as tx:
            messages.try_later(tx, replace(delivery, attempts=delivery.attempts + 1), again, str(error))
            if isinstance(error, AwayError):
                messages.hold_channel(tx, delivery.channel, again)
        _log.warning("channel %s: not sent: %s: %s", delivery.channel, delivery.message.title, error)
        if error.advice and not isinstance(error, AwayError):
            _log.info("channel %s: %s", delivery.channel, error.advice)


def _is_of_this_clock(delivery: Delivery, now: datetime) -> bool:
    """Whether it was put off, or tried, not long ago by the clock as it is now."""
    return now - delivery.next_at <= _longest_hold(delivery)


def _longest_hold(delivery: Delivery) -> timedelta:
    return PING_HOLD if delivery.message.kind is MessageKind.RUN else LONGEST_HOLD
