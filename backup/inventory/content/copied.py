"""Queries for copies: packs of archives that lie in another vault, too, and snapshots that are said there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from backup.inventory.content.archives import (
    Archive,
    ArchiveState,
    PendingUpload,
    get_archives,
)
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_row, insert_tuples, numerals, raw_rows, row_of
from backup.inventory.store.times import micros, moment
from backup.model import ArchiveId, InventoryId, UploadId, VaultName

_BATCH = 500


class CopiedArchive(NamedTuple):
    """The pack of an archive in another vault; `is_said`: a stored catalog there names it."""

    archive: int
    state: ArchiveState
    since: datetime
    is_said: bool


def submit_copy(
    tx: Transaction,
    archive: int,
    vault: int,
    domain: int,
    *,
    spool_file: str,
    part_size: int,
    now: datetime,
) -> None:
    """Record a copy before its first byte is sent; one that was lost is made again."""
    changed(tx, "DELETE FROM copies WHERE archive = ? AND vault = ?", (archive, vault))
    where = {"archive": archive, "vault": vault, "domain": domain}
    state = {"state": ArchiveState.SUBMITTED, "since": micros(now)}
    insert_row(tx, "copies", **where, **state, spool_file=spool_file, part_size=part_size)


def copy_begun(tx: Transaction, archive: int, vault: int, upload_id: UploadId) -> None:
    """Record the vault's id of the upload."""
    sql = "UPDATE copies SET upload_id = ? WHERE archive = ? AND vault = ?"
    changed(tx, sql, (upload_id, archive, vault))


def copy_stored(
    tx: Transaction, archive: int, vault: int, archive_id: ArchiveId, now: datetime, version: str = ""
) -> None:
    """Record that the vault has completed the copy."""
    sql = """UPDATE copies SET state = ?, since = ?, archive_id = ?, version = ?, upload_id = NULL
             WHERE archive = ? AND vault = ?"""
    changed(tx, sql, (ArchiveState.STORED, micros(now), archive_id, version or None, archive, vault))


def copy_lost(tx: Transaction, archive: int, vault: int, now: datetime) -> None:
    """Record that the copy is not in the vault: it is made again."""
    sql = "UPDATE copies SET state = ?, since = ?, upload_id = NULL WHERE archive = ? AND vault = ?"
    changed(tx, sql, (ArchiveState.LOST, micros(now), archive, vault))


def pending_copies(tx: Transaction, vault: int, inventory_id: InventoryId) -> list[PendingUpload]:
    """Copies into a vault that a dead process left behind, by archive."""
    sql = """SELECT archive, upload_id, part_size, spool_file FROM copies
             WHERE vault = ? AND state = ? ORDER BY archive"""
    rows = list(raw_rows(tx, sql, (vault, ArchiveState.SUBMITTED)))
    found = get_archives(tx, [row[0] for row in rows], inventory_id)
    return [PendingUpload(found[archive], *rest) for archive, *rest in rows]


def list_copies(tx: Transaction, vault: int) -> list[CopiedArchive]:
    """All copies in a vault, by archive."""
    sql = """SELECT k.archive, k.state, k.since, EXISTS (
               SELECT 1 FROM catalog_archives n JOIN archives c ON c.number = n.catalog
               JOIN domains d ON d.number = c.domain
               WHERE n.archive = k.archive AND d.vault = k.vault AND c.state = ?)
             FROM copies k WHERE k.vault = ? ORDER BY k.archive"""
    rows = raw_rows(tx, sql, (ArchiveState.STORED, vault))
    return [
        CopiedArchive(archive, ArchiveState(state), moment(since), bool(said))
        for archive, state, since, said in rows
    ]


def as_in_vault(tx: Transaction, vault: int, found: Mapping[int, Archive]) -> dict[int, Archive]:
    """The archives as a vault has them: those with a copy there with its id, version, time and domain."""
    copied = dict(found)
    numbers = list(found)
    for start in range(0, len(numbers), _BATCH):
        sql = f"""SELECT k.archive, v.name, k.domain, k.state, k.archive_id, k.since, k.version
                  FROM copies k JOIN vaults v ON v.number = k.vault
                  WHERE k.vault = ? AND k.archive IN ({numerals(numbers[start : start + _BATCH])})"""
        for archive, name, domain, state, archive_id, since, version in raw_rows(tx, sql, (vault,)):
            copied[archive] = replace(
                found[archive],
                vault=VaultName(name),
                domain=domain,
                state=ArchiveState(state),
                archive_id=ArchiveId(archive_id) if archive_id else None,
                stored_at=moment(since),
                version=version or "",
            )
    return copied


def recipients_of(tx: Transaction, archives: Sequence[int]) -> dict[int, bytes]:
    """For whom each archive was sealed: the ids of the recipients, joined."""
    found: dict[int, bytes] = {}
    for start in range(0, len(archives), _BATCH):
        sql = f"""SELECT a.number, d.recipients FROM archives a JOIN domains d ON d.number = a.domain
                  WHERE a.number IN ({numerals(archives[start : start + _BATCH])})"""
        found.update(raw_rows(tx, sql, ()))
    return found


def copied_snapshots(tx: Transaction, vault: int, job: int) -> list[int]:
    """The numbers of a job's snapshots that its catalogs in another vault name, rising."""
    sql = "SELECT number FROM copied_snapshots WHERE vault = ? AND job = ? ORDER BY number"
    return [number for (number,) in raw_rows(tx, sql, (vault, job))]


def snapshots_in(tx: Transaction, vault: VaultName, job: int) -> set[int]:
    """The numbers of a job's snapshots that its catalogs in a vault of that name say."""
    sql = """SELECT k.number FROM copied_snapshots k JOIN vaults v ON v.number = k.vault
             WHERE v.name = ? AND k.job = ?"""
    return {number for (number,) in raw_rows(tx, sql, (vault, job))}


def record_copied(tx: Transaction, vault: int, job: int, numbers: Iterable[int]) -> None:
    """Record snapshots that a stored catalog of another vault names; repeated it changes nothing."""
    before = set(copied_snapshots(tx, vault, job))
    rows = [(job, vault, number, 0) for number in numbers if number not in before]
    insert_tuples(tx, "copied_snapshots", ("job", "vault", "number", "is_alone"), rows)


def has_alone(tx: Transaction, job: int) -> bool:
    """Whether only copies are left of a snapshot of a job."""
    sql = "SELECT 1 FROM copied_snapshots WHERE job = ? AND is_alone LIMIT 1"
    return row_of(tx, sql, (job,)) is not None


def has_copies(tx: Transaction, vault: VaultName) -> bool:
    """Whether anything was copied into a vault."""
    sql = "SELECT 1 FROM copies k JOIN vaults v ON v.number = k.vault WHERE v.name = ? LIMIT 1"
    return row_of(tx, sql, (vault,)) is not None


def lose_copies(tx: Transaction, vault: int) -> None:
    """Record that another vault took the place of one with copies: all are made again."""
    sql = "UPDATE copies SET state = ?, upload_id = NULL WHERE vault = ?"
    changed(tx, sql, (ArchiveState.LOST, vault))
    changed(tx, "DELETE FROM copied_snapshots WHERE vault = ?", (vault,))
