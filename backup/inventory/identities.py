"""The recorded identity of a vault, and evidence of its contents by which another vault is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, update

from backup.inventory import archives as stored
from backup.inventory.archives import SOUND, ArchiveState
from backup.inventory.database import Transaction
from backup.inventory.schema import (
    archives,
    catalogs,
    domains,
    jobs,
    listed_archives,
    listings,
    moment,
    vaults,
)
from backup.inventory.stages import ListingStage
from backup.model import ArchiveId, InventoryId, JobName, PackId, PackKind, VaultIdentity, VaultName

_BATCH = 500


@dataclass(frozen=True, slots=True)
class KnownCatalog:
    """The newest catalog of a job that the inventory knows, stored or not."""

    job: JobName
    number: int
    submitted_at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """The newest archive that the inventory has in a vault: a catalog if there is one."""

    archive_id: ArchiveId
    kind: PackKind
    stored_at: datetime


def vault_identity(tx: Transaction, vault: VaultName) -> VaultIdentity | None:
    """The recorded identity of a vault; None if not yet known."""
    found = tx.execute(select(vaults.c.identity).where(vaults.c.name == vault)).scalar()
    return VaultIdentity(found) if found else None


def set_vault_identity(tx: Transaction, vault: VaultName, identity: VaultIdentity) -> None:
    """Record the identity of a vault."""
    number = stored.get_or_create_vault(tx, vault)
    tx.execute(update(vaults).where(vaults.c.number == number).values(identity=identity))


def evidence(tx: Transaction, vault: VaultName) -> Evidence | None:
    """The archive that the vault must show if it is the recorded one; None if nothing was stored."""
    query = (
        select(archives.c.archive_id, archives.c.kind, archives.c.stored_at)
        .select_from(archives.join(domains).join(vaults))
        .where(vaults.c.name == vault, archives.c.archive_id.is_not(None), archives.c.state.in_(SOUND))
        .order_by((archives.c.kind == PackKind.CATALOG).desc(), archives.c.number.desc())
    )
    row = tx.execute(query.limit(1)).first()
    return None if row is None else Evidence(row.archive_id, PackKind(row.kind), moment(row.stored_at or 0))


def was_used(tx: Transaction, vault: VaultName) -> bool:
    """Whether anything was ever stored in a vault of that name, even if lost since."""
    query = (
        select(archives.c.number)
        .select_from(archives.join(domains).join(vaults))
        .where(vaults.c.name == vault, archives.c.archive_id.is_not(None))
    )
    return tx.execute(query.limit(1)).first() is not None


def newest_known(tx: Transaction) -> dict[bytes, KnownCatalog]:
    """Each job's newest catalog, by the job's id."""
    newest = (
        select(catalogs.c.job, func.max(catalogs.c.number).label("number"))
        .group_by(catalogs.c.job)
        .subquery()
    )
    query = (
        select(jobs.c.id, jobs.c.name, catalogs.c.number, archives.c.submitted_at)
        .select_from(catalogs.join(archives, archives.c.number == catalogs.c.archive).join(jobs))
        .join(newest, (newest.c.job == catalogs.c.job) & (newest.c.number == catalogs.c.number))
    )
    return {
        row.id: KnownCatalog(JobName(row.name), row.number, moment(row.submitted_at))
        for row in tx.execute(query)
    }


def unknown_packs(tx: Transaction, packs: Iterable[PackId]) -> set[PackId]:
    """The packs among `packs` that this inventory never submitted."""
    asked = list(packs)
    known: set[PackId] = set()
    for start in range(0, len(asked), _BATCH):
        query = select(archives.c.pack_id).where(archives.c.pack_id.in_(asked[start : start + _BATCH]))
        known.update(tx.execute(query).scalars())
    return set(asked) - known


def kept_lines(tx: Transaction, vault: VaultName, inventory_id: InventoryId) -> list[tuple[str, datetime]]:
    """Description and time of an inventory's catalogs in the newest list of the vault that is kept."""
    newest = (
        select(func.max(listings.c.number))
        .join(vaults)
        .where(vaults.c.name == vault, listings.c.state == ListingStage.KEPT)
        .scalar_subquery()
    )
    query = select(listed_archives.c.description, listed_archives.c.created_at).where(
        listed_archives.c.listing == newest,
        listed_archives.c.description.contains(" catalog "),
        listed_archives.c.description.contains(f" {inventory_id.hex()} "),
    )
    return [(row.description, moment(row.created_at)) for row in tx.execute(query)]


def set_state_of_contents(tx: Transaction, vault: VaultName, state: ArchiveState) -> int:
    """Set the state of all stored archives, as another vault is there now; returns their number.

    Listings of the old one are deleted.
    """
    number = stored.get_or_create_vault(tx, vault)
    lists = select(listings.c.number).where(listings.c.vault == number)
    tx.execute(delete(listed_archives).where(listed_archives.c.listing.in_(lists)))
    tx.execute(delete(listings).where(listings.c.vault == number))
    ours = select(domains.c.number).where(domains.c.vault == number)
    there = archives.c.state.in_((*SOUND, ArchiveState.CONDEMNED))
    done = tx.execute(update(archives).where(archives.c.domain.in_(ours), there).values(state=state))
    return int(done.rowcount)
