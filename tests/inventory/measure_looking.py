"""Measure find, versions, diff on a made-up inventory: `python -m tests.inventory.measure_looking [ENTRIES]`.

Prints one JSON line: seconds and what memory grew by (KiB) for each, and whether SQLite sorts rows.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

from backup.inventory.content import archives, entries, entry_versions
from backup.inventory.content.snapshots import Snapshot, record_snapshot
from backup.inventory.questions import changes
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import driver, schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory, create_inventory
from backup.model import JobName, Owner, SnapshotId, VaultName
from tests.support.doubles import START
from tests.support.restores import peak

A_DIRECTORY = 100


def fill(tx: Transaction, count: int) -> tuple[Snapshot, Snapshot]:
    """A job of so many files; between its two snapshots one of a hundred changed."""
    vault = archives.get_or_create_vault(tx, VaultName("v"))
    job = runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)
    owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
    folders = {b"/srv/data/%05d" % number: number + 1 for number in range(count // A_DIRECTORY)}
    entries.add_directories(tx, job.number, folders)
    rows = [
        (n + 1, n // A_DIRECTORY + 1, b"file-%08d.dat" % n, 1, 0o644, owner, n, n, None,
         n.to_bytes(16, "big"), n.to_bytes(4, "little") * 4, 1, 2 if n % 100 == 0 else None)
        for n in range(count)
    ]  # fmt: skip
    again = [
        (count + n + 1, *row[1:7], row[7] + 1, None, (n + count).to_bytes(16, "big"), row[10], 2, None)
        for n, row in enumerate(rows) if row[12]
    ]  # fmt: skip
    insert_rows(tx, schema.entries, rows + again)
    made = [
        Snapshot(
            SnapshotId(f"{n:016x}"),
            job.name,
            job.number,
            n,
            None,
            START,
            START,
            "host",
            (b"/srv",),
            (),
            count,
            1,
        )
        for n in (1, 2)
    ]
    for snapshot in made:
        record_snapshot(tx, snapshot)
    return made[0], made[1]


def measured(act: Callable[[], Iterable[object]]) -> dict[str, float]:
    """Run it to its end."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # peak memory is what we have now
    before, started = peak(), time.monotonic()
    count = sum(1 for _ in act())
    return {"rows": count, "seconds": round(time.monotonic() - started, 2), "grew_kib": peak() - before}


def sorts(tx: Transaction, act: Callable[[], Iterable[object]]) -> bool:
    """Whether any of its queries makes SQLite sort."""
    asked: list[tuple[str, tuple[object, ...]]] = []
    real = driver.raw_rows

    def watched(tx: Transaction, sql: str, values: tuple[object, ...]) -> object:
        asked.append((sql, values))
        return real(tx, sql, values)

    vars(entries)["raw_rows"] = vars(entry_versions)["raw_rows"] = watched
    for _ in act():
        break
    vars(entries)["raw_rows"] = vars(entry_versions)["raw_rows"] = real
    plans = [
        str(tx.connection.execute("EXPLAIN QUERY PLAN " + sql, values).fetchall()) for sql, values in asked
    ]
    return any("TEMP B-TREE" in plan or "SCAN e" in plan for plan in plans)


def main() -> None:
    """Fill, look, tell."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        inventory: Inventory = create_inventory(
            f"sqlite:///{os.path.join(folder, 'i.sqlite')}",
            inventory_id=b"i" * 16,  # type: ignore[arg-type]
            signer_public=b"s" * 32,
            now=START,
            lock_directory=folder,
        )
        with inventory.writing() as tx:
            before, after = fill(tx, count)
        with inventory.reading() as tx:
            acts: dict[str, Callable[[], Iterable[object]]] = {
                "versions": lambda: entry_versions.versions_of(
                    tx, before.job_number, b"/srv/data/00001/file-00000100.dat"
                ),
                "diff": lambda: changes.differing(tx, before, after),
                "find": lambda: entry_versions.versions_called(tx, job=before.job_number, names="%7777%"),
            }
            told = {name: measured(act) | {"sorts": sorts(tx, act)} for name, act in acts.items()}
        inventory.close()
    sys.stdout.write(json.dumps({"entries": count, **told}) + "\n")


if __name__ == "__main__":
    main()
