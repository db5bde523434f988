"""The tables of the inventory.

Times are whole microseconds since 1970, UTC. Numbers of entries, chunks, snapshots and catalogs are taken
from counters that are committed before use, so that none is ever given out twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
METADATA = MetaData(naming_convention=NAMES)
Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid alias must be called INTEGER

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Two days of room on either side, for time zones.
_FIRST = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """The aware UTC time of microseconds since 1970; beyond the calendar its first or last."""
    return _EPOCH + timedelta(microseconds=min(max(value, _FIRST), _LAST))


def _number() -> Column[int]:
    return Column("number", Long, primary_key=True)


def _refers(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Long, ForeignKey(target), nullable=nullable)


about = Table(
    "about",
    METADATA,
    Column("inventory_id", LargeBinary, primary_key=True),
    Column("signer_public", LargeBinary, nullable=False),
    Column("predecessor", LargeBinary),
    Column("created_at", Long, nullable=False),
)

counters = Table(
    "counters", METADATA, Column("name", Text, primary_key=True), Column("next", Long, nullable=False)
)

vaults = Table(
    "vaults",
    METADATA,
    _number(),
    Column("name", Text, nullable=False, unique=True),
    Column("identity", Text),  # identifies the vault itself; null: not known yet
)

domains = Table(
    "domains",
    METADATA,
    _number(),
    Column("id", LargeBinary, nullable=False, unique=True),
    _refers("vault", "vaults.number"),
    Column("recipients", LargeBinary, nullable=False),  # recipient ids, 16 bytes each, in order
    Column("created_at", Long, nullable=False),
)

jobs = Table(
    "jobs",
    METADATA,
    _number(),
    Column("id", LargeBinary, nullable=False, unique=True),  # 16 random bytes: its name in clear headers
    Column("name", Text, nullable=False, unique=True),
    _refers("vault", "vaults.number"),
    Column("next_snapshot", Long, nullable=False),
    Column("next_catalog", Long, nullable=False),
)

runs = Table(
    "runs",
    METADATA,
    _number(),
    Column("kind", Text, nullable=False),
    _refers("job", "jobs.number", nullable=True),
    Column("outcome", Text, nullable=False),
    Column("started_at", Long, nullable=False),
    Column("finished_at", Long),
    Column("snapshot_number", Long),  # allotted to this run, whether or not it is ever committed
    Column("prepared", LargeBinary),  # the snapshot that becomes true once the run's catalog is stored
    Column("report", Text),
)

snapshots = Table(
    "snapshots",
    METADATA,
    Column("id", Text, primary_key=True),
    _refers("job", "jobs.number"),
    Column("number", Long, nullable=False),
    _refers("run", "runs.number", nullable=True),
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
    UniqueConstraint("job", "number"),
)

owners = Table(
    "owners",
    METADATA,
    _number(),
    Column("uid", Long, nullable=False),
    Column("gid", Long, nullable=False),
    Column("user", Text, nullable=False),
    Column("group", Text, nullable=False),
    UniqueConstraint("uid", "gid", "user", "group"),
)

directories = Table(
    "directories",
    METADATA,
    _number(),
    _refers("job", "jobs.number"),
    Column("path", LargeBinary, nullable=False),
    UniqueConstraint("job", "path"),
)


def _entry_columns() -> list[Column[Any]]:
    return [
        Column("name", LargeBinary, nullable=False),
        Column("kind", Integer, nullable=False),
        Column("mode", Integer, nullable=False),
        Column("owner", Long, nullable=False),
        Column("mtime_ns", Long, nullable=False),
        Column("size", Long, nullable=False),
        Column("extra", LargeBinary),
        Column("content_id", LargeBinary),
        Column("chunks", LargeBinary),  # little-endian u32 chunk numbers, in order
    ]


def _hint_columns() -> list[Column[Any]]:
    return [
        Column("inode", Long, nullable=False),
        Column("ctime_ns", Long, nullable=False),
        Column("is_mount", Integer, nullable=False),  # 1: a directory that is another file system's root
    ]


# A row is one version of an entry: in snapshot n if added_in <= n and (removed_in is null or removed_in > n).
entries = Table(
    "entries",
    METADATA,
    _number(),
    _refers("directory", "directories.number"),
    *_entry_columns(),
    Column("added_in", Long, nullable=False),
    Column("removed_in", Long),
    UniqueConstraint("directory", "name", "added_in"),
)

hints = Table(
    "hints",
    METADATA,
    Column("entry", Long, ForeignKey("entries.number", ondelete="CASCADE"), primary_key=True),
    *_hint_columns(),
)

staged_entries = Table(
    "staged_entries",
    METADATA,
    _number(),
    _refers("run", "runs.number"),
    _refers("directory", "directories.number"),
    *_entry_columns(),
    *_hint_columns(),
)

staged_removals = Table(
    "staged_removals",
    METADATA,
    _refers("run", "runs.number"),
    _refers("entry", "entries.number"),
    PrimaryKeyConstraint("run", "entry"),
)

staged_hints = Table(
    "staged_hints",
    METADATA,
    _refers("run", "runs.number"),
    _refers("entry", "entries.number"),
    *_hint_columns(),
    PrimaryKeyConstraint("run", "entry"),
)

archives = Table(
    "archives",
    METADATA,
    _number(),
    _refers("domain", "domains.number"),
    _refers("run", "runs.number", nullable=True),
    Column("kind", Integer, nullable=False),
    Column("state", Text, nullable=False),  # archives.ArchiveState
    Column("pack_id", LargeBinary, nullable=False, unique=True),
    Column("header", LargeBinary, nullable=False),
    Column("size", Long, nullable=False),
    Column("tree_hash", LargeBinary, nullable=False),
    Column("archive_id", Text),
    Column("submitted_at", Long, nullable=False),
    Column("stored_at", Long),
    Index("ix_archives_run", "run"),
)

catalogs = Table(
    "catalogs",
    METADATA,
    Column("archive", Long, ForeignKey("archives.number"), primary_key=True),
    _refers("job", "jobs.number"),
    Column("number", Long, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("parent", LargeBinary),  # pack id of the catalog it builds on
    UniqueConstraint("job", "number", "generation"),
)

# Which archives a catalog names: a job's catalogs together name every archive that its entries need.
catalog_archives = Table(
    "catalog_archives",
    METADATA,
    _refers("catalog", "catalogs.archive"),
    _refers("archive", "archives.number"),
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
    _refers("archive", "archives.number"),
    _refers("job", "jobs.number"),
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
    _refers("archive", "archives.number"),
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
    _number(),
    Column("prefix", Long, nullable=False),  # the id's first 8 bytes as a signed integer
    Column("id", LargeBinary, nullable=False),
    _refers("archive", "archives.number"),
    Column("frame", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Index("ix_chunks_prefix", "prefix"),
    Index("ix_chunks_archive", "archive"),  # grows only at its end: a pack's chunks are inserted together
)

restores = Table(
    "restores",
    METADATA,
    _number(),
    Column("id", Text, nullable=False, unique=True),
    Column("snapshot", Text, ForeignKey("snapshots.id"), nullable=False),
    _refers("vault", "vaults.number"),
    Column("path", LargeBinary, nullable=False),
    Column("target", LargeBinary, nullable=False),
    Column("tier", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, done, cancelled
    Column("created_at", Long, nullable=False),
    Column("finished_at", Long),
    Column("on_capacity", Text),  # without capacity: wait, standard, bulk, fail
    Column("progress", LargeBinary),  # of earlier sessions: `restore_state.RestoreState`
    Column("choice", LargeBinary),  # the user's choice (`restorer.selection.choice`)
    Column("agreed", LargeBinary),  # the confirmed comparison with the target (`restorer.target.confirmed`)
)

retrievals = Table(
    "retrievals",
    METADATA,
    _number(),
    _refers("restore", "restores.number"),
    _refers("archive", "archives.number"),
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
    _number(),
    _refers("run", "runs.number"),
    _refers("archive", "archives.number"),
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
    Index("ix_readings_run", "run"),
    Index("ix_readings_archive", "archive"),
)

listings = Table(
    "listings",
    METADATA,
    _number(),
    _refers("vault", "vaults.number"),
    Column("token", Text, nullable=False, unique=True),
    Column("listing_id", Text),
    Column("state", Text, nullable=False),
    Column("requested_at", Long, nullable=False),
    Column("as_of", Long),
)

listed_archives = Table(
    "listed_archives",
    METADATA,
    _refers("listing", "listings.number"),
    Column("archive_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("size", Long, nullable=False),
    Column("tree_hash", LargeBinary),
    Column("created_at", Long, nullable=False),
    PrimaryKeyConstraint("listing", "archive_id"),
)
