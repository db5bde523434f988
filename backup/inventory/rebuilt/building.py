"""Builds a new inventory in a file beside the final one: filled in one go, synced, then renamed.

    with building(url) as builder:
        builder.entries(rows)  ...
        builder.finish(inventory_id, signer_public, ...)

A process that dies leaves `<file>.building`, which the next one deletes. Nothing is synced or journaled
on the way, since nothing of it counts before the final rename: that is what makes it fast.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table

from backup.errors import InventoryDamagedError, NightvaultError, SpoolError, UsageError
from backup.files import sync_directory
from backup.format.catalog import Record, VerifiedRecord
from backup.inventory.content import identities, need, pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.mounts import mark_mount_points
from backup.inventory.content.packed import index_chunks, insert_missing_chunks
from backup.inventory.questions import compared
from backup.inventory.rebuilt.bulk import insert_rows, store_again
from backup.inventory.records import amendments
from backup.inventory.records.verified import READ_COLUMNS, rows_of
from backup.inventory.store import invariants, schema, stranger_tables
from backup.inventory.store.connections import Connections, Transaction
from backup.inventory.store.database import mark, migrate, sqlite_path
from backup.inventory.store.database_errors import our_errors
from backup.inventory.store.driver import (
    changed,
    insert_row,
    number_of,
    numerals,
    quoted,
    raw_rows,
    row_of,
    run_many,
    value_of,
)
from backup.inventory.store.times import micros
from backup.model import ChunkRow, FrameRow, InventoryId, ListedArchive, VaultName

_COUNTED: Final = ("entries", "chunks", "directories", "owners", "archives")
_ROWS_A_BATCH: Final = 20_000
_TOO_LARGE: Final = 2**63
_AS_STORED: Final = f"""l.size = a.size AND (l.tree_hash IS NULL OR l.tree_hash = a.tree_hash)
AND NOT {compared.shows_another("listed o ON")}"""
_LISTED: Final = """CREATE TEMP TABLE IF NOT EXISTS listed (
    archive_id TEXT PRIMARY KEY, size, tree_hash, version, created_at)"""
_NUMBERS_A_QUERY: Final = 500
_TOKEN: Final = READ_COLUMNS.index("token")
SKIPPED: Final = 4096  # numbers that a catalog withheld by the vault may have used
_ENTRY: Final = (
    "number", "directory", "name", "kind", "mode", "owner", "mtime_ns", "size", "extra", "content_id",
    "chunks", "added_in", "removed_in",
)  # fmt: skip
NUMBER, DIRECTORY, CHUNKS, ADDED, REMOVED = map(
    _ENTRY.index, ("number", "directory", "chunks", "added_in", "removed_in")
)
"""Where these are in a row of `Builder.entries`."""


class Builder:
    """The tables of an inventory being built. Rows are tuples in the order of the tables' columns."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._directories: list[tuple[int, int, bytes]] = []

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]], columns: Sequence[str] = ()) -> None:
        """Insert rows."""
        insert_rows(self._tx, table, rows, columns)

    def insert_new(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows whose key is not there yet; existing ones stay as they are."""
        insert_rows(self._tx, table, rows, only_new=True)

    def entries(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert versions of entries, in the order of a catalog's record; returns how many were new."""
        return insert_rows(self._tx, schema.entries, rows, _ENTRY, only_new=True)

    def directories_of(self, job: int, numbers: Iterable[int]) -> set[int]:
        """The numbers among `numbers` that are directories of the job."""
        self._flush_directories()
        asked, found = list(numbers), set[int]()
        for start in range(0, len(asked), _NUMBERS_A_QUERY):
            some = numerals(asked[start : start + _NUMBERS_A_QUERY])
            sql = f"SELECT number FROM directories WHERE job = ? AND number IN ({some})"
            found.update(number for (number,) in raw_rows(self._tx, sql, (job,)))
        return found

    def close_entries(self, job: int, numbers: Sequence[int], removed_in: int) -> None:
        """End these live entries of the job as of a snapshot."""
        self._flush_directories()
        sql = """UPDATE entries SET removed_in = ? WHERE number = ? AND removed_in IS NULL AND added_in < ?
                 AND EXISTS (SELECT 1 FROM directories d WHERE d.number = entries.directory AND d.job = ?)"""
        rows = [(removed_in, number, removed_in, job) for number in numbers if number < _TOO_LARGE]
        run_many(self._tx, sql, rows)

    def forget_after(self, job: int, number: int) -> None:
        """Undo what began or ended in the job after that snapshot."""
        within = "directory IN (SELECT number FROM directories WHERE job = ?)"
        for sql in (
            f"DELETE FROM entries WHERE added_in > ? AND {within}",
            f"UPDATE entries SET removed_in = NULL WHERE removed_in > ? AND {within}",
        ):
            changed(self._tx, sql, (number, job))

    def has_snapshot(self, snapshot_id: str, job: int, number: int) -> bool:
        """Whether a snapshot of that id, or of that number of the job, exists."""
        sql = "SELECT 1 FROM snapshots WHERE id = ? OR (job = ? AND number = ?)"
        return row_of(self._tx, sql, (snapshot_id, job, number)) is not None

    def snapshot_ids(self, job: int) -> dict[int, str]:
        """The job's snapshots: numbers to ids."""
        sql = "SELECT number, id FROM snapshots WHERE job = ? ORDER BY number"
        return dict(raw_rows(self._tx, sql, (job,)))

    def has_job_named(self, name: str) -> bool:
        """Whether a job of that name exists."""
        return row_of(self._tx, "SELECT 1 FROM jobs WHERE name = ?", (name,)) is not None

    def end_overlaps(self, job: int) -> list[tuple[int, int | None, int]]:
        """End versions of the job's entries where the next of their name begins (`invariants`)."""
        self._flush_directories()
        return invariants.end_overlaps(self._tx, job)

    def lose_archive(self, number: int) -> None:
        """Mark an archive as lost, as the catalogs describe its contents wrongly."""
        changed(self._tx, "UPDATE archives SET state = ? WHERE number = ?", (ArchiveState.LOST, number))

    def sent_again(self, number: int, archive_id: str, at: int, version: str) -> bool:
        """Record where an archive lies that was stored again, after what is known of it; whether it was."""
        return store_again(self._tx, number, archive_id, at, version)

    def mount_points(self, job: int, numbers: Sequence[int]) -> None:
        """Mark these live entries of the job as mount points."""
        self._flush_directories()
        mark_mount_points(self._tx, job, [number for number in numbers if number < _TOO_LARGE])

    def frames(self, archive: int, rows: Sequence[FrameRow]) -> None:
        """Insert frames of an archive; existing numbers stay as they are."""
        insert_rows(self._tx, schema.frames, [(archive, *row) for row in rows], only_new=True)

    def chunks(self, archive: int, numbers: Sequence[int], rows: Sequence[ChunkRow]) -> None:
        """Insert chunks of an archive, with their numbers in the same order; existing ones stay."""
        insert_missing_chunks(self._tx, archive, numbers, rows)

    def directory(self, number: int, job: int, path: bytes) -> None:
        """Insert a directory, unless it exists; written with the rows that follow."""
        self._directories.append((number, job, path))
        if len(self._directories) >= _ROWS_A_BATCH:
            self._flush_directories()

    def _flush_directories(self) -> None:
        rows, self._directories = self._directories, []
        self.insert_new(schema.directories, rows)

    def domain_of(self, recipients: bytes) -> int | None:
        """The newest domain of that set of recipients (their ids joined, in order)."""
        sql = "SELECT max(number) FROM domains WHERE recipients = ?"
        found = value_of(self._tx, sql, (recipients,))
        return int(found) if found else None

    def snapshot_time(self, job: int) -> int:
        """When the job's newest snapshot was finished; 0 if it has none."""
        sql = "SELECT finished_at FROM snapshots WHERE job = ? ORDER BY number DESC LIMIT 1"
        return int(value_of(self._tx, sql, (job,)) or 0)

    def next_numbers(self, job_id: bytes, *, snapshot: int, catalog: int) -> None:
        """The numbers that a job gives out next."""
        sql = "UPDATE jobs SET next_snapshot = ?, next_catalog = ? WHERE id = ?"
        changed(self._tx, sql, (snapshot, catalog, job_id))

    def amend(self, job: int, record: Record, *, now: datetime) -> None:
        """Apply a record that marks snapshots or archives, of a catalog that was stored `now`."""
        self._flush_directories()
        amendments.apply(self._tx, job, [record], now=now)

    def take_up(self, archives: Sequence[int], now: datetime) -> None:
        """Make these condemned archives unconfirmed if no job condemns them any more (undeleted)."""
        sql = """UPDATE archives SET state = ?, taken_up_at = ? WHERE number = ? AND state = ?
                 AND NOT EXISTS (SELECT 1 FROM condemnations WHERE archive = archives.number)"""
        states = ArchiveState.UNCONFIRMED.value, ArchiveState.CONDEMNED.value
        rows = [(states[0], micros(now), number, states[1]) for number in archives]
        run_many(self._tx, sql, rows)

    def readings(self, found: Sequence[tuple[VerifiedRecord, int]]) -> None:
        """Record earlier readings by checks, by archive, as readings of one check that has ended."""
        times = [record.at for record, _ in found]
        if not times:
            return
        row = ("check", "done", min(times), max(times), '{"rebuilt": true}')
        self.insert(schema.runs, [row], ("kind", "outcome", "started_at", "finished_at", "report"))
        run = self.largest(schema.runs)
        rows = {row[_TOKEN]: row for record, archive in found for row in rows_of(record, run, archive)}
        self.insert(schema.readings, list(rows.values()), READ_COLUMNS)

    def forget(self, job: int, numbers: Sequence[int]) -> None:
        """Delete these snapshots, which hold values that are out of range."""
        run_many(self._tx, "DELETE FROM snapshots WHERE job = ? AND number = ?", [(job, n) for n in numbers])

    def confirm(self, found: Sequence[ListedArchive], *, settled_before: datetime) -> int:
        """Mark as stored what the vault lists; returns how many (`compared.confirm`).

        Not those undeleted since `settled_before`: a keeper may be about to delete them.
        """
        changed(self._tx, _LISTED, ())
        rows = [
            (line.archive_id, line.size, line.tree_hash, line.version or None, micros(line.created_at))
            for line in found
        ]
        insert = "INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?, ?)"
        run_many(self._tx, insert, rows or [("", 0, b"", "", 0)])
        return changed(
            self._tx,
            f"""UPDATE archives AS a SET state = ? WHERE state = ? AND EXISTS (
                SELECT 1 FROM listed l WHERE l.archive_id = a.archive_id AND {_AS_STORED} AND (
                    a.taken_up_at IS NULL
                    OR a.taken_up_at < ? AND (l.tree_hash = a.tree_hash OR l.version = a.version)))""",
            (ArchiveState.STORED.value, ArchiveState.UNCONFIRMED.value, micros(settled_before)),
        )

    def mark(self, archive_ids: Sequence[str], state: ArchiveState) -> None:
        """Set the state of these archives."""
        sql = "UPDATE archives SET state = ? WHERE archive_id = ?"
        run_many(self._tx, sql, [(state.value, archive_id) for archive_id in archive_ids])

    def settle_condemned(
        self, vault: VaultName, listed: Collection[str], until: float, now: datetime
    ) -> None:
        """Mark condemned archives as deleted that the list lacks, and were stored before `until` (us).

        One that a kept snapshot still needs is marked as lost: it was deleted although it was needed.
        """
        sql = "SELECT number, archive_id, stored_at FROM archives WHERE state = ?"
        rows = raw_rows(self._tx, sql, (ArchiveState.CONDEMNED.value,))
        gone = [number for number, archive_id, at in rows if archive_id not in listed and (at or 0) < until]
        if gone:
            self._flush_directories()
            index_chunks(self._tx)
            chunks = need.needed_chunks(self._tx, need.kept_snapshots(self._tx))
            elsewhere = need.stored_elsewhere(self._tx, chunks)
            uses = need.archive_uses(self._tx, chunks, vault)
            missed = {use.number for use in uses if use.needed > elsewhere[use.number]}.intersection(gone)
            for number in missed:
                self.lose_archive(number)
            pruning.record_deleted(self._tx, [number for number in gone if number not in missed], now)
            pruning.drop_contents(self._tx, vault)

    def unconfirmed(self) -> list[tuple[str, int, int]]:
        """Archives that no listing has shown yet: id, size, stored at (microseconds)."""
        sql = "SELECT archive_id, size, stored_at FROM archives WHERE state = ? ORDER BY number"
        rows = raw_rows(self._tx, sql, (ArchiveState.UNCONFIRMED.value,))
        return [(row[0], row[1], row[2] or 0) for row in rows]

    def unseen(self) -> list[tuple[str, int, int]]:
        """Archives to restore from that `confirm` did not get: id, size, stored at (microseconds)."""
        sql = f"""SELECT archive_id, size, stored_at FROM archives a WHERE state IN (?, ?)
                  AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.archive_id = a.archive_id AND {_AS_STORED})
                  ORDER BY number"""
        states = (ArchiveState.UNCONFIRMED.value, ArchiveState.RETIRED.value)
        rows = raw_rows(self._tx, sql, states)
        return [(row[0], row[1], row[2] or 0) for row in rows if row[0] is not None]

    def count_snapshots(self, job: int) -> int:
        """Number of snapshots of a job."""
        sql = "SELECT count(*) FROM snapshots WHERE job = ?"
        return int(value_of(self._tx, sql, (job,)) or 0)

    def largest(self, table: Table) -> int:
        """The largest number in a table; 0 if it is empty."""
        return int(value_of(self._tx, f"SELECT max(number) FROM {quoted(table.name)}", ()) or 0)

    def count(self, table: Table) -> int:
        """Number of rows of a table."""
        return number_of(self._tx, f"SELECT count(*) FROM {quoted(table.name)}", ())

    def pack_ids(self) -> set[bytes]:
        """Pack ids of all archives."""
        return identities.all_pack_ids(self._tx)

    def pass_catalogs(self, packs: Iterable[bytes]) -> None:
        """Record catalogs that the rebuild saw and did not use."""
        insert_rows(self._tx, stranger_tables.passed_catalogs, [(pack,) for pack in packs], only_new=True)

    def finish(
        self,
        *,
        inventory_id: InventoryId,
        signer_public: bytes,
        ancestors: Sequence[InventoryId],
        began_at: datetime,
    ) -> None:
        """Index the chunks, set counters above every number in use, and write the inventory's identity.

        `ancestors` are those that it was rebuilt from, nearest first. `began_at`: the beginning of the
        rebuild is recorded as the inventory's age, for tasks that fell due meanwhile. `InventoryDamagedError`
        if a row refers to one that does not exist.
        """
        self._flush_directories()
        index_chunks(self._tx)
        for name in _COUNTED:
            table = schema.METADATA.tables[name]
            following = self.largest(table) + SKIPPED
            changed(self._tx, "INSERT INTO counters VALUES (?, ?)", (name, following))
        mark(self._tx)
        loose = row_of(self._tx, "PRAGMA foreign_key_check", ())
        if loose is not None:
            raise InventoryDamagedError(
                f"the catalogs do not fit together: {loose[0]} refer to {loose[2]} that are not there"
            )
        insert_row(
            self._tx,
            "about",
            inventory_id=inventory_id,
            signer_public=signer_public,
            predecessor=ancestors[0],
            ancestors=b"".join(ancestors),
            created_at=micros(began_at),
        )


@contextmanager
def building(url: str) -> Iterator[Builder]:
    """A builder for the SQLite inventory at `url`, which is renamed at the end, if there was no error.

    `NightvaultError` if there is one already, `UsageError` for a database that is no file.
    """
    path = sqlite_path(url)
    if path is None:
        raise UsageError(
            "an inventory is rebuilt into a file only",
            advice="set [inventory] url to sqlite:////PATH for the rebuild and the restore",
        )
    refuse_existing(path)
    beside = f"{path}.building"
    _remove(beside)
    connections = _connections_to(beside)
    try:
        with our_errors(beside):
            migrate(connections)
            with connections.transaction(writes=True) as tx:
                yield Builder(tx)
        connections.close()
        _sync(beside)
        refuse_existing(path)
        for end in ("-wal", "-shm", "-journal"):  # of an earlier inventory at this path
            with suppress(FileNotFoundError):
                os.unlink(path + end)
        os.rename(beside, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise SpoolError(f"the inventory {path} cannot be written: {error.strerror}") from error
    finally:
        connections.close()
        _remove(beside)


def refuse_existing(path: str) -> None:
    """Raise `NightvaultError` if something exists: an inventory is never overwritten."""
    if os.path.lexists(path):
        raise NightvaultError(
            f"there is an inventory already: {path}",
            advice="give --set-aside to move it, and the keys beside it, out of the way; nothing is deleted",
        )


def _connections_to(path: str) -> Connections:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    return Connections(path, connect)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: str) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(path + end)
