"""Inventories as after years of nights, made of rows: what pages and queries are measured with.

    seeded(path, entries=1_000_000, snapshots=1_000)

One job "web" has nearly everything, a second one "db" a few entries. A hundredth of the entries changes each
night by turns; a folder /srv/huge holds a tenth of all names, /srv/data the others, a hundred in a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backup.inventory.content import archives, entries
from backup.inventory.content.packed import index_chunks
from backup.inventory.content.snapshots import Snapshot, record_snapshot
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory, create_inventory
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import EntryKind, JobName, Owner, Problem, ProblemKind, SnapshotId, VaultName
from tests.support.backups import INVENTORY_ID

FIRST = datetime.fromisoformat("2024-01-01T01:00:00+00:00")
HUGE = b"/srv/huge"
_A_FOLDER = 100
_CHUNKS_AN_ARCHIVE = 2_000
_SIZE = 64 * 1024**2


def seeded(folder: Path, *, entries: int, snapshots: int) -> Inventory:
    """A new inventory in a folder, the last of whose nights was `snapshots` days after `FIRST`."""
    inventory = create_inventory(
        f"sqlite:///{folder / 'inventory.sqlite'}",
        inventory_id=INVENTORY_ID,
        signer_public=b"s" * 32,
        now=FIRST,
        lock_directory=str(folder),
    )
    with inventory.writing() as tx:
        _fill(tx, entries, snapshots)
    return inventory


def snapshot_id(job: int, number: int) -> SnapshotId:
    """The id of a job's snapshot."""
    return SnapshotId(f"{job:04x}{number:012x}"[::-1])


def _fill(tx: Transaction, count: int, nights: int) -> None:
    vault = archives.get_or_create_vault(tx, VaultName("cold"))
    jobs = [
        runs.get_or_create_job(tx, JobName(name), vault, name.encode().ljust(16)) for name in ("web", "db")
    ]
    owner = entries.add_owner(tx, Owner(0, 0, "root", "root"))
    domain = archives.get_or_create_domain(tx, b"d" * 16, vault, b"r" * 16, FIRST)
    places = _folders(count)
    insert_rows(tx, schema.directories, [(n, jobs[0].number, path) for n, path in places.items()])
    insert_rows(tx, schema.directories, [(count + 1, jobs[1].number, b"/db")])
    versions = list(_versions(count, nights, owner))
    insert_rows(tx, schema.entries, versions)
    insert_rows(
        tx,
        schema.entries,
        [_directory(versions[-1][0], n, path, places, owner) for n, path in _parents(places)],
    )
    numbers = len(versions)
    last = numbers + len(places) + 10
    dump = (last, count + 1, b"shop.dump", 1, 0o600, owner, 1, 999, None, b"c" * 16, b"\1\0\0\0", 1, None)
    insert_rows(tx, schema.entries, [dump])
    _archives(tx, domain, count, nights)
    for job in jobs:
        _nights(tx, job, count, nights)


def _folders(count: int) -> dict[int, bytes]:
    """Directories by number: the huge one, the others, and those above them."""
    found = {1: HUGE, 2: b"/", 3: b"/srv", 4: b"/srv/data"}
    for number in range(-(-count * 9 // 10 // _A_FOLDER)):
        found[number + 5] = b"/srv/data/%05d" % number
    return found


def _parents(places: dict[int, bytes]) -> list[tuple[int, bytes]]:
    return [(n, path) for n, path in places.items() if path != b"/"]


def _directory(above: int, n: int, path: bytes, places: dict[int, bytes], owner: int) -> tuple[Any, ...]:
    parent, _, name = path.rpartition(b"/")
    numbers = {b"": 2, b"/srv": 3, b"/srv/data": 4}
    return (above + n, numbers[parent], name, 2, 0o755, owner, n, 0, None, None, None, 1, None)


def _versions(count: int, nights: int, owner: int) -> Iterator[tuple[Any, ...]]:
    """Of each name one version, and of a third of them two: the first ends where the second begins."""
    names = count * 3 // 4
    number = 0
    for n in range(names):
        folder = 1 if n % 10 == 0 else 5 + (n - n // 10 - 1) // _A_FOLDER
        name = b"%s-%08d.%s" % (
            (b"Report", b"image", b"mail", b"log")[n % 4],
            n,
            (b"pdf", b"jpg", b"eml", b"txt")[n % 4],
        )
        changed = 2 + n // 3 % max(nights - 1, 1) if n % 3 == 0 else None
        number += 1
        yield _version(number, folder, name, n, owner, 1, changed)
        if changed is not None:
            number += 1
            yield _version(number, folder, name, n + 1, owner, changed, None)


def _version(
    number: int, folder: int, name: bytes, n: int, owner: int, added: int, removed: int | None
) -> tuple[Any, ...]:
    kind = int(EntryKind.FILE)
    content, chunks = number.to_bytes(16, "big"), number.to_bytes(4, "little")
    return (
        number,
        folder,
        name,
        kind,
        0o644,
        owner,
        n * 10**9,
        n % 9999,
        None,
        content,
        chunks,
        added,
        removed,
    )


def _archives(tx: Transaction, domain: int, count: int, nights: int) -> None:
    packs = -(-count // _CHUNKS_AN_ARCHIVE)
    stored: list[tuple[Any, ...]] = []
    for n in range(1, packs + nights + 1):
        kind = 1 if n <= packs else 2
        at = micros(FIRST + timedelta(days=n % max(nights, 1)))
        run = 1 + n % max(nights, 1)
        pack = n.to_bytes(16, "big")
        size = _SIZE if kind == 1 else 100_000
        stored.append(
            (n, domain, run, kind, "stored", pack, b"", size, b"t" * 32, f"a{n}", at, at, None, None)
        )
    # The runs that these refer to come later in this transaction.
    tx.connection.execute("PRAGMA defer_foreign_keys = ON")
    insert_rows(tx, schema.archives, stored)
    frames = [
        (n, f, f * 4_000_000, 4_000_000, 8_000_000, 0, b"d" * 16)
        for n in range(1, packs + 1)
        for f in range(16)
    ]
    insert_rows(tx, schema.frames, frames)
    chunks = [
        (
            n,
            n * 7919 % 2**62,
            n.to_bytes(32, "big"),
            1 + (n - 1) // _CHUNKS_AN_ARCHIVE,
            n % 16,
            0,
            n % 9999 + 1,
        )
        for n in range(1, count + 1)
    ]
    insert_rows(tx, schema.chunks, chunks)
    index_chunks(tx)


def _nights(tx: Transaction, job: runs.JobRow, count: int, nights: int) -> None:
    """A run and a snapshot for each night; each tenth has a problem, each twentieth backup fails."""
    for n in range(1, nights + 1):
        began = FIRST + timedelta(days=n - 1, minutes=job.number)
        run = runs.open_backup(tx, job, began)
        problem = Problem(b"/srv/data/%05d/locked" % n, ProblemKind.UNREADABLE, "permission denied")
        problems = (problem,) if n % 10 == 0 else ()
        outcome = Outcome.PARTIAL if problems else Outcome.DONE
        report = {
            "files_read": count // 100 + n % 50,
            "bytes_read": count * 100,
            "bytes_new": count * 50,
            "bytes_uploaded": count * 40,
            "problems": len(problems),
        }
        ended = began + timedelta(minutes=30)
        runs.finish_run(tx, run.number, outcome, report, ended)
        record_snapshot(
            tx,
            Snapshot(
                snapshot_id(job.number, n), job.name, job.number, n, run.number, began, ended, "server",
                (b"/srv",), problems, count * 3 // 4, count * 5_000 + n,
            ),
        )  # fmt: skip
