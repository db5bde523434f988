"""Messages to people, how far each is delivered, the states that were told of; which runs were looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them, empty; of runs that have ended by now nothing is told."""
    op.add_column("runs", sa.Column("noticed", sa.Integer()))
    op.execute("UPDATE runs SET noticed = 1 WHERE outcome <> 'running'")
    op.create_index("ix_runs_unnoticed", "runs", ["number"], sqlite_where=sa.text("noticed IS NULL"))
    op.create_table(
        "messages",
        sa.Column("number", LONG, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job", sa.Text()),
        sa.Column("run", LONG),
        sa.Column("created_at", LONG, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_messages_run_runs"),
        sa.PrimaryKeyConstraint("number", name="pk_messages"),
        sa.UniqueConstraint("key", name="uq_messages_key"),
    )
    op.create_table(
        "deliveries",
        sa.Column("message", LONG, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", LONG, nullable=False),
        sa.Column("ended_at", LONG),
        sa.Column("answer", sa.Text()),
        sa.ForeignKeyConstraint(
            ["message"], ["messages.number"], name="fk_deliveries_message_messages", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message", "channel", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_state", "deliveries", ["state"])
    op.create_table(
        "conditions",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("since", LONG, nullable=False),
        sa.Column("told_on", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_conditions"),
    )
