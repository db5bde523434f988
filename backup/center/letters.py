"""Messages of a center to people: rows until a channel has taken them, each with an id that stays.

One that is sent while the process dies is sent again with the same id, by which a receiver can recognise it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update

from backup.center.database import seeing
from backup.center.tables import letters
from backup.errors import NightvaultError
from backup.inventory.store.states import MessageKind
from backup.notify.channel import AwayError, Channel, Note, safely
from backup.notify.letter import Letter
from backup.notify.outbox import BACKOFF, GIVE_UP
from backup.protocols import Clock

MOST_AT_ONCE = 50
_log = logging.getLogger(__name__)


class Carrier(Struct, frozen=True):
    """A channel, the kinds of message that it takes, and from when on one may be sent (quiet hours)."""

    channel: Channel
    kinds: frozenset[MessageKind]
    allowed_from: Callable[[datetime], datetime]


def add_letter(
    connection: Connection, ways: Sequence[Carrier], kind: MessageKind, letter: Letter, now: datetime
) -> None:
    """Note a letter for each channel that takes its kind."""
    shared = {"letter": uuid.uuid4().hex, "kind": kind, "made_at": now, "attempts": 0}
    document = msgspec.json.encode(letter.document()).decode()
    for way in ways:
        if kind in way.kinds:
            at = {"channel": way.channel.name, "next_at": way.allowed_from(now)}
            connection.execute(insert(letters).values(**shared, **at, document=document))


def send_letters(engine: Engine, ways: Sequence[Carrier], clock: Clock, stop: Callable[[], bool]) -> int:
    """Send what is due; how many were sent. One that a channel does not take is tried again later.

    Those of a channel that is not configured any more are dropped after thirty days, as all others are.
    """
    channels, sent = {way.channel.name: way.channel for way in ways}, 0
    for _ in range(MOST_AT_ONCE):
        if stop():
            break
        now = clock.now()
        with seeing(engine, None) as connection:
            connection.execute(delete(letters).where(letters.c.made_at < now - GIVE_UP))
            wanted = select(letters).where(letters.c.next_at <= now, letters.c.channel.in_(channels))
            wanted = wanted.order_by(letters.c.made_at).limit(1).with_for_update(skip_locked=True)
            row = connection.execute(wanted).mappings().first()
            if row is None:
                break
            sent += _sent(connection, channels[row["channel"]], row, clock)
    return sent


def _sent(connection: Connection, channel: Channel, row: RowMapping, clock: Clock) -> bool:
    """Send a letter, whose row is held meanwhile so that no other process does."""
    is_it = (letters.c.letter == row["letter"]) & (letters.c.channel == row["channel"])
    letter = Letter.of(msgspec.json.decode(row["document"]))
    note = Note(row["letter"], MessageKind(row["kind"]), row["made_at"], letter, {})
    try:
        safely(lambda: channel.send(note))
    except NightvaultError as error:
        again = clock.now() + BACKOFF[min(row["attempts"], len(BACKOFF) - 1)]
        tried = {"attempts": row["attempts"] + 1, "answer": str(error).replace("\0", "")[:500]}
        connection.execute(update(letters).where(is_it).values(next_at=again, **tried))
        if isinstance(error, AwayError):
            behind = (letters.c.channel == row["channel"]) & (letters.c.next_at < again)
            connection.execute(update(letters).where(behind).values(next_at=again))
        _log.warning("channel %s: not sent: %s: %s", channel.name, letter.title, error)
        return False
    connection.execute(delete(letters).where(is_it))
    _log.info("channel %s: sent: %s", channel.name, letter.title)
    return True
