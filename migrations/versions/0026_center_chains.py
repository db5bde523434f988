"""What a center was told of this server, and what it has not answered yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "center_chains",
        sa.Column("center", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("number", LONG, nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("report", sa.Text()),
        sa.Column("then_told", sa.Text()),
        sa.PrimaryKeyConstraint("center", name="pk_center_chains"),
    )
