"""Silence is told once: who was told of which host, why some may be silent, and messages on their way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backup.center.tables import MOMENT, row_security

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables; each host counts as standing as it does from now on."""
    op.add_column("hosts", sa.Column("stands_since", MOMENT, nullable=False, server_default=sa.func.now()))
    op.add_column("hosts", sa.Column("silence_told_at", MOMENT))
    op.create_table(
        "excuses",
        sa.Column("excuse", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text()),
        sa.Column("in_group", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("begins_at", MOMENT, nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.host_id"], name="fk_excuses_host", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("excuse", name="pk_excuses"),
    )
    op.create_table(
        "watches",
        sa.Column("watch", sa.Integer(), nullable=False),
        sa.Column("looked_at", MOMENT),
        sa.Column("listening_since", MOMENT),
        sa.PrimaryKeyConstraint("watch", name="pk_watches"),
    )
    op.execute("INSERT INTO watches (watch) VALUES (1)")
    op.create_table(
        "alarms",
        sa.Column("in_group", sa.Text(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("in_group", name="pk_alarms"),
    )
    op.create_table(
        "letters",
        sa.Column("letter", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.PrimaryKeyConstraint("letter", "channel", name="pk_letters"),
    )
    for statement in row_security("excuses"):
        op.execute(statement)
    for table in ("watches", "alarms", "letters"):
        for statement in row_security(table, None):
            op.execute(statement)
