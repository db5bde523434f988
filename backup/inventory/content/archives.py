"""Queries for archives: from submitted to stored, with their catalogs and uploads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from sqlite3 import Row
from typing import Any, Final

from msgspec import Struct

from backup.inventory.content.numbers import reserve
from backup.inventory.content.packed import insert_chunks
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    insert_tuples,
    marks,
    number_of,
    numerals,
    raw_rows,
    records,
    row_of,
    value_of,
)
from backup.inventory.store.times import micros, moment
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    Generation,
    InventoryId,
    Pack,
    PackId,
    PackKind,
    TreeHash,
    UploadId,
    VaultName,
)

_BATCH = 500
_FRAME_COLUMNS: Final = (
    *("archive", "number", "offset", "sealed_length"),
    *("raw_length", "flags", "digest"),
)
IN_VAULTS: Final = "archives a JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault"
"""Archives with their domains and vaults, for `FROM`."""
_ARCHIVES = f"""
SELECT a.*, v.name AS vault_name, c.number AS catalog, c.generation, c.parent, j.id AS job_id
FROM {IN_VAULTS}
LEFT JOIN catalogs c ON c.archive = a.number LEFT JOIN jobs j ON j.number = c.job
"""


class ArchiveState(StrEnum):
    """The state of an archive; only chunks of stored ones are built upon."""

    SUBMITTED = "submitted"
    STORED = "stored"
    UNCONFIRMED = "unconfirmed"  # named by a catalog or taken up, in no listing since: can be restored from
    RETIRED = "retired"  # not built upon any more, still needed
    CONDEMNED = "condemned"  # not built upon any more, to be deleted
    DELETING = "deleting"  # its deletion was decided: nothing brings it back
    DELETED = "deleted"
    LOST = "lost"
    DAMAGED = "damaged"  # a check found bad parts: the rest can be restored, nothing is built upon it


SOUND = (ArchiveState.STORED, ArchiveState.UNCONFIRMED, ArchiveState.RETIRED)
"""Archives to restore from and to rely on."""
THERE = (*SOUND, ArchiveState.DAMAGED, ArchiveState.CONDEMNED, ArchiveState.DELETING)
"""Archives that the vault holds, and bills."""
REMAIN = tuple(state for state in THERE if state is not ArchiveState.DELETING)
_SPOILED = (ArchiveState.LOST, ArchiveState.DAMAGED)


class Archive(Struct, frozen=True):
    """An archive: a pack on its way to a vault, or there."""

    number: int
    vault: VaultName
    domain: int
    label: ArchiveLabel
    state: ArchiveState
    header: bytes
    size: int
    tree_hash: TreeHash
    archive_id: ArchiveId | None
    run: int | None
    submitted_at: datetime
    stored_at: datetime | None
    is_first: bool = False  # a job's first catalog: full, and a delta, too
    version: str = ""  # the vault's word for one of several objects of that archive id

    @property
    def is_delta(self) -> bool:
        """Whether it is a delta catalog: it commits a run's changes, and the next one builds on it."""
        return self.label.generation is Generation.DELTA or self.is_first


class PendingUpload(Struct, frozen=True):
    """A submitted archive whose spool file is not yet completely in the vault."""

    archive: Archive
    upload_id: UploadId | None
    part_size: int
    spool_file: str


class CatalogPosition(Struct, frozen=True):
    """The position of a catalog in its job's chain; `parent` is the pack id of the one it builds on."""

    job: int
    number: int
    generation: Generation
    parent: PackId | None
    names: Sequence[int]  # the archives that it names


def get_or_create_vault(tx: Transaction, name: VaultName) -> int:
    """The number of a vault, which is recorded if it is new."""
    found = value_of(tx, "SELECT number FROM vaults WHERE name = ?", (name,))
    if found is None:
        return insert_row(tx, "vaults", name=name)
    return int(found)


def get_or_create_domain(
    tx: Transaction, domain_id: bytes, vault: int, recipients: bytes, now: datetime
) -> int:
    """The number of a dedup domain, recorded if new; `recipients` are the recipients' ids joined."""
    found = value_of(tx, "SELECT number FROM domains WHERE id = ?", (domain_id,))
    if found is None:
        return insert_row(
            tx, "domains", id=domain_id, vault=vault, recipients=recipients, created_at=micros(now)
        )
    return int(found)


def recipients_of_newest_archive(tx: Transaction, vault: int) -> bytes | None:
    """The ids of the recipients of the vault's newest archive, joined; None before the first."""
    sql = """SELECT d.recipients FROM archives a JOIN domains d ON d.number = a.domain
             WHERE d.vault = ? AND (a.archive_id IS NOT NULL OR a.state <> ?)
             ORDER BY a.number DESC LIMIT 1"""
    found: bytes | None = value_of(tx, sql, (vault, ArchiveState.DELETED))  # else only copies tell of it
    return found


# Uploads: submitted, then stored.


def submit(
    tx: Transaction,
    pack: Pack,
    *,
    domain: int,
    run: int,
    chunk_numbers: Sequence[int],
    spool_file: str,
    part_size: int,
    now: datetime,
    catalog: CatalogPosition | None = None,
) -> int:
    """Record a pack before its first byte is sent; returns its archive number."""
    number = reserve(tx, "archives", 1)
    insert_row(
        tx,
        "archives",
        number=number,
        domain=domain,
        run=run,
        kind=pack.label.kind,
        state=ArchiveState.SUBMITTED,
        pack_id=pack.label.pack_id,
        header=pack.header,
        size=pack.size,
        tree_hash=pack.tree_hash,
        submitted_at=micros(now),
    )
    insert_row(tx, "uploads", archive=number, part_size=part_size, spool_file=spool_file)
    insert_tuples(tx, "frames", _FRAME_COLUMNS, [(number, *row) for row in pack.frames])
    insert_chunks(tx, number, chunk_numbers, pack.chunks)
    if catalog is not None:
        _insert_catalog(tx, number, catalog)
    return number


def _insert_catalog(tx: Transaction, archive: int, catalog: CatalogPosition) -> None:
    insert_row(
        tx,
        "catalogs",
        archive=archive,
        job=catalog.job,
        number=catalog.number,
        generation=catalog.generation,
        parent=catalog.parent,
    )
    if catalog.names:
        insert_tuples(
            tx, "catalog_archives", ("catalog", "archive"), [(archive, name) for name in catalog.names]
        )


def upload_begun(tx: Transaction, archive: int, upload_id: UploadId) -> None:
    """Record the vault's id of the upload."""
    changed(tx, "UPDATE uploads SET upload_id = ? WHERE archive = ?", (upload_id, archive))


def mark_stored(
    tx: Transaction, archive: int, archive_id: ArchiveId, now: datetime, version: str = ""
) -> None:
    """Record that the vault has completed the archive: its chunks may be built upon."""
    sql = "UPDATE archives SET state = ?, archive_id = ?, stored_at = ?, version = ? WHERE number = ?"
    changed(tx, sql, (ArchiveState.STORED, archive_id, micros(now), version or None, archive))
    changed(tx, "DELETE FROM uploads WHERE archive = ?", (archive,))


def mark_lost(tx: Transaction, archive: int) -> None:
    """Record that the pack never arrived and never will; nothing is built upon it any more."""
    changed(tx, "UPDATE archives SET state = ? WHERE number = ?", (ArchiveState.LOST, archive))
    changed(tx, "DELETE FROM uploads WHERE archive = ?", (archive,))


def mark_damaged(tx: Transaction, archive: int) -> None:
    """Record that an archive is in the vault but cannot be used."""
    changed(tx, "UPDATE archives SET state = ? WHERE number = ?", (ArchiveState.DAMAGED, archive))


def count_unconfirmed(tx: Transaction, vault: VaultName) -> int:
    """Number of a vault's unconfirmed archives, which no listing has shown yet."""
    sql = f"SELECT count(*) FROM {IN_VAULTS} WHERE a.state = ? AND v.name = ?"
    return number_of(tx, sql, (ArchiveState.UNCONFIRMED, vault))


def pending_uploads(tx: Transaction, inventory_id: InventoryId) -> Sequence[PendingUpload]:
    """Uploads that a dead process left behind, oldest first."""
    found: list[PendingUpload] = []
    for row in records(tx, "SELECT * FROM uploads ORDER BY archive", ()):
        archive = get_archives(tx, [row["archive"]], inventory_id)[row["archive"]]
        found.append(PendingUpload(archive, row["upload_id"], row["part_size"], row["spool_file"]))
    return found


# Queries.


def get_archives(tx: Transaction, numbers: Sequence[int], inventory_id: InventoryId) -> dict[int, Archive]:
    """Archives by number."""
    found: dict[int, Archive] = {}
    for start in range(0, len(numbers), _BATCH):
        some = tuple(numbers[start : start + _BATCH])
        rows = records(tx, f"{_ARCHIVES} WHERE a.number IN ({marks(some)})", some)
        found.update((row["number"], _archive(row, inventory_id)) for row in rows)
    return found


def list_archives(
    tx: Transaction, inventory_id: InventoryId, *, vault: VaultName | None = None, run: int | None = None
) -> list[Archive]:
    """Archives that the vault holds, or that are on their way to it, oldest first."""
    values: list[Any] = [ArchiveState.SUBMITTED, *THERE]
    sql = f"{_ARCHIVES} WHERE a.state IN ({marks(values)})"
    for condition, value in ((" AND v.name = ?", vault), (" AND a.run = ?", run)):
        if value is not None:
            sql += condition
            values.append(value)
    return [_archive(row, inventory_id) for row in records(tx, f"{sql} ORDER BY a.number", tuple(values))]


def states(tx: Transaction, numbers: Sequence[int] | None = None) -> dict[int, ArchiveState]:
    """The state of these archives, or of every one."""
    some = "" if numbers is None else f" WHERE number IN ({numerals(numbers)})"
    rows = raw_rows(tx, f"SELECT number, state FROM archives{some}", ())
    return {number: ArchiveState(state) for number, state in rows}


def largest_number(tx: Transaction) -> int:
    """The largest number of an archive; 0 if there is none."""
    return value_of(tx, "SELECT max(number) FROM archives", ()) or 0


def bytes_of(tx: Transaction, numbers: Sequence[int]) -> int:
    """The bytes of archives."""
    lots = (numerals(numbers[start : start + _BATCH]) for start in range(0, len(numbers), _BATCH))
    return sum(number_of(tx, f"SELECT sum(size) FROM archives WHERE number IN ({lot})", ()) for lot in lots)


def domains_of(tx: Transaction, numbers: Sequence[int], copied_to: int | None = None) -> list[Row]:
    """The dedup domains of archives: number, id, vault, recipients, vault_name, vault_identity.

    Of those that are copied to another vault the domains there.
    """
    needed: set[int] = set()
    for start in range(0, len(numbers), _BATCH):
        some = tuple(numbers[start : start + _BATCH])
        sql = f"""SELECT DISTINCT coalesce(k.domain, a.domain) FROM archives a
                  LEFT JOIN copies k ON k.archive = a.number AND k.vault = ?
                  WHERE a.number IN ({marks(some)})"""
        needed.update(row[0] for row in raw_rows(tx, sql, (copied_to, *some)))
    sql = f"""SELECT d.*, v.name AS vault_name, v.identity AS vault_identity
              FROM domains d JOIN vaults v ON v.number = d.vault
              WHERE d.number IN ({marks(needed)}) ORDER BY d.number"""
    return records(tx, sql, tuple(needed))


# Catalogs.


def stored_catalogs(
    tx: Transaction, job: int, inventory_id: InventoryId, *, vault: int | None = None
) -> list[tuple[Archive, PackId | None]]:
    """A job's stored catalogs in a vault (its own, if None), with their parents' pack ids, by number."""
    return _catalogs_of(tx, job, vault, inventory_id, SOUND)


def spoiled_catalogs(
    tx: Transaction, job: int, inventory_id: InventoryId, *, vault: int | None = None
) -> list[tuple[Archive, PackId | None]]:
    """A job's catalogs in a vault (its own, if None) that were stored and then found lost or damaged."""
    return _catalogs_of(tx, job, vault, inventory_id, _SPOILED)


def _catalogs_of(
    tx: Transaction, job: int, vault: int | None, inventory_id: InventoryId, states: Sequence[ArchiveState]
) -> list[tuple[Archive, PackId | None]]:
    sql = f"""{_ARCHIVES} WHERE c.job = ? AND d.vault = coalesce(?, j.vault)
              AND a.state IN ({marks(states)}) AND a.archive_id IS NOT NULL ORDER BY c.number"""
    return [(_archive(row, inventory_id), row["parent"]) for row in records(tx, sql, (job, vault, *states))]


def named_archives(
    tx: Transaction, job: int, *, vault: int | None = None, also_spoiled: bool = False
) -> set[int]:
    """The archives that the job's stored catalogs in a vault (its own, if None) name.

    Also those of catalogs that were stored and then spoiled, if asked.
    """
    states = (*SOUND, *_SPOILED) if also_spoiled else SOUND
    sql = f"""SELECT DISTINCT n.archive FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
              JOIN archives a ON a.number = c.archive JOIN domains d ON d.number = a.domain
              JOIN jobs j ON j.number = c.job
              WHERE c.job = ? AND d.vault = coalesce(?, j.vault)
              AND a.state IN ({marks(states)}) AND a.archive_id IS NOT NULL"""
    return {row[0] for row in raw_rows(tx, sql, (job, vault, *states))}


def catalog_of_run(tx: Transaction, run: int) -> tuple[int, ArchiveState] | None:
    """The delta catalog (a job's first is full, too) that a run submitted; None if it submitted none."""
    sql = """SELECT a.number, a.state FROM archives a JOIN catalogs c ON c.archive = a.number
             WHERE a.run = ? AND (c.generation = ? OR c.parent IS NULL) ORDER BY a.number DESC"""
    row = row_of(tx, sql, (run, Generation.DELTA))
    return (row[0], ArchiveState(row[1])) if row else None


def vault_totals(tx: Transaction) -> dict[VaultName, tuple[int, int]]:
    """Archives and their bytes, by vault; copies, too."""
    sql = f"""SELECT v.name, count(*), coalesce(sum(t.size), 0) FROM (
                SELECT d.vault, a.size FROM archives a JOIN domains d ON d.number = a.domain
                WHERE a.state IN ({marks(THERE)})
                UNION ALL
                SELECT k.vault, a.size FROM copies k JOIN archives a ON a.number = k.archive
                WHERE k.state IN ({marks(THERE)})
              ) AS t JOIN vaults v ON v.number = t.vault GROUP BY v.name"""
    return {VaultName(name): (count, size) for name, count, size in raw_rows(tx, sql, (*THERE, *THERE))}


def count_unread(tx: Transaction) -> dict[VaultName, int]:
    """For each vault the number of sound archives of which no check has ever read a part."""
    sql = f"""SELECT v.name, count(*) FROM {IN_VAULTS} WHERE a.state IN ({marks(SOUND)})
              AND NOT EXISTS (SELECT 1 FROM readings r WHERE r.archive = a.number AND r.read_at IS NOT NULL
                              AND r.copied_to IS NULL) GROUP BY v.name"""
    return {VaultName(name): count for name, count in raw_rows(tx, sql, SOUND)}


def _archive(row: Row, inventory_id: InventoryId) -> Archive:
    label = ArchiveLabel(
        PackKind(row["kind"]),
        PackId(row["pack_id"]),
        inventory_id,
        row["catalog"] or 0,
        Generation(row["generation"]) if row["generation"] else None,
        row["job_id"],
    )
    return Archive(
        row["number"],
        VaultName(row["vault_name"]),
        row["domain"],
        label,
        ArchiveState(row["state"]),
        row["header"],
        row["size"],
        TreeHash(row["tree_hash"]),
        ArchiveId(row["archive_id"]) if row["archive_id"] else None,
        row["run"],
        moment(row["submitted_at"]),
        moment(row["stored_at"]) if row["stored_at"] else None,
        is_first=row["generation"] == Generation.FULL and row["parent"] is None,
        version=row["version"] or "",
    )
