"""The tables of a center; `host_id` is first in each, and each row is seen by its host, or by who sees all.

`migrations/center` makes them, with the policies of row-level security.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
)

METADATA = MetaData()

# What a host has told altogether, as text: it is looked at by the program, never by the database. What all
# hosts are shown by is beside it, from `told_standing` on: the fields of `HostSummary`.
hosts = Table(
    "hosts",
    METADATA,
    Column("host_id", Text, primary_key=True),  # of trust anchor and subject: `identity.py`
    Column("name", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("anchor", Text, nullable=False),
    Column("certificate_ends", DateTime(timezone=True), nullable=False),
    Column("first_at", DateTime(timezone=True), nullable=False),  # by the center's clock, as all but told_at
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("told_at", DateTime(timezone=True)),  # by the host's clock
    Column("program", Text, nullable=False),
    Column("chain", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    Column("set_back_at", DateTime(timezone=True)),
    Column("set_back_why", Text),
    Column("removed_at", DateTime(timezone=True)),
    Column("told_standing", Text, nullable=False),
    Column("told_why", Text, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("good_since", DateTime(timezone=True)),
    Column("due_from", DateTime(timezone=True)),
    Column("due_job", Text),
    Column("bytes", BigInteger, nullable=False),
    Column("month", Numeric(18, 6), nullable=False),
    Column("currency", Text, nullable=False),
    Column("in_group", Text, nullable=False, server_default=""),
    Column("joined_at", DateTime(timezone=True)),
)

# Chains that a host has told in, so that none is begun twice; `told_at` is by the host's clock.
chains = Table(
    "chains",
    METADATA,
    Column("host_id", Text, ForeignKey("hosts.host_id", ondelete="CASCADE"), primary_key=True),
    Column("chain", Text, primary_key=True),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("told_at", DateTime(timezone=True)),
)

# How a host was on each day (UTC), by its last report of it; `standing` is the worst that it told.
days = Table(
    "days",
    METADATA,
    Column("host_id", Text, ForeignKey("hosts.host_id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("reports", Integer, nullable=False),
    Column("standing", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("good_since", DateTime(timezone=True)),
    Column("bytes", BigInteger, nullable=False),
    Column("month", Numeric(18, 6), nullable=False),
)

# Invitations to join, by the digest of their secret; seen by a transaction that names it, or sees all.
invites = Table(
    "invites",
    METADATA,
    Column("invite", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("in_group", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("used_by", Text),
)
