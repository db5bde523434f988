"""The tables of a center; `host_id` is first in each, and each row is seen by its host, or by who sees all.

`migrations/center` makes them, with the policies of row-level security.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Boolean,
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
MOMENT = DateTime(timezone=True)

# What a host has told altogether, as text: it is looked at by the program, never by the database. What all
# hosts are shown by is beside it, from `told_standing` on: the fields of `HostSummary`.
hosts = Table(
    "hosts",
    METADATA,
    Column("host_id", Text, primary_key=True),  # of trust anchor and subject: `identity.py`
    Column("name", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("anchor", Text, nullable=False),
    Column("certificate_ends", MOMENT, nullable=False),
    Column("first_at", MOMENT, nullable=False),  # by the center's clock, as all but told_at
    Column("last_at", MOMENT, nullable=False),
    Column("told_at", MOMENT),  # by the host's clock
    Column("program", Text, nullable=False),
    Column("chain", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    Column("set_back_at", MOMENT),
    Column("set_back_why", Text),
    Column("told_standing", Text, nullable=False),
    Column("told_why", Text, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("good_since", MOMENT),
    Column("due_from", MOMENT),
    Column("due_job", Text),
    Column("bytes", BigInteger, nullable=False),
    Column("month", Numeric(18, 6), nullable=False),
    Column("currency", Text, nullable=False),
    Column("in_group", Text, nullable=False, server_default=""),
    Column("joined_at", MOMENT),
    Column("stands_since", MOMENT, nullable=False),  # since when it tells the same `told_standing`
    Column("contradicted_at", MOMENT),  # since when its vault lacks what it says was stored; `bucket.py`
    Column("contradicted_why", Text),
    Column("silence_told_at", MOMENT),  # when people were told that it is silent; NULL when it tells again
)

# Chains that a host has told in, so that none is begun twice; `told_at` is by the host's clock.
chains = Table(
    "chains",
    METADATA,
    Column("host_id", Text, ForeignKey("hosts.host_id", ondelete="CASCADE"), primary_key=True),
    Column("chain", Text, primary_key=True),
    Column("begun_at", MOMENT, nullable=False),
    Column("told_at", MOMENT),
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
    Column("good_since", MOMENT),
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
    Column("made_at", MOMENT, nullable=False),
    Column("ends_at", MOMENT, nullable=False),
    Column("used_by", Text),
)

# Why a host, or each of a group, may be silent or not well without anybody being told: `excuses.py`.
excuses = Table(
    "excuses",
    METADATA,
    Column("excuse", Text, primary_key=True),
    Column("host_id", Text, ForeignKey("hosts.host_id", ondelete="CASCADE")),
    Column("in_group", Text),
    Column("kind", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", MOMENT, nullable=False),
    Column("begins_at", MOMENT, nullable=False),
    Column("ends_at", MOMENT, nullable=False),
)

# One row: when the center looked last for who is silent, and since when it has listened without a gap.
watches = Table(
    "watches",
    METADATA,
    Column("watch", Integer, primary_key=True),
    Column("looked_at", MOMENT),
    Column("listening_since", MOMENT),
)

# Groups of which people were told that servers are silent; not again before `next_at`.
alarms = Table(
    "alarms",
    METADATA,
    Column("in_group", Text, primary_key=True),
    Column("is_open", Boolean, nullable=False),
    Column("times", Integer, nullable=False),
    Column("next_at", MOMENT, nullable=False),
)

# Messages to people that no channel has taken yet; each is sent with the same id until it was answered.
letters = Table(
    "letters",
    METADATA,
    Column("letter", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("made_at", MOMENT, nullable=False),
    Column("document", Text, nullable=False),
    Column("next_at", MOMENT, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("answer", Text),
)

# Prefixes in buckets where hosts put reports: S3's time up to which they were read, and what was read lately,
# as JSON: `bucket.py`.
places = Table(
    "places",
    METADATA,
    Column("place", Text, primary_key=True),
    Column("read_to", MOMENT, nullable=False),
    Column("names", Text, nullable=False),
    Column("host_id", Text),  # whose reports were taken there last
    Column("compared_at", MOMENT),
)


def row_security(
    table: str, column: str | None = "host_id", setting: str = "nightvault.host"
) -> Sequence[str]:
    """Statements of migrations that show a row only to a transaction that names it, or sees all.

    Without a column only to one that sees all. They bind the tables' owner, too. Migrations of before rest on
    them: never change what they do.
    """
    seen = "current_setting('nightvault.sees', true) = 'all'"
    if column is not None:
        seen = f"{column} = current_setting('{setting}', true) OR {seen}"
    policy = f"of_{(column or 'center').removesuffix('_id')}"
    return (
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY {policy} ON {table} USING ({seen}) WITH CHECK ({seen})",
    )
