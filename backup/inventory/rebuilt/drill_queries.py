"""Queries of a rebuild drill: what no record of a full catalog tells, and until when a state goes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from backup.inventory.content.archives import IN_VAULTS, ArchiveState
from backup.inventory.content.packed import chunk_prefix
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import raw_rows, row_of, value_of
from backup.inventory.store.times import micros
from backup.model import Generation, VaultName

NEVER: Final = 1 << 62
"""A number that no snapshot, catalog or entry gets."""
_CATALOGS = """SELECT a.pack_id, a.archive_id, a.number, a.state, coalesce(a.stored_at, a.submitted_at),
                      j.id, c.number, c.generation, c.parent
               FROM catalogs c JOIN archives a ON a.number = c.archive LEFT JOIN jobs j ON j.number = c.job"""
_LATER = """FROM catalogs c JOIN archives a ON a.number = c.archive JOIN domains d ON d.number = a.domain
            WHERE c.job = ? AND d.vault = ? AND c.number > ? AND c.generation = ?"""


class CatalogRow(Struct, frozen=True):
    """A catalog as the inventory records it; `job` is the job's id."""

    pack_id: bytes
    archive_id: str | None
    archive: int
    state: ArchiveState
    stored_at: int
    job: bytes | None
    number: int
    generation: int
    parent: bytes | None

    @property
    def shown(self) -> str:
        """Its name in findings."""
        return f"catalog {self.number}: {self.archive_id or self.pack_id.hex().upper()}"


class CatalogsRead(Struct, frozen=True):
    """The catalogs of which an inventory was rebuilt: their number and bytes."""

    count: int = 0
    size: int = 0


def later(tx: Transaction, job: JobRow, newest: int) -> tuple[bool, int]:
    """Whether a job's vault has deltas after the catalog of number `newest`, and the first snapshot of
    those."""
    values = (job.number, job.vault, newest, Generation.DELTA)
    has_moved = row_of(tx, f"SELECT 1 {_LATER} AND a.state <> ?", (*values, ArchiveState.SUBMITTED))
    runs = _LATER.replace("WHERE", "JOIN runs r ON r.number = a.run WHERE")
    first = value_of(tx, f"SELECT min(r.snapshot_number) {runs}", values)
    return has_moved is not None, NEVER if first is None else first


def catalogs_read(tx: Transaction) -> CatalogsRead:
    """The catalogs in a rebuilt inventory."""
    sql = "SELECT count(*), coalesce(sum(a.size), 0) FROM archives a JOIN catalogs c ON c.archive = a.number"
    return CatalogsRead(*row_of(tx, sql, ()))


def is_of_several_jobs(tx: Transaction, archive: int) -> bool:
    """Whether catalogs of several jobs name that archive."""
    sql = """SELECT count(DISTINCT c.job) FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
             WHERE n.archive = ?"""
    return int(value_of(tx, sql, (archive,))) > 1


def all_catalogs(tx: Transaction) -> Iterator[CatalogRow]:
    """All catalogs of all jobs."""
    for pack, archive_id, archive, state, *rest in raw_rows(tx, _CATALOGS, ()):
        yield CatalogRow(pack, archive_id, archive, ArchiveState(state), *rest)


def jobs_of(tx: Transaction, vault: VaultName | None) -> list[JobRow]:
    """The jobs of a vault, or all, by number."""
    sql = """SELECT j.number, j.id, j.name, j.vault, j.made_by, j.nonce
             FROM jobs j JOIN vaults v ON v.number = j.vault
             WHERE v.name = coalesce(?, v.name) ORDER BY j.number"""
    return [JobRow(*row) for row in raw_rows(tx, sql, (vault,))]


def archives_by_pack(tx: Transaction, vault: VaultName | None) -> list[int]:
    """The numbers of all archives, or of those of a vault, in the order of their pack ids."""
    sql = f"SELECT a.number FROM {IN_VAULTS} WHERE v.name = coalesce(?, v.name) ORDER BY a.pack_id"
    return [number for (number,) in raw_rows(tx, sql, (vault,))]


def named_by(tx: Transaction, pack_id: bytes) -> set[int]:
    """The archives that the catalog in a pack names."""
    sql = """SELECT n.archive FROM catalog_archives n JOIN archives a ON a.number = n.catalog
             WHERE a.pack_id = ?"""
    return {number for (number,) in raw_rows(tx, sql, (pack_id,))}


def has_catalog_before(tx: Transaction, job: JobRow, until: datetime | None) -> bool:
    """Whether a job's vault had a catalog of it before `until`; False where that is None."""
    sql = """SELECT 1 FROM catalogs c JOIN archives a ON a.number = c.archive
             JOIN domains d ON d.number = a.domain
             WHERE c.job = ? AND d.vault = ? AND a.state <> ? AND a.stored_at < ?"""
    values = (job.number, job.vault, ArchiveState.SUBMITTED, 0 if until is None else micros(until))
    return row_of(tx, sql, values) is not None


def restored_snapshots(tx: Transaction) -> set[str]:
    """The ids of the snapshots that restores were of."""
    return {snapshot for (snapshot,) in raw_rows(tx, "SELECT DISTINCT snapshot FROM restores", ())}


def path_of_directory(tx: Transaction, number: int) -> bytes:
    """The path of a directory; of one that is not there, nothing."""
    return value_of(tx, "SELECT path FROM directories WHERE number = ?", (number,)) or b""


def wrong_prefixes(tx: Transaction) -> Iterator[tuple[int, int]]:
    """Chunks whose prefix is not that of their id, which is computed anew: number and prefix."""
    tx.connection.create_function("prefix_of", 1, chunk_prefix, deterministic=True)
    return raw_rows(tx, "SELECT number, prefix FROM chunks WHERE prefix <> prefix_of(id)", ())
