"""Rows of objects and uploads removed, with their files, and no longer billed."""

from __future__ import annotations

from collections.abc import Sequence

from backup.emulator.core.state.meter import end_storing
from backup.emulator.core.state.store import Transaction


def remove_objects(tx: Transaction, ids: Sequence[int]) -> None:
    """Delete objects with their pieces' files."""
    for number in ids:
        rows = tx.db.execute("SELECT file FROM object_pieces WHERE object = ?", (number,)).fetchall()
        tx.discarded += [row["file"] for row in rows]
        tx.db.execute("DELETE FROM object_pieces WHERE object = ?", (number,))
        tx.db.execute("DELETE FROM objects WHERE id = ?", (number,))
        end_storing(tx, f"object {number}")
        end_storing(tx, f"copy {number}")


def remove_upload(tx: Transaction, upload: int) -> None:
    """Delete an upload with its parts' files."""
    rows = tx.db.execute("SELECT number, file FROM object_parts WHERE upload = ?", (upload,)).fetchall()
    tx.discarded += [row["file"] for row in rows]
    for row in rows:
        end_storing(tx, f"part {upload}/{row['number']}")
    tx.db.execute("DELETE FROM object_parts WHERE upload = ?", (upload,))
    tx.db.execute("DELETE FROM object_uploads WHERE id = ?", (upload,))
