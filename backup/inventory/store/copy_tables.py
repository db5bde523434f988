"""The tables of copies: archives whose packs lie in other vaults, too, and snapshots that are said there."""

from __future__ import annotations

from sqlalchemy import Column, Integer, PrimaryKeyConstraint, Table, Text

from backup.inventory.store.columns import TABLES, Long, refers

# The pack of an archive in another vault, sealed as it was: `domain` is one of that vault. A row is made
# before the first byte is sent.
copies = Table(
    "copies",
    TABLES,
    refers("archive", "archives.number"),
    refers("vault", "vaults.number"),
    refers("domain", "domains.number"),
    Column("state", Text, nullable=False),  # archives.ArchiveState
    Column("since", Long, nullable=False),  # when it came into that state
    Column("archive_id", Text),
    Column("version", Text),
    Column("upload_id", Text),
    Column("part_size", Long, nullable=False),
    Column("spool_file", Text, nullable=False),
    PrimaryKeyConstraint("archive", "vault"),
)

# Snapshots that the job's catalogs in another vault name.
copied_snapshots = Table(
    "copied_snapshots",
    TABLES,
    refers("job", "jobs.number"),
    refers("vault", "vaults.number"),
    Column("number", Long, nullable=False),
    Column("is_alone", Integer, nullable=False),  # 1: gone for good from the job's own vault
    PrimaryKeyConstraint("job", "number", "vault"),
)
