"""A vault's own inventory: a snapshot made daily if something changed, and its output as JSON or CSV, byte
for byte.

Source: Developer Guide (vault-inventory, api-job-output-get); the exact JSON was recovered from the sizes
that real jobs reported. A snapshot stays as it is until the next one, whatever is uploaded or deleted
meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from backup.emulator.core.state.clock import DAY_MS, NEVER_MS
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import compact, date_s

OVERHEAD_BYTES = 32 * 1024  # counted by the service for every archive


def mark_changed(tx: Transaction, vault: int) -> None:
    """Mark a vault as changed since its last inventory."""
    tx.db.execute("UPDATE vaults SET changed_ms = ? WHERE id = ? AND changed_ms IS NULL", (tx.now_ms, vault))


_DUE = f"created_ms + ((changed_ms - created_ms) / {DAY_MS} + 1) * {DAY_MS}"  # the end of the vault's day


def make_due_inventories(tx: Transaction) -> None:
    """Make the daily inventory of every changed vault whose day is over, dated at the end of that day."""
    rows = tx.db.execute(
        f"SELECT id, {_DUE} AS due_ms FROM vaults WHERE changed_ms IS NOT NULL AND {_DUE} <= ?",  # noqa: S608
        (tx.now_ms,),
    ).fetchall()
    for row in rows:
        make_inventory(tx, row["id"], row["due_ms"])


def next_inventory_ms(tx: Transaction) -> int:
    """The time when the next daily inventory is due, if nothing changes until then."""
    row = tx.db.execute(f"SELECT min({_DUE}) FROM vaults WHERE changed_ms IS NOT NULL").fetchone()  # noqa: S608
    return NEVER_MS if row[0] is None else int(row[0])


def make_inventory(tx: Transaction, vault: int, made_ms: int) -> None:
    """Make the inventory of a vault as it is now."""
    tx.db.execute("DELETE FROM inventory_items WHERE vault = ?", (vault,))
    tx.db.execute(
        "INSERT INTO inventory_items (vault, archive, archive_id, description, created_ms, size, tree_hash) "
        "SELECT vault, id, archive_id, description, created_ms, size, tree_hash FROM archives "
        "WHERE vault = ? AND deleted_ms IS NULL",
        (vault,),
    )
    tx.db.execute(
        "UPDATE vaults SET changed_ms = NULL, inventory_ms = ?, (inventory_archives, inventory_bytes) = "
        "(SELECT count(*), coalesce(sum(size), 0) FROM inventory_items WHERE vault = vaults.id) WHERE id = ?",
        (made_ms, vault),
    )


def make_inventories(tx: Transaction, name: str = "") -> list[sqlite3.Row]:
    """Make the inventory of each vault that changed or never had one, of one name or of all; their rows."""
    rows = tx.db.execute(
        "SELECT * FROM vaults WHERE (changed_ms IS NOT NULL OR inventory_ms IS NULL) AND ? IN ('', name)",
        (name,),
    ).fetchall()
    for row in rows:
        make_inventory(tx, row["id"], tx.now_ms)
    return rows


def select_items(
    tx: Transaction, vault: int, *, start_ms: int | None, end_ms: int | None, first: int, limit: int | None
) -> tuple[list[sqlite3.Row], int | None]:
    """Archives of the snapshot created in [start, end), from number `first` on; and the number the next page
    needs.

    In order of creation; a None limit takes all.
    """
    rows = tx.db.execute(
        "SELECT * FROM inventory_items WHERE vault = ? AND archive >= ? AND created_ms >= ? AND created_ms "
        "< ? "
        "ORDER BY archive LIMIT ?",
        (
            vault,
            first,
            -(2**62) if start_ms is None else start_ms,
            2**62 if end_ms is None else end_ms,
            -1 if limit is None else limit + 1,
        ),
    ).fetchall()
    if limit is None or len(rows) <= limit:
        return rows, None
    return rows[:limit], int(rows[limit]["archive"])


def as_json(arn: str, made_ms: int, rows: Iterable[sqlite3.Row]) -> bytes:
    """The inventory as the service writes it: one line, this order of keys, dates without fractions."""
    archives = [
        {
            "ArchiveId": row["archive_id"],
            "ArchiveDescription": row["description"],
            "CreationDate": date_s(row["created_ms"]),
            "Size": row["size"],
            "SHA256TreeHash": row["tree_hash"],
        }
        for row in rows
    ]
    return compact({"VaultARN": arn, "InventoryDate": date_s(made_ms), "ArchiveList": archives})


def as_csv(rows: Iterable[sqlite3.Row]) -> bytes:
    """The inventory as CSV: a quote inside a field becomes backslash and quote, a backslash stays."""
    lines = ["ArchiveId,ArchiveDescription,CreationDate,Size,SHA256TreeHash"]
    lines += [
        f"{row['archive_id']},{_field(row['description'])},{date_s(row['created_ms'])},{row['size']},{row['tree_hash']}"
        for row in rows
    ]
    return "".join(line + "\r\n" for line in lines).encode()


def _field(text: str) -> str:
    if "," not in text and '"' not in text:
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
