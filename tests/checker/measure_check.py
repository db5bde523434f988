"""Measure checks on a made-up inventory: `python -m tests.checker.measure_check [ENTRIES] [ARCHIVES]`.

Prints one JSON line: seconds and the peak of memory (KiB) of the laws, of a comparison, and of what is
affected when one archive of a hundred is gone. Each file has one chunk.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from backup.checker.check import compare_with_vault
from backup.checker.context import CheckContext
from backup.checker.invariants import check_invariants
from backup.format.keys import ChunkSecret
from backup.format.naming import content_id
from backup.format.pack import describe
from backup.inventory.content import archives, entries, packed
from backup.inventory.content.snapshots import Snapshot, record_snapshot
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import create_inventory, open_inventory
from backup.inventory.store.times import micros
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    InventoryId,
    JobName,
    ListedArchive,
    Listing,
    ListingId,
    Owner,
    PackId,
    PackKind,
    SnapshotId,
    TreeHash,
    VaultName,
)
from backup.vault.directory import DirectoryVault
from tests.support.doubles import START, FaultyVault, ManualClock, Silent
from tests.support.restores import peak

SECRET = ChunkSecret(b"c" * 32)
OURS = InventoryId(b"i" * 16)
A_DIRECTORY, LENGTH = 100, 1000
SIZE = 10**9


def fill(tx: Transaction, files: int, packs: int) -> None:
    """A job of so many files in so many archives."""
    vault = archives.get_or_create_vault(tx, VaultName("disk"))
    domain = archives.get_or_create_domain(tx, b"d" * 16, vault, b"r" * 16, START)
    job = runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)
    owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
    entries.add_directories(tx, job.number, {b"/srv/%05d" % n: n + 1 for n in range(files // A_DIRECTORY)})
    each = files // packs
    at = micros(START)
    columns = ("number", "domain", "kind", "state", "pack_id", "header", "size", "tree_hash", "archive_id",
               "submitted_at", "stored_at")  # fmt: skip
    rows = [
        (
            n + 1,
            domain,
            1,
            "stored",
            n.to_bytes(16, "big"),
            b"",
            SIZE,
            b"t" * 32,
            f"id{n}",
            at,
            at,
        )
        for n in range(packs)
    ]
    insert_rows(tx, schema.archives, rows, columns)
    ids = [n.to_bytes(8, "little") * 4 for n in range(files)]
    insert_rows(
        tx, schema.frames,
        [(p + 1, f, f * 100 * LENGTH, 100 * LENGTH, 100 * LENGTH, 0, b"g" * 16)
         for p in range(packs) for f in range(each // 100 + 1)],
    )  # fmt: skip
    insert_rows(
        tx, schema.chunks,
        [(n + 1, packed.chunk_prefix(ids[n]), ids[n], min(n // each, packs - 1) + 1,
          n % each // 100, n % 100 * LENGTH, LENGTH) for n in range(files)],
    )  # fmt: skip
    packed.index_chunks(tx)
    insert_rows(
        tx, schema.entries,
        [(n + 1, n // A_DIRECTORY + 1, b"file-%08d" % n, 1, 0o644, owner, n, LENGTH, None,
          content_id(SECRET.content_key, [ids[n]], [LENGTH], b""), (n + 1).to_bytes(4, "little"), 1, None)
         for n in range(files)],
    )  # fmt: skip
    tx.connection.execute(f"UPDATE counters SET next = {files + packs + 2}")
    tx.connection.execute("UPDATE jobs SET next_snapshot = 2")
    one = Snapshot(
        SnapshotId("0" * 16), job.name, job.number, 1, None, START, START, "h", (b"/srv",), (), files, 1
    )
    record_snapshot(tx, one)


class _Listed(FaultyVault):
    """A vault whose list lacks one archive of a hundred."""

    def __init__(self, vault: DirectoryVault, archives_made: int, clock: ManualClock) -> None:
        super().__init__(vault)
        self._made, self._clock = archives_made, clock

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        lines = [_line(n) for n in range(self._made) if n % 100]
        return Listing(self._clock.now(), lines)


def _line(n: int) -> ListedArchive:
    label = ArchiveLabel(PackKind.DATA, PackId(n.to_bytes(16, "big")), OURS)
    return ListedArchive(ArchiveId(f"id{n}"), describe(label), label, SIZE, TreeHash(b"t" * 32), START)


def make(folder: str, files: int, packs: int) -> None:
    """The inventory, made in a process of its own, so that its memory does not count."""
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    inventory = create_inventory(
        f"sqlite:///{folder}/inventory.sqlite",
        inventory_id=OURS,
        signer_public=b"s" * 32,
        now=START,
        lock_directory=folder,
    )
    with inventory.writing() as tx:
        fill(tx, files, packs)
    inventory.close()
    os._exit(0)


def main() -> None:
    """Fill, then check."""
    files, packs = (int(word) for word in [*sys.argv[1:], "1000000", "1000"][:2])
    told: dict[str, object] = {"files": files, "archives": packs}
    with tempfile.TemporaryDirectory() as folder:
        clock = ManualClock()
        vault = DirectoryVault(VaultName("disk"), str(Path(folder) / "vault"), clock)
        vault.create()
        make(folder, files, packs)
        inventory = open_inventory(f"sqlite:///{folder}/inventory.sqlite", lock_directory=folder)
        clock.sleep(86400 * 2)
        before = peak()
        began = time.monotonic()
        report = check_invariants(inventory, SECRET.content_key, clock, Silent())
        told["laws"] = {"seconds": round(time.monotonic() - began, 1), "findings": len(report.findings)}
        began = time.monotonic()
        world = CheckContext(
            inventory=inventory,
            vault=_Listed(vault, packs, clock),
            clock=clock,
            progress=Silent(),
            secret=SECRET,
        )
        found = compare_with_vault(world)
        told["compare"] = {
            "seconds": round(time.monotonic() - began, 1),
            "missing": len(found.findings),
            "affected": found.affected.files,
        }
        told["peak_before"], told["peak"] = before, peak()
        inventory.close()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
