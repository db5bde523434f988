"""Inventories outside this one's lineage that write catalogs of its jobs, and a person's answers on them.

One row for each pair of inventory and job. Until it is answered, nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from backup.inventory.content import archives as stored
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_tuples, marks, raw_rows
from backup.inventory.store.states import ListingStage
from backup.inventory.store.times import micros, moment
from backup.lineage import Stranger
from backup.model import InventoryId, JobName, PackId, VaultName

_BATCH = 500
_COLUMNS = "s.inventory, s.job, s.pack, s.number, v.name, j.name, s.seen_at, s.told_at"


class OpenStranger(Struct, frozen=True):
    """A pair of inventory and job without an answer; `job` is its name, None for a mark."""

    stranger: Stranger
    vault: VaultName
    job: JobName | None
    seen_at: datetime
    was_told: bool

    @property
    def pack(self) -> str:
        """The value for `--accept`: the pack's id in hex, of a mark the heir's."""
        return self.stranger.pack_id.hex()

    def text(self) -> str:
        """A sentence on what was found."""
        whose = f"inventory {self.stranger.inventory_id.hex()}, which nothing proves to be this server's"
        if self.stranger.is_mark:
            return f"vault {self.vault} has a mark that {whose}, goes on with this server's jobs"
        what = f"catalog {self.stranger.number} of job {self.job} (pack {self.pack})"
        return f"vault {self.vault} holds {what} by {whose}"


def note_strangers(
    tx: Transaction, vault: VaultName, found: Iterable[Stranger], now: datetime
) -> list[OpenStranger]:
    """Record strangers that were found in a vault; returns all of that vault without an answer."""
    number = stored.get_or_create_vault(tx, vault)
    rows = [
        (number, stranger.inventory_id, stranger.job_id, stranger.pack_id, stranger.number, micros(now))
        for stranger in found
    ]
    columns = ("vault", "inventory", "job", "pack", "number", "seen_at")
    insert_tuples(tx, "strangers", columns, rows, only_new=True)
    return open_strangers(tx, vault)


def open_strangers(tx: Transaction, vault: VaultName | None = None) -> list[OpenStranger]:
    """The strangers of a vault, or of all vaults, without an answer."""
    sql = f"""SELECT {_COLUMNS} FROM strangers s JOIN vaults v ON v.number = s.vault
              LEFT JOIN jobs j ON j.id = s.job WHERE s.accepted_at IS NULL"""
    sql += "" if vault is None else " AND v.name = ?"
    rows = raw_rows(tx, f"{sql} ORDER BY v.name, s.inventory, s.job", () if vault is None else (vault,))
    return [
        OpenStranger(
            Stranger(InventoryId(inventory), job, PackId(pack), number),
            VaultName(name),
            JobName(job_name) if job_name else None,
            moment(seen_at),
            told_at is not None,
        )
        for inventory, job, pack, number, name, job_name, seen_at, told_at in rows
    ]


def mark_told(tx: Transaction, vault: VaultName, now: datetime) -> None:
    """Note that a run named the strangers of a vault."""
    sql = """UPDATE strangers SET told_at = ? WHERE told_at IS NULL
             AND vault = (SELECT number FROM vaults WHERE name = ?)"""
    changed(tx, sql, (micros(now), vault))


def answer(
    tx: Transaction, vault: VaultName, who: str, now: datetime, inventories: Collection[bytes]
) -> list[Stranger]:
    """Record a person's answer for all open pairs of these inventories."""
    left = open_strangers(tx, vault)
    found = [stranger.stranger for stranger in left if stranger.stranger.inventory_id in inventories]
    for stranger in found:
        sql = """UPDATE strangers SET accepted_by = ?, accepted_at = ? WHERE inventory = ? AND job = ?
                 AND vault = (SELECT number FROM vaults WHERE name = ?)"""
        changed(tx, sql, (who, micros(now), stranger.inventory_id, stranger.job_id, vault))
    return found


def answered_pairs(tx: Transaction, vault: VaultName) -> set[tuple[bytes, bytes]]:
    """The pairs of inventory and job that a person has answered."""
    sql = """SELECT s.inventory, s.job FROM strangers s JOIN vaults v ON v.number = s.vault
             WHERE v.name = ? AND s.accepted_at IS NOT NULL"""
    return {(row[0], row[1]) for row in raw_rows(tx, sql, (vault,))}


# Catalogs of ancestors that nobody has to ask for.


def pass_catalogs(tx: Transaction, packs: Iterable[bytes]) -> None:
    """Record catalogs of ancestors that a person accepted."""
    insert_tuples(tx, "passed_catalogs", ("pack",), [(pack,) for pack in packs], only_new=True)


def passed_catalogs(tx: Transaction) -> set[bytes]:
    """The catalogs of ancestors that the rebuild did without, or that a person knows of."""
    return {row[0] for row in raw_rows(tx, "SELECT pack FROM passed_catalogs", ())}


# What a kept list shows.


def shown_catalogs(
    tx: Transaction, vault: VaultName, inventory_id: InventoryId, jobs: Sequence[bytes]
) -> list[tuple[str, datetime]]:
    """Description and time of what the newest kept list shows of an inventory, its jobs and its heirs."""
    names = [job.hex() for job in jobs][:_BATCH]
    sql = f"""SELECT description, created_at FROM listed_archives
              WHERE listing = (SELECT max(l.number) FROM listings l JOIN vaults v ON v.number = l.vault
                               WHERE v.name = ? AND l.state = ?)
                AND ((description LIKE '% catalog %'
                      AND (description LIKE ? OR substr(description, -32) IN ({marks(names)})))
                     OR description LIKE ?)"""
    own = inventory_id.hex()
    values = (vault, ListingStage.KEPT, f"% {own} %", *names, f"meta/{own}/heir-%")
    return [(described, moment(created_at)) for described, created_at in raw_rows(tx, sql, values)]


def job_ids(tx: Transaction, vault: VaultName) -> list[bytes]:
    """The ids of a vault's jobs."""
    sql = "SELECT j.id FROM jobs j JOIN vaults v ON v.number = j.vault WHERE v.name = ? ORDER BY j.number"
    return [row[0] for row in raw_rows(tx, sql, (vault,))]


def heir_mark(tx: Transaction, vault: VaultName) -> str:
    """The mark that this inventory left last in a vault; empty if it left none."""
    rows = raw_rows(tx, "SELECT heir_mark FROM vaults WHERE name = ?", (vault,))
    return next((row[0] or "" for row in rows), "")


def set_heir_mark(tx: Transaction, vault: VaultName, text: str) -> None:
    """Record the mark that was left in a vault."""
    changed(tx, "UPDATE vaults SET heir_mark = ? WHERE name = ?", (text, vault))
