"""Bills: the meter's records by month and vault or bucket, as quantities and money.

Storage is byte-milliseconds, divided by those of the calendar month in which they fall, as AWS makes
GB-months of byte-hours. Early deletion is the rest of the minimum duration, in months of thirty days, in the
month of the deletion. A quantity is exact, no line is rounded.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from msgspec import Struct

from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.meter import LOOK, BilledStore
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import EPOCH

from .prices import CURRENCY, Row, row_of

GB = 1024**3
MONTH_DAYS = 30
TIERS = ("expedited", "standard", "bulk")
_PLACES = Decimal("0.000000000001")

Key = tuple[str, BilledStore]
"""A month such as 2026-11, and a place."""


class BillLine(Struct, frozen=True):
    """A line of a bill: how much of an item, in which unit, at which price for one."""

    kind: str
    item: str
    quantity: Decimal
    unit: str
    price: Decimal

    @property
    def cost(self) -> Decimal:
        """The money."""
        return self.quantity * self.price


class Bill(Struct, frozen=True):
    """The bill of a vault or a bucket for a month."""

    month: str
    place: BilledStore
    lines: Sequence[BillLine]

    @property
    def total(self) -> Decimal:
        """The money of all lines."""
        return sum((line.cost for line in self.lines), Decimal(0))


def bill_of(tx: Transaction, since: str = "") -> list[Bill]:
    """All bills until now, by account, month and place; those of months from `since` (such as 2026-11) on."""
    sums: defaultdict[Key, defaultdict[tuple[str, str, str, Decimal], Decimal]] = defaultdict(
        lambda: defaultdict(Decimal)
    )
    for key, line in _lines(tx, since):
        sums[key][line.kind, line.item, line.unit, line.price] += line.quantity
    found = []
    for (month, place), lines in sums.items():
        made = [BillLine(kind, item, some, unit, price) for (kind, item, unit, price), some in lines.items()]
        found.append(Bill(month, place, sorted(made, key=lambda line: (line.kind, line.item))))
    return sorted(
        found, key=lambda bill: (bill.place.account, bill.month, bill.place.service, bill.place.name)
    )


def _lines(tx: Transaction, since: str) -> Iterator[tuple[Key, BillLine]]:
    first_ms = _first_ms(since) if since else 0
    sql = "SELECT * FROM metered_storage WHERE from_ms < ? AND coalesce(until_ms, ?) >= ?"
    for row in tx.db.execute(sql, (tx.now_ms, tx.now_ms, first_ms)):
        yield from _storage(row, row_of(row["region"], row["kind"]), tx.now_ms, first_ms)
    for row in tx.db.execute("SELECT * FROM metered_requests WHERE month >= ?", (since,)):
        for line in _requests(row, row_of(row["region"], row["kind"])):
            yield (row["month"], _place(row)), line


def _place(row: sqlite3.Row) -> BilledStore:
    return BilledStore(row["account_id"], row["service"], row["region"], row["name"])


def _first_ms(month: str) -> int:
    """The first moment of a month. `ValueError` if it is none."""
    return (datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def _storage(row: sqlite3.Row, terms: Row, now_ms: int, first_ms: int) -> Iterator[tuple[Key, BillLine]]:
    start, until = row["from_ms"], row["until_ms"]
    end = now_ms if until is None else min(until, now_ms)
    parts = _parts(row, terms)
    for month, share in _months(max(start, first_ms), end):
        for item, size, price in parts:
            if size:
                quantity = Decimal(size) / GB * share
                yield (month, _place(row)), BillLine(row["kind"], item, quantity, "GB-month", price)
    left_ms = terms.minimum_days * DAY_MS - (end - start)
    if row["item"] == "storage" and until is not None and until <= now_ms and left_ms > 0:
        size = max(row["bytes"], terms.minimum_bytes) + terms.overhead
        quantity = Decimal(size) / GB * left_ms / (MONTH_DAYS * DAY_MS)
        early = BillLine(row["kind"], "early deletion", quantity, "GB-month", terms.money["storage"])
        yield (f"{_date(until):%Y-%m}", _place(row)), early


def _parts(row: sqlite3.Row, terms: Row) -> list[tuple[str, int, Decimal]]:
    """The items that a stored thing is billed as: name, bytes, price."""
    if row["item"] == "copy":
        return [("copy", row["bytes"], terms.money["copy"])]
    storage = terms.money["storage"]
    if row["item"] == "parts":
        return [("parts", row["bytes"], storage)]
    return [
        ("storage", row["bytes"], storage),
        ("minimum size", max(0, terms.minimum_bytes - row["bytes"]), storage),
        ("overhead", terms.overhead, storage),
        ("index", terms.index, terms.money["copy"]),
    ]


def _months(start_ms: int, end_ms: int) -> Iterator[tuple[str, Decimal]]:
    """The calendar months (UTC) of a span, each with the share of it that the span has."""
    while start_ms < end_ms:
        day = _date(start_ms)
        first = datetime(day.year, day.month, 1, tzinfo=UTC)
        following = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
        begin, end = ((moment - EPOCH) // timedelta(milliseconds=1) for moment in (first, following))
        yield f"{day:%Y-%m}", Decimal(min(end, end_ms) - start_ms) / (end - begin)
        start_ms = end


def _date(moment_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=moment_ms)


def _requests(row: sqlite3.Row, terms: Row) -> Iterator[BillLine]:
    kind, item, money = row["kind"], row["item"], terms.money
    thousands, gigabytes = Decimal(row["requests"]) / 1000, Decimal(row["bytes"]) / GB
    if item in TIERS:
        yield BillLine(
            kind, f"{item} retrieval requests", thousands, "1,000 requests", money[f"{item}_requests"]
        )
        yield BillLine(kind, f"{item} retrieval", gigabytes, "GB", money[f"{item}_gb"])
    else:
        price = money["download" if item == LOOK else item]
        yield BillLine(kind, f"{item} requests", thousands, "1,000 requests", price)
        if gigabytes:
            yield BillLine(kind, "egress", gigabytes, "GB", money["egress"])


def bill_document(bills: Sequence[Bill]) -> dict[str, object]:
    """Bills as JSON, their numbers as text."""
    total = sum((bill.total for bill in bills), Decimal(0))
    return {"currency": CURRENCY, "total": _text(total), "bill": [_bill(bill) for bill in bills]}


def _bill(bill: Bill) -> dict[str, object]:
    place = bill.place
    lines = [
        {
            "kind": line.kind,
            "item": line.item,
            "quantity": _text(line.quantity),
            "unit": line.unit,
            "price": _text(line.price),
            "cost": _text(line.cost),
        }
        for line in bill.lines
    ]
    named = {"service": place.service, "region": place.region, "name": place.name}
    return {
        "account": place.account,
        "month": bill.month,
        **named,
        "total": _text(bill.total),
        "lines": lines,
    }


def _text(number: Decimal) -> str:
    """Twelve places at the most, without an exponent."""
    text = f"{number.quantize(_PLACES):f}"
    return text.rstrip("0").rstrip(".")
