"""Provisioned capacity: units that last a month and allow Expedited retrievals when capacity is short.

Source: Developer Guide (api-PurchaseProvisionedCapacity, downloading-an-archive-two-steps): two units an
account, three Expedited retrievals each five minutes for every unit.
"""

from __future__ import annotations

import calendar
import secrets
from datetime import timedelta

from backup.emulator.core.errors import MESSAGE_BY_CODE, ServiceError
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import EPOCH, Answer, date_ms, json_answer

from .call import Call

UNIT_LIMIT = 2
RETRIEVALS_PER_UNIT = 3
WINDOW_MS = 5 * 60 * 1000


def purchase_capacity(call: Call, tx: Transaction) -> Answer:
    """Buy a unit that begins now; 400 if there are two valid ones."""
    if _units(call, tx) >= UNIT_LIMIT:
        raise ServiceError(
            "LimitExceededException", f"An account can have at most {UNIT_LIMIT} provisioned capacity units."
        )
    capacity_id = secrets.token_urlsafe(18)
    tx.db.execute(
        "INSERT INTO capacity (capacity_id, account_id, region, start_ms, end_ms) VALUES (?, ?, ?, ?, ?)",
        (capacity_id, call.account, call.region, tx.now_ms, month_later(tx.now_ms)),
    )
    return Answer(201, {"x-amz-capacity-id": capacity_id})


def month_later(moment_ms: int) -> int:
    """The same day and time of the next month, or its last day where it is shorter."""
    start = EPOCH + timedelta(milliseconds=moment_ms)
    year, month = (start.year + 1, 1) if start.month == 12 else (start.year, start.month + 1)
    day = min(start.day, calendar.monthrange(year, month)[1])
    return (start.replace(year=year, month=month, day=day) - EPOCH) // timedelta(milliseconds=1)


def list_capacity(call: Call, tx: Transaction) -> Answer:
    """The valid units."""
    rows = tx.db.execute(
        "SELECT * FROM capacity WHERE account_id = ? AND region = ? AND end_ms > ? ORDER BY id",
        (call.account, call.region, tx.now_ms),
    ).fetchall()
    units = [
        {
            "CapacityId": row["capacity_id"],
            "ExpirationDate": date_ms(row["end_ms"]),
            "StartDate": date_ms(row["start_ms"]),
        }
        for row in rows
    ]
    return json_answer({"ProvisionedCapacityList": units})


def _units(call: Call, tx: Transaction) -> int:
    row = tx.db.execute(
        "SELECT count(*) FROM capacity WHERE account_id = ? AND region = ? AND end_ms > ?",
        (call.account, call.region, tx.now_ms),
    ).fetchone()
    return int(row[0])


def check_expedited(call: Call, tx: Transaction) -> None:
    """InsufficientCapacityException when capacity is short and no unit has room for one more."""
    if call.settings.expedited_capacity:
        return
    lately = tx.db.execute(
        "SELECT count(*) FROM jobs JOIN vaults ON vaults.id = jobs.vault "
        "WHERE account_id = ? AND region = ? AND tier = 'Expedited' AND jobs.created_ms > ?",
        (call.account, call.region, tx.now_ms - WINDOW_MS),
    ).fetchone()
    if lately[0] < RETRIEVALS_PER_UNIT * _units(call, tx):
        return
    code = "InsufficientCapacityException"
    raise ServiceError(code, MESSAGE_BY_CODE[code], status=call.settings.insufficient_capacity_status)
