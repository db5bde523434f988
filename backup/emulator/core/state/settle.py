"""Catch up, before each request, with the work that became due: jobs end, inventories are made, old things
go.

Between two requests nothing else changes the state, so catching up late gives the same as acting in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from .store import Outlook, Store, Transaction

_NEVER = 2**63 - 1
SWEEP_MS = 1000  # what is old is looked for after each step of the clock, else once a real second

T = TypeVar("T")


async def at_settled(store: Store, work: Callable[[Transaction], T], *, brief: bool) -> T:
    """Do the work in a transaction, after everything that is due.

    Work that is `brief` is done on the spot if nothing stands in its way: handing it to a thread and back
    costs as much as the work itself. It never waits here, since whatever is being sent or received would too.
    """
    if brief:
        with store.unless_busy() as tx:
            if tx is not None and _is_settled(store, tx):
                return work(tx)
    return await asyncio.to_thread(_at_settled, store, work)


async def in_turn(store: Store, work: Callable[[Transaction], T], *, brief: bool) -> T:
    """Do the work in a transaction, at once or on a thread, without the due work."""
    if brief:
        with store.unless_busy() as tx:
            if tx is not None:
                return work(tx)
    return await asyncio.to_thread(_in_turn, store, work)


def _in_turn(store: Store, work: Callable[[Transaction], T]) -> T:
    with store.transaction() as tx:
        return work(tx)


def _at_settled(store: Store, work: Callable[[Transaction], T]) -> T:
    with store.transaction() as tx:
        if _is_settled(store, tx):
            return work(tx)
        settle(store, tx)  # committed by itself: it stays done if the work fails
    with store.transaction() as tx:
        return work(tx)


def _is_settled(store: Store, tx: Transaction) -> bool:
    """Whether nothing is due; the database is queried only if rows have changed since the last query."""
    changes = tx.db.total_changes
    if store.outlook.changes != changes:
        store.outlook = Outlook(changes, min((due_ms(tx) for due_ms in store.duties.next_ms), default=_NEVER))
    return tx.now_ms < store.outlook.due_ms and not _sweep_is_due(store, tx)


def _sweep_is_due(store: Store, tx: Transaction) -> bool:
    last = store.swept
    return tx.moment.stepped_ms != last.stepped_ms or tx.moment.real_ms - last.real_ms >= SWEEP_MS


def settle(store: Store, tx: Transaction) -> None:
    """Do everything that is due at the moment of this transaction."""
    for fulfil in store.duties.when_due:
        fulfil(tx)
    if _sweep_is_due(store, tx):
        for fulfil in store.duties.at_times:
            fulfil(tx)
        store.swept = tx.moment
