"""The columns of a directory's files in the newest snapshot that tell whether a file is unchanged."""

from __future__ import annotations

import stat
from typing import Any

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import executed
from backup.model import EntryKind

_LOOKS = f"""
SELECT e.name, e.mode + {stat.S_IFREG}, e.size, e.mtime_ns, h.ctime_ns,
       CASE WHEN e.kind = {int(EntryKind.FILE)} AND e.extra IS NULL THEN h.inode END
FROM entries e LEFT JOIN hints h ON h.entry = e.number
WHERE e.directory = ? AND e.removed_in IS NULL
"""


def looks_in(
    tx: Transaction, directory: int, *, after: bytes | None, until: bytes | None, most: int
) -> list[tuple[Any, ...]]:
    """At most `most` rows of a directory by name, for names after `after`, up to `until` (None: all).

    The row of a plain file with its hints equals that of `ScannedDirectory.looks` if it is unchanged; no
    other entry's row does.
    """
    sql, values = _LOOKS, [directory]
    conditions: list[Any] = []
    for condition, name in ((" AND e.name > ?", after), (" AND e.name <= ?", until)):
        if name is not None:
            sql += condition
            conditions.append(name)
    cursor = executed(tx, sql + " ORDER BY e.name LIMIT ?", (*values, *conditions, most))
    try:
        return list(cursor.fetchall())
    finally:
        cursor.close()
