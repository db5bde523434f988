"""The tables of a center; `host_id` is first in each, and each row is seen by its host, or by who sees all.

`migrations/center` makes them, with the policies of row-level security.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, LargeBinary, MetaData, Table, Text

METADATA = MetaData()

# What a host has told altogether, as text: it is looked at by the program, never by the database.
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
)

# Chains that a host has told in, so that none is begun twice.
chains = Table(
    "chains",
    METADATA,
    Column("host_id", Text, ForeignKey("hosts.host_id", ondelete="CASCADE"), primary_key=True),
    Column("chain", Text, primary_key=True),
    Column("begun_at", DateTime(timezone=True), nullable=False),
)
