"""Measure what is needed of a made-up inventory: `python -m tests.inventory.measure_need [ENTRIES]`.

Ten chunks an entry, half of the entries closed. Prints JSON lines: seconds, KiB that memory grew by, and
how many archives nothing needs; once with all archives stored, once with all unconfirmed, as after a rebuild.
Then the same of the whole decision of a prune: how many archives it condemns, and then deletes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from array import array
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from backup.catalogs.context import BackupJob
from backup.inventory.content import archives, entries, lost, need
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.packed import index_chunks
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory, create_inventory
from backup.inventory.store.times import micros
from backup.model import MIB, InventoryId, JobName, Owner, PackKind, VaultName
from backup.pruner.context import PruneContext
from backup.pruner.decide import Decider
from backup.source.filters import Filters
from backup.transfer.retrievals.listing import newest_kept_head
from backup.vault.directory import DirectoryVault
from tests.support.backups import server_keys
from tests.support.doubles import START, ManualClock, Silent
from tests.support.restores import peak

DAY = timedelta(days=1)
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
    at = micros(START)
    packs = [
        (n, domain, None, int(PackKind.DATA), ArchiveState.STORED, n.to_bytes(16, "big"), b"h", 2**28, b"t",
         str(n), at, at, None, None)
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
        index_chunks(tx)


def measure(inventory: Inventory) -> dict[str, object]:
    """Seconds and memory for what two sets of snapshots need, as `forget` asks it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = peak(), time.monotonic()
    with inventory.reading() as tx:
        uses = [list(need.archive_uses(tx, need.needed_chunks(tx, kept))) for kept in ({1: [1, 2]}, {1: [2]})]
    dead = [sum(use.is_dead for use in some) for some in uses]
    return {"seconds": round(time.monotonic() - began, 1), "grew": peak() - before, "dead": dead}


def list_everything(tx: Transaction) -> None:
    """A list of the vault that shows all archives, and one snapshot, which the closed entries are not in."""
    at = micros(START + DAY)
    insert_rows(tx, schema.listings, [(1, 1, "token", "list", "kept", at, at)])
    tx.connection.execute("""INSERT INTO listed_archives (listing, archive_id, description, size, created_at)
                          SELECT 1, archive_id, '', size, stored_at FROM archives""")
    at = micros(START)
    insert_rows(tx, schema.snapshots, [
        ("s", 1, 2, None, at, at, "host", b"", b"", 1, 1, *[None] * 7)
    ])  # fmt: skip


def measure_planning(inventory: Inventory, folder: str) -> dict[str, object]:
    """Seconds and memory for a prune's decision, before anything is condemned and when it can be deleted."""
    clock = ManualClock(START + 10 * DAY)
    vault = DirectoryVault(VaultName("v"), folder, clock)
    context = PruneContext(
        inventory=inventory,
        vault=vault,
        clock=clock,
        progress=Silent(),
        spool=folder,
        host="host",
        program="nightvault",
        keys=server_keys(),
        sending=BackupJob(JobName("job"), (), Filters(), MIB, MIB).sending,
        deleting=vault,
    )
    told: dict[str, object] = {}
    for step in ("condemned", "deleted"):
        Path("/proc/self/clear_refs").write_text("5")
        before, began = peak(), time.monotonic()
        with inventory.reading() as tx:
            head = newest_kept_head(tx, vault)
            assert head is not None
            plan = Decider(context, Decimal(0)).decide(tx, head, has_clock=False).plan
        seconds = round(time.monotonic() - began, 1)
        found = plan.condemn if step == "condemned" else plan.delete
        told[step] = {"archives": len(found), "seconds": seconds, "grew": peak() - before}
        with inventory.writing() as tx:
            at = micros(START)
            insert_rows(tx, schema.condemnations, [(archive.number, 1, at) for archive in plan.condemn])
            lost.mark(tx, [archive.number for archive in plan.condemn], ArchiveState.CONDEMNED)
    return told


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
            tx.connection.execute("UPDATE archives SET state = ?", (str(ArchiveState.UNCONFIRMED),))
        print(json.dumps(measure(made)), flush=True)
        with made.writing() as tx:
            tx.connection.execute("UPDATE archives SET state = ?", (str(ArchiveState.STORED),))
            list_everything(tx)
        print(json.dumps(measure_planning(made, folder)))
        made.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
