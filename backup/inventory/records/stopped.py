"""Queries for containers that a run has stopped: rows by which any process starts them again."""

from __future__ import annotations

from datetime import datetime
from sqlite3 import Row
from typing import Final

from msgspec import Struct

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_row, records
from backup.inventory.store.times import micros, moment
from backup.model import JobName

_ALL: Final = "SELECT * FROM stopped_containers ORDER BY number DESC"


class StoppedContainer(Struct, frozen=True):
    """A container that is about to be stopped, or was; `finished_at` is None until it was seen stopped.

    `socket` is the address of its engine, `container` its id there; `grace`: the seconds that it had to end.
    """

    number: int
    socket: str
    container: str
    name: str
    job: JobName
    since: datetime
    grace: int
    started_at: datetime
    finished_at: datetime | None


def note_stopping(
    tx: Transaction,
    socket: str,
    container: str,
    name: str,
    job: JobName,
    *,
    since: datetime,
    grace: int,
    started_at: datetime,
) -> int:
    """Record that a container is about to be stopped; the number of its row."""
    row = {"socket": socket, "container": container, "name": name, "job": job, "grace": grace}
    times = {"since": micros(since), "started_at": micros(started_at)}
    return insert_row(tx, "stopped_containers", **row, **times)


def note_stopped(tx: Transaction, number: int, finished_at: datetime) -> None:
    """Record when it ended."""
    sql = "UPDATE stopped_containers SET finished_at = ? WHERE number = ?"
    changed(tx, sql, (micros(finished_at), number))


def forget_stopped(tx: Transaction, number: int) -> None:
    """Remove a row: the container runs again, or nobody has to start it."""
    changed(tx, "DELETE FROM stopped_containers WHERE number = ?", (number,))


def stopped_containers(tx: Transaction) -> list[StoppedContainer]:
    """All of them, the last one that was stopped first."""
    return list(map(_of, records(tx, _ALL, ())))


def _of(row: Row) -> StoppedContainer:
    finished = row["finished_at"]
    return StoppedContainer(
        *(row["number"], row["socket"], row["container"], row["name"], JobName(row["job"])),
        since=moment(row["since"]),
        grace=row["grace"],
        started_at=moment(row["started_at"]),
        finished_at=None if finished is None else moment(finished),
    )
