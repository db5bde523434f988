"""The meter: what is stored from when to when, and what was asked for, recorded as bills count it.

    begin_storing(tx, place, "archive 7", "glacier", size)   # in the transaction that stores it
    end_storing(tx, "archive 7")
    count(tx, place, "glacier", "upload")

It knows no prices: `backup.emulator.billing` makes a bill of these records. They are kept when a vault or a
bucket is deleted.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from backup.emulator.core.wire import EPOCH

from .store import Transaction

LOOK = "look"
"""An item that costs as `download`: a request which only asks how something is."""


class BilledStore(Struct, frozen=True):
    """A vault (`service` is glacier) or a bucket (s3), which the account is billed for."""

    account: str
    service: str
    region: str
    name: str


def begin_storing(
    tx: Transaction,
    place: BilledStore,
    thing: str,
    kind: str,
    size: int,
    *,
    item: str = "storage",
    span: tuple[int, int] | None = None,
) -> None:
    """Record that a thing of that kind (`glacier`, or `s3:` and a class) is stored from now on, or in `span`.

    `item` is `storage`, or what is stored beside the archives: `copy` and `parts`.
    """
    start, end = (tx.now_ms, None) if span is None else span
    tx.db.execute(
        "INSERT INTO metered_storage (account_id, service, region, name, thing, kind, item, bytes, from_ms, "
        "until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (place.account, place.service, place.region, place.name, thing, kind, item, size, start, end),
    )


def end_storing(tx: Transaction, thing: str, at_ms: int | None = None) -> None:
    """Record that a thing is stored no longer, or only until `at_ms`; nothing happens if it has ended."""
    tx.db.execute(
        "UPDATE metered_storage SET until_ms = max(from_ms, ?) WHERE thing = ? AND coalesce(until_ms, ?) > ?",
        (tx.now_ms if at_ms is None else at_ms, thing, tx.now_ms + 1, tx.now_ms),
    )


def count(
    tx: Transaction, place: BilledStore, kind: str, item: str, *, requests: int = 1, size: int = 0
) -> None:
    """Count requests and bytes of this month.

    `item` is `upload`, `complete`, `download` (its bytes leave AWS), `LOOK`, or the tier of a retrieval.
    """
    month = f"{EPOCH + timedelta(milliseconds=tx.now_ms):%Y-%m}"
    tx.db.execute(
        "INSERT INTO metered_requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "requests = requests + excluded.requests, bytes = bytes + excluded.bytes",
        (place.account, place.service, place.region, place.name, month, kind, item, requests, size),
    )
