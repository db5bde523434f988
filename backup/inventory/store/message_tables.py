"""The tables of messages to people, their deliveries and told states; of what centers were told."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text

from backup.inventory.store.columns import TABLES, Long

# A message is a row before it is sent. No two have the same key, so none is made twice.
messages = Table(
    "messages",
    TABLES,
    Column("number", Long, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # messages.MessageKind
    Column("job", Text),  # the name; null: of a vault, or the server
    Column("run", Long, ForeignKey("runs.number")),
    Column("created_at", Long, nullable=False),
    Column("title", Text, nullable=False),
    Column("document", Text, nullable=False),  # JSON: all that it tells
)

deliveries = Table(
    "deliveries",
    TABLES,
    Column("message", Long, ForeignKey("messages.number", ondelete="CASCADE"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),  # messages.DeliveryState
    Column("attempts", Integer, nullable=False),
    Column("next_at", Long, nullable=False),  # not to be tried before
    Column("ended_at", Long),
    Column("answer", Text),  # the receiver's last one, or why there was none
    PrimaryKeyConstraint("message", "channel"),
    Index("ix_deliveries_state", "state"),
)

# A state that lasts and was told of: it is told again once a day, and its end.
conditions = Table(
    "conditions",
    TABLES,
    Column("subject", Text, primary_key=True),  # such as "backup/JOB"
    Column("level", Integer, nullable=False),  # a higher one is told of at once
    Column("since", Long, nullable=False),
    Column("told_on", Text, nullable=False),  # the local day, as in 2026-11-26
)

# What a center was told, as JSON, and the report that it has not answered yet, with what it will know then.
center_chains = Table(
    "center_chains",
    TABLES,
    Column("center", Text, primary_key=True),  # its address
    Column("chain", Text, nullable=False),
    Column("number", Long, nullable=False),  # of the last report that was answered
    Column("told", Text, nullable=False),
    Column("report", Text),
    Column("then_told", Text),
)
