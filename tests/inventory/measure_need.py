"""Measure what is needed of a made-up inventory: `python -m tests.inventory.measure_need [ENTRIES]`.

Ten chunks an entry, half of the entries closed. Prints JSON lines: seconds, KiB that memory grew by, and
how many archives nothing needs; once with all archives stored, once with all unconfirmed, as after a rebuild.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from array import array
from pathlib import Path

from backup.inventory import archives, driver, entries, need, runs, schema
from backup.inventory.archives import ArchiveState
from backup.inventory.bulk import insert_rows
from backup.inventory.database import Inventory, Transaction, create_inventory
from backup.model import InventoryId, JobName, Owner, PackKind, VaultName
from tests.support.doubles import START
from tests.support.restoring import peak

CHUNKS = 10
A_PACK = 2_000
A_WRITE = 100_000


def fill(tx: Transaction, count: int) -> None:
    """So many entries of ten chunks, each chunk stored once; the first half of the entries is closed."""
    vault = archives.get_or_create_vault(tx, VaultName("v"))
    domain = archives.get_or_create_domain(tx, b"d" * 16, vault, b"r" * 16, START)
    job = runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)
    owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
    entries.add_directories(tx, job.number, {b"/srv": 1})
    at = schema.micros(START)
    packs = [
        (n, domain, None, int(PackKind.DATA), ArchiveState.STORED, n.to_bytes(16, "big"), b"h", 2**28, b"t",
         str(n), at, at)
        for n in range(count * CHUNKS // A_PACK + 1)
    ]  # fmt: skip
    insert_rows(tx, schema.archives, packs)
    for begin in range(0, count, A_WRITE):
        some = range(begin, begin + A_WRITE)
        insert_rows(tx, schema.entries, [
            (n + 1, 1, b"%08d" % n, 1, 0o644, owner, n, n, None, b"c" * 16,
             array("I", range(n * CHUNKS, n * CHUNKS + CHUNKS)).tobytes(), 1, 2 if n < count // 2 else None)
            for n in some
        ])  # fmt: skip
        for lot in range(CHUNKS):
            numbers = range(
                (begin + lot * A_WRITE // CHUNKS) * CHUNKS, (begin + (lot + 1) * A_WRITE // CHUNKS) * CHUNKS
            )
            ids = {n: os.urandom(32) for n in numbers}
            insert_rows(tx, schema.chunks, [
                (n, int.from_bytes(ids[n][:8], "little", signed=True), ids[n], n // A_PACK, 0, 0, 2**16)
                for n in numbers
            ])  # fmt: skip


def measure(inventory: Inventory) -> dict[str, object]:
    """Seconds and memory for what two sets of snapshots need, as `forget` asks it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = peak(), time.monotonic()
    with inventory.reading() as tx:
        uses = [list(need.archive_uses(tx, need.needed_chunks(tx, kept))) for kept in ({1: [1, 2]}, {1: [2]})]
    dead = [sum(one.is_dead for one in some) for some in uses]
    return {"seconds": round(time.monotonic() - began, 1), "grew": peak() - before, "dead": dead}


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = create_inventory(
            f"sqlite:///{folder}/i.sqlite",
            inventory_id=InventoryId(b"inventory of 16b"),
            signer_public=b"s" * 32,
            now=START,
            lock_directory=folder,
        )
        with made.writing() as tx:
            fill(tx, count)
        print(json.dumps(measure(made)), flush=True)
        with made.writing() as tx:
            tx.exec_driver_sql(
                driver.sql_of(tx, "UPDATE archives SET state = {m}"), (str(ArchiveState.UNCONFIRMED),)
            )
        print(json.dumps(measure(made)))
        made.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
