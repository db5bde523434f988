"""The tables of this machine: what was mounted where, containers to start again, locks and holds."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from backup.inventory.store.columns import TABLES, Long, number, refers

# The file system that was mounted at a place when a job last ran: another one in its place is told.
disks = Table(
    "disks",
    TABLES,
    refers("job", "jobs.number"),
    Column("path", LargeBinary, nullable=False),
    Column("identity", Text, nullable=False),
    PrimaryKeyConstraint("job", "path"),
)

# A row is made before the container is stopped, and removed once it runs again. `started_at`: when it last
# began to run; `finished_at` is null until it was seen stopped. Both are times of the engine.
stopped_containers = Table(
    "stopped_containers",
    TABLES,
    number(),
    Column("socket", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("since", Long, nullable=False),
    Column("grace", Integer, nullable=False),
    Column("started_at", Long, nullable=False),
    Column("finished_at", Long),
)

# The end of an object's lock, as the vault has answered it; `key` is an archive's id, or that of an identity
# or a mark.
locks = Table(
    "locks",
    TABLES,
    refers("vault", "vaults.number"),
    Column("key", Text, nullable=False),
    Column("until", Long, nullable=False),
    PrimaryKeyConstraint("vault", "key"),
)

# An object that was put under a legal hold for a snapshot, whose id stays when it is forgotten.
legal_holds = Table(
    "legal_holds",
    TABLES,
    refers("vault", "vaults.number"),
    Column("key", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
    PrimaryKeyConstraint("vault", "key", "snapshot"),
)

# Until when a job's snapshots restore whatever an intruder does, as it was last found out: `nights` of them,
# the newest begun at `newest`; null: something that they need is not locked.
lock_dates = Table(
    "lock_dates",
    TABLES,
    refers("job", "jobs.number"),
    refers("vault", "vaults.number"),
    Column("nights", Long, nullable=False),
    Column("newest", Long, nullable=False),
    Column("until", Long),
    Column("as_of", Long, nullable=False),
    PrimaryKeyConstraint("job", "vault"),
)

# A lock of a Glacier vault that was begun here: gone at `ends_at`, unless it was completed at `locked_at`.
vault_locks = Table(
    "vault_locks",
    TABLES,
    refers("vault", "vaults.number"),
    Column("lock_id", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("ends_at", Long, nullable=False),
    Column("days", Long, nullable=False),
    Column("locked_at", Long),
    PrimaryKeyConstraint("vault"),
)

# A kind of settings of a bucket, as sentences (JSON), and those that it had before `since`.
bucket_settings = Table(
    "bucket_settings",
    TABLES,
    refers("vault", "vaults.number"),
    Column("what", Text, nullable=False),
    Column("told", Text, nullable=False),
    Column("told_before", Text, nullable=False),
    Column("since", Long, nullable=False),
    Column("looked_at", Long, nullable=False),
    PrimaryKeyConstraint("vault", "what"),
)
