"""The daemon's tasks, and pauses of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both, empty."""
    op.create_table(
        "tasks",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("known_since", LONG, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("began_at", LONG),
        sa.Column("ended_at", LONG),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("cuts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_tasks"),
    )
    op.create_table(
        "pauses",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("since", LONG, nullable=False),
        sa.Column("until", LONG, nullable=False),
        sa.PrimaryKeyConstraint("job", name="pk_pauses"),
    )
