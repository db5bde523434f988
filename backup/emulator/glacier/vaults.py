"""The four vault operations: create, describe, list, delete."""

from __future__ import annotations

import re
import sqlite3

from backup.emulator.core.errors import ServiceError, invalid
from backup.emulator.core.state.schema import TABLES_OF_VAULT
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, date_ms, json_answer, vault_arn

from .call import Call, find_vault
from .inventories import OVERHEAD_BYTES
from .jobs import forget_jobs
from .uploads import forget_uploads

VAULT_LIMIT = 1000
PAGE = 10
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def create_vault(call: Call, tx: Transaction) -> Answer:
    """Create a vault; 201 whether or not the vault was there before."""
    if not _NAME.fullmatch(call.vault):
        raise invalid(f"Invalid vault name: {call.arn}")
    owned = tx.db.execute(
        "SELECT count(*), total(name = ?) FROM vaults WHERE account_id = ? AND region = ?",
        (call.vault, call.account, call.region),
    ).fetchone()
    if owned[0] >= VAULT_LIMIT and not owned[1]:
        raise ServiceError("LimitExceededException", f"The account has {VAULT_LIMIT} vaults, the limit.")
    tx.db.execute(
        "INSERT OR IGNORE INTO vaults (account_id, region, name, created_ms) VALUES (?, ?, ?, ?)",
        (call.account, call.region, call.vault, tx.now_ms),
    )
    return Answer(201, {"Location": call.location})


def describe_vault(call: Call, tx: Transaction) -> Answer:
    """The vault with the counts of its last inventory."""
    return json_answer(_described(find_vault(call, tx)))


def list_vaults(call: Call, tx: Transaction) -> Answer:
    """The vaults by name in ASCII order; the marker is the ARN of the last vault seen, exclusive."""
    limit = call.limit(PAGE)
    rows = tx.db.execute(
        "SELECT * FROM vaults WHERE account_id = ? AND region = ? AND name > ? ORDER BY name LIMIT ?",
        (call.account, call.region, _after(call), limit + 1),
    ).fetchall()
    page = [_described(row) for row in rows[:limit]]
    marker = page[-1]["VaultARN"] if len(rows) > limit else None
    return json_answer({"Marker": marker, "VaultList": page})


def _after(call: Call) -> str:
    marker = call.query.get("marker", "")
    prefix = vault_arn(call.account, call.region, "")
    if marker and not marker.startswith(prefix):
        raise invalid(f"Invalid marker: {marker}")
    return marker.removeprefix(prefix)


def _described(row: sqlite3.Row) -> dict[str, object]:
    inventory_ms = row["inventory_ms"]
    return {
        "CreationDate": date_ms(row["created_ms"]),
        "LastInventoryDate": None if inventory_ms is None else date_ms(inventory_ms),
        "NumberOfArchives": row["inventory_archives"],
        "SizeInBytes": row["inventory_bytes"] + OVERHEAD_BYTES * row["inventory_archives"],
        "VaultARN": vault_arn(row["account_id"], row["region"], row["name"]),
        "VaultName": row["name"],
    }


def delete_vault(call: Call, tx: Transaction) -> Answer:
    """Delete a vault: 204 if the last inventory showed no archive and nothing was written since, or if there
    is no such vault.
    """
    row = tx.db.execute(
        "SELECT * FROM vaults WHERE account_id = ? AND region = ? AND name = ?",
        (call.account, call.region, call.vault),
    ).fetchone()
    if row is None:
        return Answer(204)
    if row["inventory_archives"] or row["changed_ms"] is not None:
        raise invalid(f"Vault not empty or recently written to: {call.arn}")
    forget_uploads(tx, row["id"])
    forget_jobs(tx, row["id"])
    for table in TABLES_OF_VAULT:
        tx.db.execute(f"DELETE FROM {table} WHERE vault = ?", (row["id"],))  # noqa: S608
    tx.db.execute("DELETE FROM vaults WHERE id = ?", (row["id"],))
    return Answer(204)
