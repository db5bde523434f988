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
    Column("stored_at", Long),
    Column("retry_at", Long),  # the vault refused to delete it: not to be asked again before
    Column("refusal", Text),
    Column("archive_id", Text),
    Column("version", Text),
    Column("upload_id", Text),
    Column("part_size", Long, nullable=False),
    Column("spool_file", Text, nullable=False),
    PrimaryKeyConstraint("archive", "vault"),
)

# Snapshots that another vault is to have, or that the job's catalogs there name.
copied_snapshots = Table(
    "copied_snapshots",
    TABLES,
    refers("job", "jobs.number"),
    refers("vault", "vaults.number"),
    Column("number", Long, nullable=False),
    Column("is_alone", Integer, nullable=False),  # 1: gone for good from the job's own vault
    Column("state", Text, nullable=False, server_default="copied"),  # copied.KeptThere
    Column("forgotten_at", Long),  # there
    PrimaryKeyConstraint("job", "number", "vault"),
)

# A stored catalog of the job in that vault says that the copy is condemned, since `at`.
condemned_copies = Table(
    "condemned_copies",
    TABLES,
    refers("archive", "archives.number"),
    refers("vault", "vaults.number"),
    refers("job", "jobs.number"),
    Column("at", Long, nullable=False),
    PrimaryKeyConstraint("archive", "vault", "job"),
)
