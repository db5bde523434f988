"""Queries for archives: from submitted to stored, with their catalogs and uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update

from backup.inventory.bulk import insert_rows
from backup.inventory.database import Transaction
from backup.inventory.numbers import reserve
from backup.inventory.packed import insert_chunks
from backup.inventory.schema import (
    archives,
    catalog_archives,
    catalogs,
    domains,
    frames,
    jobs,
    micros,
    moment,
    readings,
    uploads,
    vaults,
)
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
_SPOILED = (ArchiveState.LOST, ArchiveState.DAMAGED)


@dataclass(frozen=True, slots=True)
class Archive:
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

    @property
    def is_delta(self) -> bool:
        """Whether it is a catalog that a run's changes became true with, and that the next one follows."""
        return self.label.generation is Generation.DELTA or self.is_first


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A submitted archive whose spool file is not yet completely in the vault."""

    archive: Archive
    upload_id: UploadId | None
    part_size: int
    spool_file: str


@dataclass(frozen=True, slots=True)
class CatalogPosition:
    """The position of a catalog in its job's chain; `parent` is the pack id of the one it builds on."""

    job: int
    number: int
    generation: Generation
    parent: PackId | None
    names: Sequence[int]  # the archives that it names


def get_or_create_vault(tx: Transaction, name: VaultName) -> int:
    """The number of a vault, which is recorded if it is new."""
    found = tx.execute(select(vaults.c.number).where(vaults.c.name == name)).scalar()
    if found is None:
        found = tx.execute(insert(vaults).values(name=name).returning(vaults.c.number)).scalar_one()
    return int(found)


def get_or_create_domain(
    tx: Transaction, domain_id: bytes, vault: int, recipients: bytes, now: datetime
) -> int:
    """The number of a dedup domain, recorded if new; `recipients` are the recipients' ids joined."""
    found = tx.execute(select(domains.c.number).where(domains.c.id == domain_id)).scalar()
    if found is None:
        row = {"id": domain_id, "vault": vault, "recipients": recipients, "created_at": micros(now)}
        found = tx.execute(insert(domains).values(**row).returning(domains.c.number)).scalar_one()
    return int(found)


def recipients_of_newest_archive(tx: Transaction, vault: int) -> bytes | None:
    """The ids of the recipients of the vault's newest archive, joined; None before the first."""
    query = select(domains.c.recipients).select_from(archives.join(domains)).where(domains.c.vault == vault)
    return tx.execute(query.order_by(archives.c.number.desc()).limit(1)).scalar()


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
    tx.execute(
        insert(archives).values(
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
    )
    tx.execute(insert(uploads).values(archive=number, part_size=part_size, spool_file=spool_file))
    insert_rows(tx, frames, [(number, *row) for row in pack.frames])
    insert_chunks(tx, number, chunk_numbers, pack.chunks)
    if catalog is not None:
        _insert_catalog(tx, number, catalog)
    return number


def _insert_catalog(tx: Transaction, archive: int, catalog: CatalogPosition) -> None:
    tx.execute(
        insert(catalogs).values(
            archive=archive,
            job=catalog.job,
            number=catalog.number,
            generation=catalog.generation,
            parent=catalog.parent,
        )
    )
    insert_rows(tx, catalog_archives, [(archive, name) for name in catalog.names])


def upload_begun(tx: Transaction, archive: int, upload_id: UploadId) -> None:
    """Record the vault's id of the upload."""
    tx.execute(update(uploads).where(uploads.c.archive == archive).values(upload_id=upload_id))


def mark_stored(tx: Transaction, archive: int, archive_id: ArchiveId, now: datetime) -> None:
    """Record that the vault has completed the archive: its chunks may be built upon."""
    values = {"state": ArchiveState.STORED, "archive_id": archive_id, "stored_at": micros(now)}
    tx.execute(update(archives).where(archives.c.number == archive).values(**values))
    tx.execute(delete(uploads).where(uploads.c.archive == archive))


def mark_lost(tx: Transaction, archive: int) -> None:
    """Record that the pack never arrived and never will; nothing is built upon it any more."""
    tx.execute(update(archives).where(archives.c.number == archive).values(state=ArchiveState.LOST))
    tx.execute(delete(uploads).where(uploads.c.archive == archive))


def count_unconfirmed(tx: Transaction, vault: VaultName) -> int:
    """Number of archives of a vault that no listing has shown yet."""
    query = (
        select(func.count())
        .select_from(archives.join(domains).join(vaults))
        .where(archives.c.state == ArchiveState.UNCONFIRMED, vaults.c.name == vault)
    )
    return int(tx.execute(query).scalar_one())


def pending_uploads(tx: Transaction, inventory_id: InventoryId) -> Sequence[PendingUpload]:
    """Uploads that a dead process left behind, oldest first."""
    rows = tx.execute(_archives().join(uploads).add_columns(uploads).order_by(archives.c.number))
    return [
        PendingUpload(_archive(row, inventory_id), row.upload_id, row.part_size, row.spool_file)
        for row in rows
    ]


# Queries.


def get_archives(tx: Transaction, numbers: Sequence[int], inventory_id: InventoryId) -> dict[int, Archive]:
    """Archives by number."""
    found: dict[int, Archive] = {}
    for start in range(0, len(numbers), _BATCH):
        query = _archives().where(archives.c.number.in_(numbers[start : start + _BATCH]))
        found.update((row.number, _archive(row, inventory_id)) for row in tx.execute(query))
    return found


def list_archives(
    tx: Transaction, inventory_id: InventoryId, *, vault: VaultName | None = None, run: int | None = None
) -> list[Archive]:
    """Archives that the vault holds, or that are on their way to it, oldest first."""
    states = [ArchiveState.SUBMITTED, *THERE]
    query = _archives().where(archives.c.state.in_(states))
    if vault is not None:
        query = query.where(vaults.c.name == vault)
    if run is not None:
        query = query.where(archives.c.run == run)
    return [_archive(row, inventory_id) for row in tx.execute(query.order_by(archives.c.number))]


def states(tx: Transaction) -> dict[int, ArchiveState]:
    """The state of every archive."""
    query = select(archives.c.number, archives.c.state)
    return {row.number: ArchiveState(row.state) for row in tx.execute(query)}


def domains_of(tx: Transaction, numbers: Sequence[int]) -> list[Row[Any]]:
    """The dedup domains of archives: number, id, vault, recipients, vault_name, vault_identity."""
    needed: set[int] = set()
    for start in range(0, len(numbers), _BATCH):
        query = select(archives.c.domain).where(archives.c.number.in_(numbers[start : start + _BATCH]))
        needed.update(tx.execute(query.distinct()).scalars())
    query = (
        select(domains, vaults.c.name.label("vault_name"), vaults.c.identity.label("vault_identity"))
        .join(vaults)
        .where(domains.c.number.in_(needed))
    )
    return list(tx.execute(query.order_by(domains.c.number)))


# Catalogs.


def stored_catalogs(
    tx: Transaction, job: int, inventory_id: InventoryId
) -> list[tuple[Archive, PackId | None]]:
    """A job's stored catalogs with their parents' pack ids, by number."""
    return _catalogs_of(tx, job, inventory_id, SOUND)


def spoiled_catalogs(
    tx: Transaction, job: int, inventory_id: InventoryId
) -> list[tuple[Archive, PackId | None]]:
    """A job's catalogs that were stored and then found lost or damaged, by number."""
    return _catalogs_of(tx, job, inventory_id, _SPOILED)


def _catalogs_of(
    tx: Transaction, job: int, inventory_id: InventoryId, states: Sequence[ArchiveState]
) -> list[tuple[Archive, PackId | None]]:
    query = (
        _archives()
        .where(catalogs.c.job == job, archives.c.state.in_(states), archives.c.archive_id.is_not(None))
        .order_by(catalogs.c.number)
    )
    return [(_archive(row, inventory_id), row.parent) for row in tx.execute(query)]


def named_archives(tx: Transaction, job: int, *, also_spoiled: bool = False) -> set[int]:
    """The archives that the job's stored catalogs name; also those stored and then spoiled, if asked."""
    states = (*SOUND, *_SPOILED) if also_spoiled else SOUND
    query = (
        select(catalog_archives.c.archive)
        .join(catalogs, catalogs.c.archive == catalog_archives.c.catalog)
        .join(archives, archives.c.number == catalogs.c.archive)
        .where(catalogs.c.job == job, archives.c.state.in_(states), archives.c.archive_id.is_not(None))
        .distinct()
    )
    return set(tx.execute(query).scalars())


def catalog_of_run(tx: Transaction, run: int) -> tuple[int, ArchiveState] | None:
    """The delta catalog (a job's first is full, too) that a run submitted, if it came that far."""
    query = (
        select(archives.c.number, archives.c.state)
        .join(catalogs)
        .where(archives.c.run == run)
        .where(or_(catalogs.c.generation == Generation.DELTA, catalogs.c.parent.is_(None)))
        .order_by(archives.c.number.desc())
    )
    row = tx.execute(query).first()
    return (row.number, ArchiveState(row.state)) if row else None


def vault_totals(tx: Transaction) -> dict[VaultName, tuple[int, int]]:
    """Archives and their bytes, by vault."""
    query = (
        select(vaults.c.name, func.count(), func.coalesce(func.sum(archives.c.size), 0))
        .select_from(archives.join(domains).join(vaults))
        .where(archives.c.state.in_(THERE))
        .group_by(vaults.c.name)
    )
    return {VaultName(name): (count, size) for name, count, size in tx.execute(query)}


def count_unread(tx: Transaction) -> dict[VaultName, int]:
    """For each vault the number of sound archives that no check has ever read anything of."""
    unread = (
        ~select(readings.c.number)
        .where(readings.c.archive == archives.c.number, readings.c.read_at.is_not(None))
        .exists()
    )
    query = select(vaults.c.name, func.count()).select_from(archives.join(domains).join(vaults))
    rows = tx.execute(query.where(archives.c.state.in_(SOUND), unread).group_by(vaults.c.name))
    return {VaultName(name): count for name, count in rows}


def _archives() -> Any:
    return (
        select(
            archives,
            vaults.c.name.label("vault_name"),
            catalogs.c.number.label("catalog"),
            catalogs.c.generation,
            catalogs.c.parent,
            jobs.c.id.label("job_id"),
        )
        .select_from(archives.join(domains).join(vaults))
        .outerjoin(catalogs, catalogs.c.archive == archives.c.number)
        .outerjoin(jobs, jobs.c.number == catalogs.c.job)
    )


def _archive(row: Row[Any], inventory_id: InventoryId) -> Archive:
    label = ArchiveLabel(
        PackKind(row.kind),
        PackId(row.pack_id),
        inventory_id,
        row.catalog or 0,
        Generation(row.generation) if row.generation else None,
        row.job_id,
    )
    return Archive(
        row.number,
        VaultName(row.vault_name),
        row.domain,
        label,
        ArchiveState(row.state),
        row.header,
        row.size,
        TreeHash(row.tree_hash),
        ArchiveId(row.archive_id) if row.archive_id else None,
        row.run,
        moment(row.submitted_at),
        moment(row.stored_at) if row.stored_at else None,
        is_first=row.generation == Generation.FULL and row.parent is None,
    )
