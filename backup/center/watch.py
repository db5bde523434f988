"""Looks for hosts that have become silent, and tells people of them once, by groups.

A host is silent when the time of one of its jobs went by, as it told it itself, and nothing was told since.
What is to be told becomes rows in the transaction that marks those hosts as told; then it is sent by
`letters.py`. A center that was away does not judge for `GRACE`: hosts that are to come back have their turn.
Of a group that goes on becoming silent, or does so by turns, people are told more and more rarely.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby

from msgspec import Struct
from sqlalchemy import Connection, Engine, RowMapping, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from backup.center.database import seeing
from backup.center.excuses import remove_old
from backup.center.letters import Carrier, add_letter, send_letters
from backup.center.tables import alarms, hosts, watches
from backup.center.view import GRACE, silent_hosts
from backup.errors import NightvaultError
from backup.inventory.store.states import MessageKind
from backup.notify.letter import MOST_PROBLEMS, Letter
from backup.protocols import Clock
from backup.wording import counted

EVERY_SECONDS = 60.0
GAP = timedelta(minutes=10)
"""After so long without a look the center counts as having been away."""
GATHER = timedelta(minutes=5)
"""So long others of the group may follow before the first is told."""
PAUSES = tuple(timedelta(hours=hours) for hours in (1, 2, 4, 8))
MOST_LETTERS = 5
"""Of more groups at once there is one letter about all."""
_log = logging.getLogger(__name__)


class Watch(Struct, frozen=True):
    """Looks every minute, on a thread; several processes at one database tell each thing once."""

    engine: Engine
    ways: Sequence[Carrier]
    clock: Clock

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look until the body ends."""
        stop = threading.Event()
        thread = threading.Thread(target=self._go, args=(stop,), name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(EVERY_SECONDS)

    def _go(self, stop: threading.Event) -> None:
        failed = False
        while True:
            try:
                self.look()
                send_letters(self.engine, self.ways, self.clock, stop.is_set)
                failed = False
            except NightvaultError as error:
                _log.log(logging.DEBUG if failed else logging.ERROR, "nobody is told of silence: %s", error)
                failed = True
            except Exception as error:  # noqa: BLE001  the next time may go well
                _log.error("nobody is told of silence: unexpected %s: %s", type(error).__name__, error)
                failed = True
            if stop.wait(EVERY_SECONDS):
                return

    def look(self) -> None:
        """Note that the center listens; make letters of hosts that became silent, or tell again."""
        now = self.clock.now()
        with seeing(self.engine, None) as connection:
            last = connection.execute(select(watches).with_for_update(skip_locked=True)).mappings().first()
            if last is None:
                return  # another process looks at this moment
            is_anew = last["looked_at"] is None or abs(now - last["looked_at"]) > GAP
            since = now if is_anew else last["listening_since"]
            connection.execute(update(watches).values(looked_at=now, listening_since=since))
            remove_old(connection, now)
            _end_alarms(connection, self.ways, now)
            if now - since >= GRACE and self.ways:
                _tell(connection, self.ways, now)


def _end_alarms(connection: Connection, ways: Sequence[Carrier], now: datetime) -> None:
    """Note who tells again; one letter for each group in which nobody of whom people know is silent."""
    told_since = hosts.c.last_at > hosts.c.silence_told_at
    tells = or_(hosts.c.due_from.is_(None), hosts.c.due_from >= now, told_since)
    back = update(hosts).where(hosts.c.silence_told_at.is_not(None), tells).values(silence_told_at=None)
    connection.execute(back)
    silent = select(hosts.c.in_group).where(hosts.c.silence_told_at.is_not(None))
    ended = update(alarms).where(alarms.c.is_open, alarms.c.in_group.not_in(silent)).values(is_open=False)
    groups = sorted(connection.execute(ended.returning(alarms.c.in_group)).scalars())
    for letter in _letters_of_ends(groups):
        add_letter(connection, ways, MessageKind.RECOVERED, letter, now)


def _letters_of_ends(groups: Sequence[str]) -> Iterator[Letter]:
    host = socket.gethostname()
    if len(groups) > MOST_LETTERS:
        facts = [("groups", ", ".join(map(_named, groups)))]
        yield Letter(f"{len(groups)} groups of servers: none is silent any more", host, facts)
        return
    for group in groups:
        yield Letter(f"{_named(group)}: no server is silent any more", host, [("group", _named(group))])


def _tell(connection: Connection, ways: Sequence[Carrier], now: datetime) -> None:
    """Make letters of groups in which somebody is silent, and whose pause is over."""
    known = {row["in_group"]: row for row in connection.execute(select(alarms)).mappings()}
    silent = [
        (group, list(rows))
        for group, rows in groupby(silent_hosts(connection, now), key=lambda row: str(row["in_group"]))
        if group not in known or known[group]["next_at"] <= now
    ]
    silent = [(group, rows) for group, rows in silent if min(row["due_from"] for row in rows) < now - GATHER]
    if not silent:
        return
    counts = select(hosts.c.in_group, func.count()).group_by(hosts.c.in_group)
    sizes = {str(group): int(count) for group, count in connection.execute(counts)}
    for letter in _letters_of(silent, sizes):
        add_letter(connection, ways, MessageKind.OVERDUE, letter, now)
    for group, rows in silent:
        told = update(hosts).where(hosts.c.host_id == func.any([row["host_id"] for row in rows]))
        connection.execute(told.values(silence_told_at=now))
        _note_alarm(connection, group, known.get(group), now)


def _note_alarm(connection: Connection, group: str, before: RowMapping | None, now: datetime) -> None:
    """Note when people may be told of this group again: later each time, unless it was calm for a day."""
    was_calm = before is None or (not before["is_open"] and now - before["next_at"] > timedelta(days=1))
    times = 0 if before is None or was_calm else min(before["times"] + 1, len(PAUSES) - 1)
    values = {"is_open": True, "times": times, "next_at": now + PAUSES[times]}
    row = insert(alarms).values(in_group=group, **values)
    connection.execute(row.on_conflict_do_update(index_elements=[alarms.c.in_group], set_=values))


def _letters_of(
    silent: Sequence[tuple[str, Sequence[RowMapping]]], sizes: Mapping[str, int]
) -> Iterator[Letter]:
    host, everybody = socket.gethostname(), sum(sizes.values())
    count = sum(len(rows) for _, rows in silent)
    advice = "look whether they run and reach the center; if it is known: `nightvault center ack --help`"
    if count >= 10 and 2 * count > everybody:
        advice = "so many at once: can servers reach this center?"
    if len(silent) > MOST_LETTERS:
        yield Letter(
            title=f"{count} servers of {len(silent)} groups are silent",
            host=host,
            facts=[("silent", f"{count} of {counted(everybody, 'server')}")],
            problems=[
                f"{_named(group)}: {len(rows)} of {sizes[group]}" for group, rows in silent[:MOST_PROBLEMS]
            ],
            more_problems=max(0, len(silent) - MOST_PROBLEMS),
            advice=advice,
            command="nightvault center status",
        )
        return
    for group, rows in silent:
        names = f"{rows[0]['name']} is silent" if len(rows) == 1 else f"{len(rows)} servers are silent"
        yield Letter(
            title=f"{_named(group)}: {names}",
            host=host,
            facts=[("group", _named(group)), ("silent", f"{len(rows)} of {counted(sizes[group], 'server')}")],
            problems=[_line(row) for row in rows[:MOST_PROBLEMS]],
            more_problems=max(0, len(rows) - MOST_PROBLEMS),
            advice=advice,
            command="nightvault center status",
        )


def _named(group: str) -> str:
    return f"group {group}" if group else "servers without a group"


def _line(row: RowMapping) -> str:
    due = f"job {row['due_job']} was due by" if row["due_job"] else "it was to tell something by"
    at, last = (f"{row[name]:%Y-%m-%d %H:%M}" for name in ("due_from", "last_at"))
    return f"{row['name']}: {due} {at} UTC; told last {last}"
