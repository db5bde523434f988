"""The recorded identity of a vault, and evidence of its contents by which another vault is noticed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from backup.inventory.content import archives as stored
from backup.inventory.content.archives import IN_VAULTS, SOUND, ArchiveState
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, marks, raw_rows, row_of, value_of
from backup.inventory.store.times import moment
from backup.model import (
    ArchiveId,
    Generation,
    InventoryId,
    JobName,
    PackId,
    PackKind,
    VaultIdentity,
    VaultName,
)

_BATCH = 500
_SKIPPED = 40


def numbers_skipped(ancestors: Sequence[InventoryId]) -> int:
    """Return how many numbers of a job's catalogs a rebuild skips, as catalogs in other vaults may have them.

    Each of the inventories before it may have begun beyond all numbers that the job's own vault shows.
    """
    return _SKIPPED * len(ancestors)


class KnownCatalog(Struct, frozen=True):
    """The newest catalog of a job for a vault in the inventory, stored or not."""

    job: JobName
    number: int
    submitted_at: datetime


class Evidence(Struct, frozen=True):
    """The newest sound archive in a vault that the inventory knows: a catalog if there is one."""

    archive_id: ArchiveId
    kind: PackKind
    stored_at: datetime


def vault_identity(tx: Transaction, vault: VaultName) -> VaultIdentity | None:
    """The recorded identity of a vault; None if not yet known."""
    found = value_of(tx, "SELECT identity FROM vaults WHERE name = ?", (vault,))
    return VaultIdentity(found) if found else None


def set_vault_identity(tx: Transaction, vault: VaultName, identity: VaultIdentity) -> None:
    """Record the identity of a vault."""
    number = stored.get_or_create_vault(tx, vault)
    changed(tx, "UPDATE vaults SET identity = ? WHERE number = ?", (identity, number))


def evidence(tx: Transaction, vault: VaultName) -> Evidence | None:
    """The archive that the vault must show if it is the recorded one; None if nothing was stored."""
    sql = f"""SELECT a.archive_id, a.kind, a.stored_at FROM {IN_VAULTS}
              WHERE v.name = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(SOUND)})
              ORDER BY a.kind = ? DESC, a.number DESC LIMIT 1"""
    row = row_of(tx, sql, (vault, *SOUND, PackKind.CATALOG))
    if row is None:
        return None
    archive_id, kind, stored_at = row
    return Evidence(ArchiveId(archive_id), PackKind(kind), moment(stored_at or 0))


def was_used(tx: Transaction, vault: VaultName) -> bool:
    """Whether anything was ever stored in a vault of that name, even if lost since."""
    sql = f"SELECT 1 FROM {IN_VAULTS} WHERE v.name = ? AND a.archive_id IS NOT NULL LIMIT 1"
    return row_of(tx, sql, (vault,)) is not None


def used_identity(tx: Transaction, vault: VaultName) -> VaultIdentity | None:
    """The recorded identity of a vault in which something was stored; None for any other vault."""
    return vault_identity(tx, vault) if was_used(tx, vault) else None


def began_to_store(tx: Transaction) -> datetime | None:
    """When a run of this inventory first stored anything; None if all that it has is from a rebuild."""
    sql = "SELECT submitted_at FROM archives WHERE run IS NOT NULL ORDER BY run LIMIT 1"  # by its index
    found = row_of(tx, sql, ())
    return None if found is None else moment(found[0])


def newest_known(tx: Transaction, vault: VaultName) -> dict[bytes, KnownCatalog]:
    """The newest catalog that each job has for a vault, by the job's id."""
    sql = f"""SELECT j.id, j.name, c.number, a.submitted_at
              FROM {IN_VAULTS} JOIN catalogs c ON c.archive = a.number JOIN jobs j ON j.number = c.job
              WHERE v.name = ? ORDER BY c.number"""
    return {
        job: KnownCatalog(JobName(name), number, moment(submitted_at))
        for job, name, number, submitted_at in raw_rows(tx, sql, (vault,))
    }


def next_catalogs(tx: Transaction, vault: VaultName, ancestors: Sequence[InventoryId]) -> dict[bytes, int]:
    """The number from which on nobody had told of a job's catalogs when it was rebuilt, by the job's id.

    For an inventory of these ancestors that has stored nothing since.
    """
    sql = (
        """SELECT j.id, j.next_catalog - ? FROM jobs j JOIN vaults v ON v.number = j.vault WHERE v.name = ?"""
    )
    return dict(raw_rows(tx, sql, (numbers_skipped(ancestors), vault)))


def chains_begin(tx: Transaction, vault: VaultName) -> dict[bytes, int]:
    """The number of each job's newest full catalog that a vault has, by job id: a rebuild begins there."""
    is_full = f"c.generation = ? AND a.state IN ({marks(SOUND)})"
    sql = f"""SELECT j.id, max(CASE WHEN {is_full} THEN c.number END)
              FROM {IN_VAULTS} JOIN catalogs c ON c.archive = a.number JOIN jobs j ON j.number = c.job
              WHERE v.name = ? GROUP BY j.id"""
    return {row[0]: row[1] or 0 for row in raw_rows(tx, sql, (Generation.FULL, *SOUND, vault))}


def chain_archives(
    tx: Transaction, vault: VaultName, inventory_id: InventoryId
) -> list[tuple[int, ArchiveId]]:
    """The catalogs that this inventory itself wrote and that a rebuild needs: number and id.

    A pack's header has its inventory's id at byte 48 (docs/format.md, 2.1).
    """
    begins = chains_begin(tx, vault)
    sql = f"""SELECT j.id, c.number, a.number, a.archive_id
              FROM {IN_VAULTS} JOIN catalogs c ON c.archive = a.number JOIN jobs j ON j.number = c.job
              WHERE v.name = ? AND a.archive_id IS NOT NULL AND a.state IN ({marks(SOUND)})
                AND substr(a.header, 49, 16) = ?"""
    rows = raw_rows(tx, sql, (vault, *SOUND, inventory_id))
    return [(archive, ArchiveId(name)) for job, number, archive, name in rows if number >= begins.get(job, 0)]


def writers(tx: Transaction) -> dict[ArchiveId, tuple[InventoryId, bytes]]:
    """Inventory and signer of each archive; a header has them at bytes 48 and 64 (docs/format.md, 2.1)."""
    sql = """SELECT archive_id, substr(header, 49, 16), substr(header, 65, 32) FROM archives
             WHERE archive_id IS NOT NULL AND length(header) >= 96"""
    rows = raw_rows(tx, sql, ())
    return {ArchiveId(archive): (InventoryId(inventory), signer) for archive, inventory, signer in rows}


def catalogs_of_jobs(tx: Transaction) -> list[tuple[ArchiveId, bytes, int]]:
    """All catalogs in the order of their numbers: archive, id of the job, generation."""
    sql = """SELECT a.archive_id, j.id, c.generation FROM catalogs c
             JOIN archives a ON a.number = c.archive JOIN jobs j ON j.number = c.job ORDER BY c.number"""
    return [(ArchiveId(archive), job, generation) for archive, job, generation in raw_rows(tx, sql, ())]


def newest_catalog_header(tx: Transaction, vault: VaultName) -> bytes | None:
    """The header of the newest catalog that is in the vault; None if there is none."""
    sql = f"""SELECT a.header FROM {IN_VAULTS} JOIN catalogs c ON c.archive = a.number
              WHERE v.name = ? AND a.kind = ? AND a.state IN ({marks(SOUND)})
              ORDER BY a.number DESC LIMIT 1"""
    header: bytes | None = value_of(tx, sql, (vault, PackKind.CATALOG, *SOUND))
    return header


def job_names_by_id(tx: Transaction) -> dict[bytes, str]:
    """The names of all jobs, by their ids."""
    return dict(raw_rows(tx, "SELECT id, name FROM jobs", ()))


def all_pack_ids(tx: Transaction) -> set[bytes]:
    """The pack ids of all archives."""
    return {pack for (pack,) in raw_rows(tx, "SELECT pack_id FROM archives", ())}


def unknown_packs(tx: Transaction, packs: Iterable[PackId]) -> set[PackId]:
    """The packs among `packs` that this inventory never submitted."""
    asked = list(packs)
    known: set[PackId] = set()
    for start in range(0, len(asked), _BATCH):
        some = tuple(asked[start : start + _BATCH])
        sql = f"SELECT pack_id FROM archives WHERE pack_id IN ({marks(some)})"
        known.update(PackId(row[0]) for row in raw_rows(tx, sql, some))
    return set(asked) - known


def set_state_of_contents(tx: Transaction, vault: VaultName, state: ArchiveState) -> int:
    """Set the state of all stored archives after the vault was replaced; returns their number.

    Listings of the old vault are deleted. Archives that catalogs condemn are condemned again when a list of
    the new vault shows them. Retired archives stay retired if the new state is unconfirmed.
    """
    number = stored.get_or_create_vault(tx, vault)
    lists = "SELECT number FROM listings WHERE vault = ?"
    changed(tx, f"DELETE FROM listed_archives WHERE listing IN ({lists})", (number,))
    changed(tx, "DELETE FROM listings WHERE vault = ?", (number,))
    doubted = SOUND if state is ArchiveState.LOST else (ArchiveState.STORED, ArchiveState.UNCONFIRMED)
    there = (*doubted, ArchiveState.CONDEMNED)
    sql = f"""UPDATE archives SET state = ? WHERE state IN ({marks(there)})
              AND domain IN (SELECT number FROM domains WHERE vault = ?)"""
    from backup.inventory.content import copied  # few vaults are ever replaced

    copied.lose_copies(tx, number)
    changed(tx, "UPDATE vaults SET heir_mark = NULL WHERE number = ?", (number,))  # it is left there, too
    return changed(tx, sql, (state, *there, number))
