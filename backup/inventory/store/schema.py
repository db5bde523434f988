"""The tables of the inventory; times are microseconds since 1970, UTC.

Numbers of entries, chunks, snapshots and catalogs come from counters that are committed before use.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

import backup.inventory.store.copy_tables
import backup.inventory.store.drill_tables
import backup.inventory.store.machine_tables
import backup.inventory.store.message_tables
import backup.inventory.store.stranger_tables  # noqa: F401  their tables are of the schema, too
from backup.inventory.store.columns import TABLES, Long, entry_columns, hint_columns, number, refers

METADATA = (
    TABLES  # those below, of copies, drills, this machine, messages, and of who else writes into a vault
)

about = Table(
    "about",
    METADATA,
    Column("inventory_id", LargeBinary, primary_key=True),
    Column("signer_public", LargeBinary, nullable=False),
    Column("predecessor", LargeBinary),
    Column("created_at", Long, nullable=False),
    Column("ancestors", LargeBinary),  # the predecessor and those before it, nearest first, 16 bytes each
)

counters = Table(
    "counters", METADATA, Column("name", Text, primary_key=True), Column("next", Long, nullable=False)
)

vaults = Table(
    "vaults",
    METADATA,
    number(),
    Column("name", Text, nullable=False, unique=True),
    Column("identity", Text),  # identifies the vault itself; null: not known yet
    Column("heir_mark", Text),  # the mark that was left in it last, where this inventory has a predecessor
)

domains = Table(
    "domains",
    METADATA,
    number(),
    Column("id", LargeBinary, nullable=False, unique=True),
    refers("vault", "vaults.number"),
    Column("recipients", LargeBinary, nullable=False),  # recipient ids, 16 bytes each, in order
    Column("created_at", Long, nullable=False),
)

jobs = Table(
    "jobs",
    METADATA,
    number(),
    Column("id", LargeBinary, nullable=False, unique=True),  # 16 random bytes: its name in clear headers
    Column("name", Text, nullable=False, unique=True),
    refers("vault", "vaults.number"),
    Column("next_snapshot", Long, nullable=False),
    Column("next_catalog", Long, nullable=False),
    Column("made_by", LargeBinary),  # the inventory that made it; its id follows from that and the nonce
    Column("nonce", LargeBinary),
    Column("usual_from", Long),  # the newest accepted snapshot: what those before it held is not asked for
)

runs = Table(
    "runs",
    METADATA,
    number(),
    Column("kind", Text, nullable=False),
    refers("job", "jobs.number", nullable=True),
    Column("outcome", Text, nullable=False),
    Column("started_at", Long, nullable=False),
    Column("finished_at", Long),
    Column("snapshot_number", Long),  # allotted to this run, whether or not it is ever committed
    Column("prepared", LargeBinary),  # the snapshot that becomes true once the run's catalog is stored
    Column("report", Text),
    Column("copied_to", Long),  # the other vault whose catalogs this run stores; null: the job's own
    Column("noticed", Integer),  # null: nobody looked yet whether to tell of it
    Index("ix_runs_unnoticed", "number", sqlite_where=text("noticed IS NULL")),
)

snapshots = Table(
    "snapshots",
    METADATA,
    Column("id", Text, primary_key=True),
    refers("job", "jobs.number"),
    Column("number", Long, nullable=False),
    refers("run", "runs.number", nullable=True),
    Column("started_at", Long, nullable=False),
    Column("finished_at", Long, nullable=False),
    Column("host", Text, nullable=False),
    Column("sources", LargeBinary, nullable=False),
    Column("problems", LargeBinary, nullable=False),
    Column("files", Long, nullable=False),
    Column("bytes", Long, nullable=False),
    Column("forgotten_at", Long),  # null: kept
    Column("tags", Text),  # a JSON list in order; null: none
    Column("pin_note", Text),  # null: not pinned
    Column("pin_until", Long),
    Column("counts", LargeBinary),  # files and bytes of each source; null: not known
    Column("shrunk", LargeBinary),  # sources that lost nearly everything (`shrunk.Lost`); null: none
    Column("roots", LargeBinary),  # the real path of each source; null: not known
    UniqueConstraint("job", "number"),
)

owners = Table(
    "owners",
    METADATA,
    number(),
    Column("uid", Long, nullable=False),
    Column("gid", Long, nullable=False),
    Column("user", Text, nullable=False),
    Column("group", Text, nullable=False),
    UniqueConstraint("uid", "gid", "user", "group"),
)

directories = Table(
    "directories",
    METADATA,
    number(),
    refers("job", "jobs.number"),
    Column("path", LargeBinary, nullable=False),
    UniqueConstraint("job", "path"),
)

dumps = Table(
    "dumps",
    METADATA,
    Column("entry", Long, primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=False) for name in ("engine", "database", "version", "charset")),
    *(Column(name, LargeBinary, nullable=False) for name in ("back", "tables")),
)

# A row is one version of an entry: in snapshot n if added_in <= n and (removed_in is null or removed_in > n).
entries = Table(
    "entries",
    METADATA,
    number(),
    refers("directory", "directories.number"),
    *entry_columns(),
    Column("added_in", Long, nullable=False),
    Column("removed_in", Long),
    UniqueConstraint("directory", "name", "added_in"),
    # What one night changed, for pages. A night's rows get the same number: the indexes grow at one place.
    Index("ix_entries_added_in", "added_in"),
    Index("ix_entries_removed_in", "removed_in", sqlite_where=text("removed_in IS NOT NULL")),
)

hints = Table(
    "hints",
    METADATA,
    Column("entry", Long, ForeignKey("entries.number", ondelete="CASCADE"), primary_key=True),
    *hint_columns(),
)

# Run and directory are not foreign keys: SQLite would look each up, and could not empty the table at once.
staged_entries = Table(
    "staged_entries",
    METADATA,
    number(),
    Column("run", Long, nullable=False),
    Column("directory", Long, nullable=False),
    *entry_columns(),
    *hint_columns(),
)

staged_removals = Table(
    "staged_removals",
    METADATA,
    refers("run", "runs.number"),
    refers("entry", "entries.number"),
    PrimaryKeyConstraint("run", "entry"),
)

staged_hints = Table(
    "staged_hints",
    METADATA,
    refers("run", "runs.number"),
    refers("entry", "entries.number"),
    *hint_columns(),
    PrimaryKeyConstraint("run", "entry"),
)

archives = Table(
    "archives",
    METADATA,
    number(),
    refers("domain", "domains.number"),
    refers("run", "runs.number", nullable=True),
    Column("kind", Integer, nullable=False),
    Column("state", Text, nullable=False),  # archives.ArchiveState
    Column("pack_id", LargeBinary, nullable=False, unique=True),
    Column("header", LargeBinary, nullable=False),
    Column("size", Long, nullable=False),
    Column("tree_hash", LargeBinary, nullable=False),
    Column("archive_id", Text),
    Column("submitted_at", Long, nullable=False),
    Column("stored_at", Long),
    Column("taken_up_at", Long),  # built upon again once a list made later shows it
    Column("version", Text),  # the vault's word for one of several objects of that archive id
    Index("ix_archives_run", "run"),
)

catalogs = Table(
    "catalogs",
    METADATA,
    Column("archive", Long, ForeignKey("archives.number"), primary_key=True),
    refers("job", "jobs.number"),
    Column("number", Long, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("parent", LargeBinary),  # pack id of the catalog it builds on
    UniqueConstraint("job", "number", "generation"),
)

# Which archives a catalog names: a job's together name every archive that its entries need.
catalog_archives = Table(
    "catalog_archives",
    METADATA,
    refers("catalog", "catalogs.archive"),
    refers("archive", "archives.number"),
    PrimaryKeyConstraint("catalog", "archive"),
)

uploads = Table(
    "uploads",
    METADATA,
    Column("archive", Long, ForeignKey("archives.number"), primary_key=True),
    Column("upload_id", Text),
    Column("part_size", Long, nullable=False),
    Column("spool_file", Text, nullable=False),
)

# A stored catalog of the job says that the archive is condemned, since `at`.
condemnations = Table(
    "condemnations",
    METADATA,
    refers("archive", "archives.number"),
    refers("job", "jobs.number"),
    Column("at", Long, nullable=False),
    PrimaryKeyConstraint("archive", "job"),
)

# An archive whose deletion was decided: nothing brings it back from then on, unless the vault refused.
deletions = Table(
    "deletions",
    METADATA,
    Column("archive", Long, ForeignKey("archives.number"), primary_key=True),
    Column("decided_at", Long, nullable=False),
    Column("deleted_at", Long),
    Column("retry_at", Long),  # the vault refused: not to be asked again before
    Column("refusal", Text),
)

frames = Table(
    "frames",
    METADATA,
    refers("archive", "archives.number"),
    Column("number", Integer, nullable=False),
    Column("offset", Long, nullable=False),
    Column("sealed_length", Long, nullable=False),
    Column("raw_length", Long, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("archive", "number"),
    sqlite_with_rowid=False,
)

chunks = Table(
    "chunks",
    METADATA,
    number(),
    Column("prefix", Long, nullable=False),  # the id's first 8 bytes as a signed integer
    Column("id", LargeBinary, nullable=False),
    refers("archive", "archives.number"),
    Column("frame", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Index("ix_chunks_archive", "archive"),  # grows only at its end: a pack's chunks are inserted together
)

# Chunks by what their ids begin with. An index would take each row when the chunk is inserted, in random
# order: a table takes a pack's rows in its own order (`packed.insert_chunks`).
chunk_prefixes = Table(
    "chunk_prefixes",
    METADATA,
    Column("prefix", Long, nullable=False),
    Column("chunk", Long, nullable=False),
    PrimaryKeyConstraint("prefix", "chunk"),
    sqlite_with_rowid=False,
)

restores = Table(
    "restores",
    METADATA,
    number(),
    Column("id", Text, nullable=False, unique=True),
    Column("snapshot", Text, ForeignKey("snapshots.id"), nullable=False),
    refers("vault", "vaults.number"),
    Column("path", LargeBinary, nullable=False),
    Column("target", LargeBinary, nullable=False),
    Column("tier", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, done, cancelled
    Column("created_at", Long, nullable=False),
    Column("finished_at", Long),
    Column("on_capacity", Text),  # without capacity: wait, standard, bulk, fail
    Column("progress", LargeBinary),  # of earlier sessions: `restore_state.RestoreState`
    Column("choice", LargeBinary),  # the user's choice (`restorer.selection.choice`)
    Column("agreed", LargeBinary),  # the confirmed comparison with the target (`restorer.writer.confirmed`)
)

retrievals = Table(
    "retrievals",
    METADATA,
    number(),
    refers("restore", "restores.number"),
    refers("archive", "archives.number"),
    Column("start", Long, nullable=False),
    Column("end", Long, nullable=False),
    Column("tier", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("retrieval_id", Text),
    Column("state", Text, nullable=False),  # planned, waiting, ready, fetched, failed
    Column("requested_at", Long),
    Column("asked_from", Long),  # the range of the vault's output, which may be another restore's: what is
    Column("asked_to", Long),  # left of start to end lies within
    Column("written_to", Long),  # all needed frames before it are on the target's disk
    Column("until", Long),  # how long the output lives, as far as we know
    Index("ix_retrievals_restore", "restore"),
    Index("ix_retrievals_archive", "archive"),
)

# A piece of an archive that a check reads: frames that begin in start to end, in the output asked_from to
# asked_to. Those that were read stay, so that the next check takes what was never or longest ago read.
readings = Table(
    "readings",
    METADATA,
    number(),
    refers("run", "runs.number"),
    refers("archive", "archives.number"),
    Column("start", Long, nullable=False),
    Column("end", Long, nullable=False),
    Column("asked_from", Long, nullable=False),
    Column("asked_to", Long, nullable=False),
    Column("tier", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("retrieval_id", Text),
    Column("state", Text, nullable=False),  # planned, waiting, read
    Column("requested_at", Long),
    Column("read_at", Long),
    Column("result", LargeBinary),  # the checker's result
    Column("proven", Integer),  # readings.Grade; null: not, or not as it was stored
    Column("copied_to", Long),  # the other vault whose copy is read; null: the archive's own
    Index("ix_readings_run", "run"),
    Index("ix_readings_archive", "archive"),
)

listings = Table(
    "listings",
    METADATA,
    number(),
    refers("vault", "vaults.number"),
    Column("token", Text, nullable=False, unique=True),
    Column("listing_id", Text),
    Column("state", Text, nullable=False),
    Column("requested_at", Long, nullable=False),
    Column("as_of", Long),
)

listed_archives = Table(
    "listed_archives",
    METADATA,
    refers("listing", "listings.number"),
    Column("archive_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("size", Long, nullable=False),
    Column("tree_hash", LargeBinary),
    Column("created_at", Long, nullable=False),
    Column("version", Text),  # as of `archives`; null: the vault has none
    PrimaryKeyConstraint("listing", "archive_id"),
)
