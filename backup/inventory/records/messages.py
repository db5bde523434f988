"""Messages to people as rows: made once, delivered to each channel at least once; told states.

A message is made in the transaction that marks its run as noticed. So if the process dies, either the next
one looks at the run again, or the message is there and the next one sends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from sqlite3 import Row
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.records.runs import RUNS, Run, run_of
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_row, raw_rows, records, value_of
from backup.inventory.store.states import DeliveryState, MessageKind
from backup.inventory.store.times import micros, moment
from backup.kinds import Outcome
from backup.model import JobName

_DELIVERIES: Final = "SELECT m.*, d.* FROM messages m JOIN deliveries d ON d.message = m.number"
_OF_ONE: Final = "WHERE message = ? AND channel = ?"


class Message(Struct, frozen=True):
    """A message; `document` is its content as JSON. The number is 0 until it is a row."""

    key: str
    kind: MessageKind
    created_at: datetime
    title: str
    document: Mapping[str, Any]
    job: JobName | None = None
    run: int | None = None
    number: int = 0


class Delivery(Struct, frozen=True):
    """A message on its way to a channel; it is not tried before `next_at`."""

    message: Message
    channel: str
    state: DeliveryState
    attempts: int
    next_at: datetime
    ended_at: datetime | None
    answer: str | None


class Condition(Struct, frozen=True):
    """A state that lasts, and the local day of its last message; `level` grows as it gets worse."""

    subject: str
    since: datetime
    told_on: date
    level: int = 0


def unnoticed_runs(tx: Transaction) -> Sequence[Run]:
    """Runs that have ended and for which no message was considered yet, oldest first."""
    sql = f"{RUNS} WHERE r.noticed IS NULL AND r.outcome != ? ORDER BY r.number"
    return [run_of(row) for row in records(tx, sql, (Outcome.RUNNING,))]


def mark_noticed(tx: Transaction, number: int) -> None:
    """Mark a run as noticed, in the transaction in which its messages become rows."""
    changed(tx, "UPDATE runs SET noticed = 1 WHERE number = ?", (number,))


def add(tx: Transaction, message: Message, channels: Mapping[str, datetime]) -> bool:
    """Make a message a row, to be sent to each channel from its time on; False if its key is known."""
    sql = """INSERT INTO messages (key, kind, job, run, created_at, title, document)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING number"""
    told = (micros(message.created_at), message.title, json.dumps(message.document))
    number = value_of(tx, sql, (message.key, message.kind, message.job, message.run, *told))
    if number is None:
        return False
    add_channels(tx, replace(message, number=number), channels)
    return True


def add_channels(tx: Transaction, message: Message, channels: Mapping[str, datetime]) -> None:
    """Have a message that is a row sent to each of these channels, too, from its time on."""
    for channel, from_then_on in channels.items():
        row = {"message": message.number, "channel": channel, "state": DeliveryState.WAITING, "attempts": 0}
        insert_row(tx, "deliveries", **row, next_at=micros(from_then_on))


def channels_of(tx: Transaction, message: Message) -> set[str]:
    """The channels that a message was or is to be sent to."""
    sql = "SELECT channel FROM deliveries WHERE message = ?"
    return {channel for (channel,) in raw_rows(tx, sql, (message.number,))}


def told_states(tx: Transaction) -> dict[str, Condition]:
    """The states that had a message and have not ended, by subject."""
    sql = "SELECT subject, since, told_on, level FROM conditions"
    return {
        subject: Condition(subject, moment(since), date.fromisoformat(told_on), level)
        for subject, since, told_on, level in raw_rows(tx, sql, ())
    }


def put_state(tx: Transaction, state: Condition) -> None:
    """Record that a message about a state was made."""
    drop_state(tx, state.subject)
    insert_row(
        tx,
        "conditions",
        subject=state.subject,
        level=state.level,
        since=micros(state.since),
        told_on=state.told_on.isoformat(),
    )


def drop_state(tx: Transaction, subject: str) -> None:
    """Record that a state has ended."""
    changed(tx, "DELETE FROM conditions WHERE subject = ?", (subject,))


def waiting(tx: Transaction) -> list[Delivery]:
    """The deliveries that are not done yet, in the order of their messages."""
    sql = f"{_DELIVERIES} WHERE d.state = ? ORDER BY m.number, d.channel"
    return [_delivery(row) for row in records(tx, sql, (DeliveryState.WAITING,))]


def newest(tx: Transaction, *, limit: int) -> list[Delivery]:
    """The deliveries of the newest messages, newest message first."""
    sql = f"{_DELIVERIES} ORDER BY m.number DESC, d.channel LIMIT ?"
    return [_delivery(row) for row in records(tx, sql, (limit,))]


def end_delivery(
    tx: Transaction, delivery: Delivery, state: DeliveryState, now: datetime, answer: str
) -> None:
    """Record that a delivery is done, or will never be."""
    sql = f"UPDATE deliveries SET state = ?, attempts = ?, ended_at = ?, answer = ? {_OF_ONE}"
    changed(
        tx, sql, (state, delivery.attempts, micros(now), answer, delivery.message.number, delivery.channel)
    )


def try_later(tx: Transaction, delivery: Delivery, next_at: datetime, answer: str) -> None:
    """Record a failed attempt, and when to try again."""
    sql = f"UPDATE deliveries SET attempts = ?, next_at = ?, answer = ? {_OF_ONE}"
    changed(tx, sql, (delivery.attempts, micros(next_at), answer, delivery.message.number, delivery.channel))


def hold_channel(tx: Transaction, channel: str, until: datetime) -> None:
    """Postpone all deliveries of a channel until then: its receiver cannot be reached."""
    sql = "UPDATE deliveries SET next_at = max(next_at, ?) WHERE channel = ? AND state = ?"
    changed(tx, sql, (micros(until), channel, DeliveryState.WAITING))


def remove_old(tx: Transaction, before: datetime) -> None:
    """Remove messages from before then that are not to be delivered any more."""
    sql = """DELETE FROM messages WHERE created_at < ?
             AND number NOT IN (SELECT message FROM deliveries WHERE state = ?)"""
    changed(tx, sql, (micros(before), DeliveryState.WAITING))


def _delivery(row: Row) -> Delivery:
    message = Message(
        key=row["key"],
        kind=MessageKind(row["kind"]),
        created_at=moment(row["created_at"]),
        title=row["title"],
        document=json.loads(row["document"]),
        job=JobName(row["job"]) if row["job"] else None,
        run=row["run"],
        number=row["number"],
    )
    return Delivery(
        message,
        row["channel"],
        DeliveryState(row["state"]),
        row["attempts"],
        moment(row["next_at"]),
        moment(row["ended_at"]) if row["ended_at"] is not None else None,
        row["answer"],
    )
