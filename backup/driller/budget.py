"""Holds a drill to its monthly limit: its cost is recorded in the transaction that begins it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from backup.checker.read_sample import Piece
from backup.cost import limit as limits
from backup.cost.limit import CostLimit
from backup.driller.context import DrillContext
from backup.driller.money import first_of, millionths, money_of, spent
from backup.errors import LimitRefusedError
from backup.inventory.records import drills
from backup.inventory.records.drills import month_of
from backup.inventory.records.readings import Grade, Reading
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.model import ByteRange


def cost_of(limit: CostLimit, context: DrillContext) -> int:
    """Return the cost of what is held to this limit, in millionths.

    `LimitRefusedError` with a limit and no price.
    """
    return millionths(limit.cost(context.tier) or Decimal(0))


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
    rest = None if room >= millionths_of(limit) else max(Decimal(0), money_of(room))
    return limits.month_spent(f"drill {context.name}", f"{limit} {context.currency}", rest)


def may_ask_again(tx: Transaction, context: DrillContext, run: int, asked: Piece) -> bool:
    """Whether a piece may be requested again within the limit; if so, its cost is recorded."""
    if context.limit is None:
        return True
    room = left(tx, context)
    try:
        cost = cost_of(context.limit_on([asked]), context)
    except LimitRefusedError:
        return False
    if room is not None and cost > room:
        return False
    drills.charge(tx, run, month_of(context.clock.now()), cost)
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
