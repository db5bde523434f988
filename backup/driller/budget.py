"""Holds a drill to its monthly limit: its cost is recorded in the transaction that begins it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from backup.checker.read_sample import Piece
from backup.driller.context import DrillContext
from backup.driller.money import first_of, millionths, money_of, spent
from backup.errors import LimitRefusedError, MonthSpentError
from backup.inventory.records import drills
from backup.inventory.records.drills import month_of
from backup.inventory.records.readings import Grade, Reading
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.model import ByteRange


def cost_of(pieces: Sequence[Piece], context: DrillContext) -> int:
    """Return the cost of reading these pieces, in millionths.

    `LimitRefusedError` with a limit and no price.
    """
    cost = context.price(pieces)
    if cost is None and context.limit is not None:
        raise LimitRefusedError(
            f"nobody knows what drill {context.name} would cost, and whether that stays below "
            f"max_cost_per_month, {context.limit}",
            advice="add the prices to a table of your own, [prices] file, or give the drill no limit",
        )
    return millionths(cost or Decimal(0))


def left(tx: Transaction, context: DrillContext) -> int | None:
    """Return the rest of this month's limit, in millionths; None: there is no limit."""
    if context.limit is None:
        return None
    month = month_of(context.clock.now())
    begin = first_of(month)

    def is_older(run: int) -> bool:
        return drills.began_later_before(tx, run, begin)

    return millionths_of(context.limit) - spent(drills.charges_of(tx, context.name), month, is_older)


def millionths_of(limit: Decimal) -> int:
    """Return a limit in millionths, rounded down."""
    return int(limit * 1_000_000)


def begin(
    tx: Transaction, context: DrillContext, grade: Grade, cost: int, now: datetime, plan: bytes = b""
) -> Run:
    """Record a drill with its cost, unless that exceeds the rest of the month. `MonthSpentError`."""
    room = left(tx, context)
    if room is not None and cost > room:
        raise month_spent(context, room)
    run = drills.begin_drill(tx, context.name, grade, context.vault.name, now, plan)
    drills.charge(tx, run.number, month_of(now), cost)
    return run


def month_spent(context: DrillContext, room: int) -> LimitRefusedError:
    """Return the error for a month that leaves too little for any sample, or for a limit that always does."""
    limit = context.limit or Decimal(0)
    may = f"drill {context.name} may cost {limit} {context.currency} a month"
    if room >= millionths_of(limit):
        return LimitRefusedError(
            f"{may}: too little for anything of its sample, in any month",
            advice="make its sample smaller, or raise max_cost_per_month",
        )
    rest = max(Decimal(0), money_of(room))
    return MonthSpentError(
        f"{may}, of which {rest:.2f} is left: too little for anything of its sample",
        advice="it goes on next month; or make its sample smaller, or raise max_cost_per_month",
    )


def may_ask_again(tx: Transaction, context: DrillContext, run: int, asked: Piece) -> bool:
    """Whether a piece may be requested again within the limit; if so, its cost is recorded."""
    if context.limit is None:
        return True
    cost = context.price([asked])
    room = left(tx, context)
    if cost is None or (room is not None and millionths(cost) > room):
        return False
    drills.charge(tx, run, month_of(context.clock.now()), millionths(cost))
    return True


def piece_of(reading: Reading) -> Piece:
    """Return a reading as a piece with a price."""
    return Piece(
        reading.archive,
        reading.asked.end,
        reading.start,
        reading.end,
        ByteRange(reading.asked.start, reading.asked.end),
    )
