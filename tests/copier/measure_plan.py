"""Measure what a copy plans, first and when all is there, and what it then says:

    python -m tests.copier.measure_plan [ARCHIVES]

A chunk an archive, a hundred chunks an entry, one snapshot. Prints JSON lines: seconds of CPU, most memory
of the process in MiB, and how many archives would be sent, or are named; each is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

from backup.catalogs.context import BackupJob
from backup.copier.context import CopyChoice, CopyContext
from backup.copier.copy import copy
from backup.copier.report import CopyReport
from backup.copier.saying import Announced, to_say
from backup.inventory.content import archives, entries
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.packed import index_chunks
from backup.inventory.content.snapshots import list_snapshots
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.copy_tables import copies
from backup.inventory.store.database import Inventory, create_inventory, open_inventory
from backup.inventory.store.times import micros
from backup.model import MIB, InventoryId, JobName, Owner, PackKind, VaultName
from backup.source.filters import Filters
from backup.vault.directory import DirectoryVault
from tests.support.backups import server_keys
from tests.support.doubles import NO_LIMIT, START, ManualClock, Silent
from tests.support.restores import peak

CHUNKS = 100
A_WRITE = 100_000
JOB = JobName("job")


def fill(tx: Transaction, count: int) -> None:
    """So many stored archives of a chunk each, all in one snapshot."""
    vault = archives.get_or_create_vault(tx, VaultName("first"))
    domain = archives.get_or_create_domain(tx, b"d" * 16, vault, b"r" * 16, START)
    job = runs.get_or_create_job(tx, JOB, vault, b"j" * 16)
    owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
    entries.add_directories(tx, job.number, {b"/srv": 1})
    at = micros(START)
    for begin in range(0, count, A_WRITE):
        some = range(begin, min(begin + A_WRITE, count))
        insert_rows(tx, schema.archives, [
            (n, domain, None, int(PackKind.DATA), ArchiveState.STORED, n.to_bytes(16, "big"), b"h" * 64,
             2**28, b"t" * 32, f"{n:032x}", at, at, None, None)
            for n in some
        ])  # fmt: skip
        ids = {n: os.urandom(32) for n in some}
        insert_rows(tx, schema.chunks, [
            (n, int.from_bytes(ids[n][:8], "little", signed=True), ids[n], n, 0, 0, 2**16) for n in some
        ])  # fmt: skip
        insert_rows(tx, schema.entries, [
            (n + 1, 1, b"%08d" % n, 1, 0o644, owner, n, n, None, b"c" * 16,
             array("I", range(n, min(n + CHUNKS, count))).tobytes(), 1, None)
            for n in some[::CHUNKS]
        ])  # fmt: skip
        index_chunks(tx)
    insert_rows(tx, schema.snapshots, [
        ("s", job.number, 1, None, at, at, "host", b"\x90", b"\x90", 1, 1, *[None] * 7)
    ])  # fmt: skip


def place_there(tx: Transaction, count: int) -> None:
    """Record a stored copy of each archive."""
    vault = archives.get_or_create_vault(tx, VaultName("second"))
    domain = archives.get_or_create_domain(tx, b"e" * 16, vault, b"r" * 16, START)
    at = micros(START)
    for begin in range(0, count, A_WRITE):
        insert_rows(tx, copies, [
            (n, vault, domain, ArchiveState.STORED, at, at, None, None, f"{n:032x}", None, None, MIB, "")
            for n in range(begin, min(begin + A_WRITE, count))
        ])  # fmt: skip


def made(folder: Path, count: int) -> str:
    """An inventory of so many archives; its address."""
    url = f"sqlite:///{folder}/i.sqlite"
    inventory = create_inventory(
        url,
        inventory_id=InventoryId(b"inventory of 16b"),
        signer_public=b"s" * 32,
        now=START,
        lock_directory=str(folder),
    )
    with inventory.writing() as tx:
        fill(tx, count)
    inventory.close()
    return url


def context_in(inventory: Inventory, folder: Path) -> CopyContext:
    """The context of a copy into an empty vault in a folder, which is made."""
    clock = ManualClock(START)
    names = VaultName("first"), VaultName("second")
    first, second = (DirectoryVault(name, str(folder / name), clock) for name in names)
    second.create()
    return CopyContext(
        inventory=inventory,
        vault=second,
        source=first,
        clock=clock,
        progress=Silent(),
        spool=str(folder),
        folder=str(folder),
        host="host",
        program="nightvault",
        keys=server_keys(),
        sending=BackupJob(JOB, (), Filters(), MIB, MIB).sending,
        limit_on=lambda *_: NO_LIMIT,
    )


def plan(inventory: Inventory, folder: Path) -> CopyReport:
    """What a copy would send."""
    return copy(context_in(inventory, folder), JOB, CopyChoice(), only_plan=True)


def saying(inventory: Inventory, folder: Path) -> Announced:
    """What a copy says when all was sent."""
    context = context_in(inventory, folder)
    with inventory.reading() as tx:
        row = runs.find_job(tx, JOB)
        assert row is not None
        return to_say(tx, context, row, list_snapshots(tx), CopyChoice())


def main(count: int, url: str | None = None, what: str = "plan") -> None:
    if url is not None:
        folder = Path(url.removeprefix("sqlite:///")).parent
        inventory = open_inventory(url, lock_directory=str(folder))
        began = time.process_time()
        sent = plan(inventory, folder).archives if what == "plan" else len(saying(inventory, folder).names)
        seconds = round(time.process_time() - began, 1)
        print(json.dumps({"cpu": seconds, "mib": peak() // 1024, "archives": sent}), flush=True)
        return
    with tempfile.TemporaryDirectory() as name:
        url = made(Path(name), count)
        each = [sys.executable, "-m", "tests.copier.measure_plan", str(count), url]
        subprocess.run(each, check=True)
        inventory = open_inventory(url, lock_directory=name)
        with inventory.writing() as tx:
            place_there(tx, count)
        inventory.close()
        subprocess.run(each, check=True)
        (Path(name) / "second").rename(Path(name) / "planned")
        subprocess.run([*each, "say"], check=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, *sys.argv[2:])
