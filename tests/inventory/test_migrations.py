"""What an older nightvault left in its inventory is all there after the upgrade, and found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.inventory.content import packed
from backup.inventory.store import database, invariants
from backup.inventory.store.connections import Connections, Transaction
from backup.inventory.store.database import open_inventory
from backup.inventory.store.driver import insert_tuples
from backup.inventory.store.migrating import upgrade

pytestmark = pytest.mark.usefixtures("real_migrations")

NUMBERS = (0, 1, 2, 2**20 - 1, 2**20, 3 * 2**20 + 5)
IDS = {number: os.urandom(32) for number in NUMBERS}
STAGED = [
    (number, 7, 1, b"name", 1, 0o644, 1, -5, 2**40, None, b"c" * 16, b"\1\0\0\0", 2**62, 3, 0)
    for number in range(1, 4)
]
OF_STAGED = (
    "number", "run", "directory", "name", "kind", "mode", "owner", "mtime_ns", "size", "extra", "content_id",
    "chunks", "inode", "ctime_ns", "is_mount",
)  # fmt: skip


def filled_as_of(version: str, connections: Connections) -> None:
    """An inventory of that schema, with chunks and with a run that waits to be completed."""
    with connections.transaction(writes=True) as tx:
        upgrade(tx, version)
        for sql in (
            "INSERT INTO about VALUES (x'01', x'02', NULL, 3)",
            "INSERT INTO vaults (number, name) VALUES (1, 'v')",
            "INSERT INTO domains VALUES (1, x'01', 1, x'', 1)",
            """INSERT INTO archives (number, domain, kind, state, pack_id, header, size, tree_hash,
               archive_id, submitted_at) VALUES (1, 1, 1, 'stored', x'05', x'01', 9, zeroblob(32), 'a', 1)""",
            "INSERT INTO frames VALUES (1, 0, 0, 9, 100, 0, zeroblob(16))",
            "INSERT INTO jobs VALUES (1, x'01', 'j', 1, 1, 1)",
            "INSERT INTO runs (number, kind, job, outcome, started_at) VALUES (7, 'backup', 1, 'running', 1)",
            "INSERT INTO directories VALUES (1, 1, x'2f')",
        ):
            tx.connection.execute(sql)
        chunks = [(number, packed.chunk_prefix(id_), id_, 1, 0, 0, 1) for number, id_ in IDS.items()]
        names = ("number", "prefix", "id", "archive", "frame", "offset", "length")
        insert_tuples(tx, "chunks", names, chunks)
        insert_tuples(tx, "staged_entries", OF_STAGED, STAGED)


def test_chunks_are_found_and_staged_entries_kept(tmp_path: Path) -> None:
    connections = database.connections_to(f"{tmp_path}/inventory.sqlite")
    filled_as_of("0012", connections)
    connections.close()
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.sqlite", lock_directory=str(tmp_path))
    with inventory.reading() as tx:
        found = packed.known_chunks(tx, 1, 7, list(IDS.values()))
        assert {chunk: known.number for chunk, known in found.items()} == {id_: n for n, id_ in IDS.items()}
        assert rows_of(tx, f"SELECT {', '.join(OF_STAGED)} FROM staged_entries ORDER BY number") == STAGED
        assert not rows_of(tx, "SELECT 1 FROM sqlite_master WHERE name = 'ix_chunks_prefix'")
        (law,) = (invariant for invariant in invariants.INVARIANTS if invariant.name == "prefixes")
        assert invariants.violations(tx, law) is None
    inventory.close()


def rows_of(tx: Transaction, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in tx.connection.execute(sql)]
