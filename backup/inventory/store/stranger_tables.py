"""The tables of strangers, other inventories that write into a vault, and of a person's answers on them."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, PrimaryKeyConstraint, Table, Text

from backup.inventory.store.columns import TABLES, Long, refers

# Inventories outside this one's lineage that wrote catalogs of its jobs, or that say they go on with it. A
# row for each pair of inventory and job (zeros: a mark alone); it stands in the way of deletions until a
# person answered. `pack`: its newest catalog, or the heir of a mark.
strangers = Table(
    "strangers",
    TABLES,
    refers("vault", "vaults.number"),
    Column("inventory", LargeBinary, nullable=False),
    Column("job", LargeBinary, nullable=False),
    Column("pack", LargeBinary, nullable=False),
    Column("number", Long, nullable=False),
    Column("seen_at", Long, nullable=False),
    Column("told_at", Long),  # a backup named it, with exit code 3
    Column("accepted_by", Text),
    Column("accepted_at", Long),
    PrimaryKeyConstraint("vault", "inventory", "job"),
)

# Catalogs of ancestors that the rebuild saw and did without, or that a person knows of.
passed_catalogs = Table("passed_catalogs", TABLES, Column("pack", LargeBinary, primary_key=True))
