"""A vault's lock: in progress for a day with its policy in force, then gone, or locked for ever.

Source: Developer Guide (vault-lock, api-InitiateVaultLock, api-CompleteVaultLock, api-AbortVaultLock,
api-GetVaultLock). The day is one of the emulator's clock.
"""

from __future__ import annotations

import secrets
import sqlite3

from backup.emulator.core.errors import denied, invalid, not_found
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, date_ms, json_answer

from .access_policies import wanted_policy
from .call import Call, find_vault

WINDOW_MS = DAY_MS


def initiate_lock(call: Call, tx: Transaction) -> Answer:
    """Attach the policy and begin the day in which the lock may be tried, completed or given up."""
    vault = find_vault(call, tx)["id"]
    lock = find_lock(tx, vault)
    if lock is not None:
        raise denied(f"The vault lock of {call.arn} is already in the state {lock['state']}.")
    lock_id = secrets.token_urlsafe(18)
    tx.db.execute(
        "INSERT OR REPLACE INTO locks (vault, lock_id, policy, state, created_ms) VALUES (?, ?, ?, ?, ?)",
        (vault, lock_id, wanted_policy(call), "InProgress", tx.now_ms),
    )
    return Answer(201, {"x-amz-lock-id": lock_id})


def complete_lock(call: Call, tx: Transaction) -> Answer:
    """Lock for ever; repeated with the right id it succeeds again."""
    vault = find_vault(call, tx)["id"]
    lock = find_lock(tx, vault)
    if lock is None:
        raise not_found(f"No vault lock policy is set for: {call.arn}")
    if lock["lock_id"] != call.target:
        if lock["state"] == "Locked":
            raise denied(f"The vault lock of {call.arn} is already in the state Locked.")
        raise invalid(f"Invalid lock ID: {call.target}")
    tx.db.execute("UPDATE locks SET state = 'Locked' WHERE vault = ?", (vault,))
    return Answer(204)


def abort_lock(call: Call, tx: Transaction) -> Answer:
    """Abort an unfinished lock; no error without a lock, 403 for a finished one."""
    vault = find_vault(call, tx)["id"]
    lock = find_lock(tx, vault)
    if lock is not None and lock["state"] == "Locked":
        raise denied(f"The vault lock of {call.arn} is in the state Locked and cannot be aborted.")
    tx.db.execute("DELETE FROM locks WHERE vault = ?", (vault,))
    return Answer(204)


def get_lock(call: Call, tx: Transaction) -> Answer:
    """Policy, state and dates; 404 without a lock."""
    lock = find_lock(tx, find_vault(call, tx)["id"])
    if lock is None:
        raise not_found(f"No vault lock policy is set for: {call.arn}")
    locked = lock["state"] == "Locked"
    return json_answer(
        {
            "Policy": lock["policy"],
            "State": lock["state"],
            "CreationDate": date_ms(lock["created_ms"]),
            "ExpirationDate": None if locked else date_ms(lock["created_ms"] + WINDOW_MS),
        }
    )


def find_lock(tx: Transaction, vault: int) -> sqlite3.Row | None:
    """The lock that is in force now; None without one, or when its day has passed."""
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT * FROM locks WHERE vault = ? AND (state = 'Locked' OR created_ms > ?)",
        (vault, tx.now_ms - WINDOW_MS),
    ).fetchone()
    return row
