"""Containers that a run has stopped, and has to start again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "stopped_containers",
        sa.Column("number", LONG, nullable=False),
        sa.Column("socket", sa.Text(), nullable=False),
        sa.Column("container", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("since", LONG, nullable=False),
        sa.Column("grace", sa.Integer(), nullable=False),
        sa.Column("started_at", LONG, nullable=False),
        sa.Column("finished_at", LONG),
        sa.PrimaryKeyConstraint("number", name="pk_stopped_containers"),
    )
