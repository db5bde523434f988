"""The emulator's whole state, read from a copy of its files while it runs, to compare before and after."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

CHANGES_BY_ITSELF = ("clock", "sqlite_sequence", "metered_requests")  # reads are counted, too


def everything_in(state: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables by table, and the names and sizes of all files."""
    with tempfile.TemporaryDirectory() as folder:
        for path in state.glob("emulator.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, folder)
        db = sqlite3.connect(Path(folder) / "emulator.sqlite")
        try:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found: dict[str, list[tuple[object, ...]]] = {
                table: db.execute(f"SELECT * FROM {table}").fetchall()
                for table in tables
                if table not in CHANGES_BY_ITSELF
            }
        finally:
            db.close()
    found["files"] = sorted((path.name, path.stat().st_size) for path in (state / "files").iterdir())
    return found
