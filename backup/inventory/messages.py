"""Messages to people as rows: made once, delivered to each channel at least once; states that were told of.

A message is made in the transaction that marks its run as noticed, so a process that dies tells either
nothing yet, and the next one looks at the run again, or has left the message, and the next one sends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, Select, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from backup.inventory.database import Transaction
from backup.inventory.message_tables import conditions, deliveries, messages
from backup.inventory.schema import micros, moment
from backup.inventory.stages import DeliveryState, MessageKind
from backup.model import JobName


@dataclass(frozen=True, slots=True)
class Message:
    """A message; `document` is all that it tells, as JSON. The number is 0 until it is a row."""

    key: str
    kind: MessageKind
    created_at: datetime
    title: str
    document: Mapping[str, Any]
    job: JobName | None = None
    run: int | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to a channel; it is not tried before `next_at`."""

    message: Message
    channel: str
    state: DeliveryState
    attempts: int
    next_at: datetime
    ended_at: datetime | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A state that lasts, and the local day on which it was told of last; `level` grows as it gets worse."""

    subject: str
    since: datetime
    told_on: date
    level: int = 0


def add(tx: Transaction, message: Message, channels: Mapping[str, datetime]) -> bool:
    """Make a message a row, to be sent to each channel from its time on; False if its key is known."""
    values = {
        "key": message.key,
        "kind": message.kind,
        "job": message.job,
        "run": message.run,
        "created_at": micros(message.created_at),
        "title": message.title,
        "document": json.dumps(message.document),
    }
    query = insert(messages).values(values).on_conflict_do_nothing().returning(messages.c.number)
    number = tx.execute(query).scalar()
    if number is None:
        return False
    for channel, from_then_on in channels.items():
        row = {"message": number, "channel": channel, "state": DeliveryState.WAITING, "attempts": 0}
        tx.execute(insert(deliveries).values(**row, next_at=micros(from_then_on)))
    return True


def told_states(tx: Transaction) -> dict[str, Condition]:
    """The states that were told of and have not ended, by subject."""
    return {
        row.subject: Condition(row.subject, moment(row.since), date.fromisoformat(row.told_on), row.level)
        for row in tx.execute(select(conditions))
    }


def put_state(tx: Transaction, state: Condition) -> None:
    """Record that a state was told of."""
    values = {
        "subject": state.subject,
        "level": state.level,
        "since": micros(state.since),
        "told_on": state.told_on.isoformat(),
    }
    query = insert(conditions).values(values)
    tx.execute(query.on_conflict_do_update(index_elements=["subject"], set_=values))


def drop_state(tx: Transaction, subject: str) -> None:
    """Record that a state has ended."""
    tx.execute(delete(conditions).where(conditions.c.subject == subject))


def waiting(tx: Transaction) -> list[Delivery]:
    """The deliveries that are not done yet, in the order of their messages."""
    query = _query().where(deliveries.c.state == DeliveryState.WAITING)
    return [_delivery(row) for row in tx.execute(query.order_by(messages.c.number, deliveries.c.channel))]


def newest(tx: Transaction, *, limit: int) -> list[Delivery]:
    """The deliveries of the newest messages, newest message first."""
    query = _query().order_by(messages.c.number.desc(), deliveries.c.channel).limit(limit)
    return [_delivery(row) for row in tx.execute(query)]


def end_delivery(tx: Transaction, one: Delivery, state: DeliveryState, now: datetime, answer: str) -> None:
    """Record that a delivery is done, or will never be."""
    values = {"state": state, "attempts": one.attempts, "ended_at": micros(now), "answer": answer}
    tx.execute(update(deliveries).where(*_is(one)).values(**values))


def try_later(tx: Transaction, one: Delivery, next_at: datetime, answer: str) -> None:
    """Record an attempt that came to nothing."""
    values = {"attempts": one.attempts, "next_at": micros(next_at), "answer": answer}
    tx.execute(update(deliveries).where(*_is(one)).values(**values))


def hold_channel(tx: Transaction, channel: str, until: datetime) -> None:
    """Let everything that waits for a channel wait until then: its receiver is away."""
    held = func.max(deliveries.c.next_at, micros(until))  # SQLite's max of two values
    waits = (deliveries.c.channel == channel, deliveries.c.state == DeliveryState.WAITING)
    tx.execute(update(deliveries).where(*waits).values(next_at=held))


def remove_old(tx: Transaction, before: datetime) -> None:
    """Remove messages from before then that wait for nothing any more."""
    open_ones = select(deliveries.c.message).where(deliveries.c.state == DeliveryState.WAITING)
    gone = (messages.c.created_at < micros(before), messages.c.number.not_in(open_ones))
    tx.execute(delete(messages).where(*gone))


def _is(one: Delivery) -> Sequence[Any]:
    return deliveries.c.message == one.message.number, deliveries.c.channel == one.channel


def _query() -> Select[Any]:
    return select(messages, deliveries).join(deliveries, deliveries.c.message == messages.c.number)


def _delivery(row: Row[Any]) -> Delivery:
    message = Message(
        key=row.key,
        kind=MessageKind(row.kind),
        created_at=moment(row.created_at),
        title=row.title,
        document=json.loads(row.document),
        job=JobName(row.job) if row.job else None,
        run=row.run,
        number=row.number,
    )
    return Delivery(
        message,
        row.channel,
        DeliveryState(row.state),
        row.attempts,
        moment(row.next_at),
        moment(row.ended_at) if row.ended_at is not None else None,
        row.answer,
    )
