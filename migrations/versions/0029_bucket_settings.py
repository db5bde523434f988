"""The settings of buckets as they were last seen, by which a change is noticed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "bucket_settings",
        sa.Column("vault", LONG, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("told_before", sa.Text(), nullable=False),
        sa.Column("since", LONG, nullable=False),
        sa.Column("looked_at", LONG, nullable=False),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name="fk_bucket_settings_vault_vaults"),
        sa.PrimaryKeyConstraint("vault", "what", name="pk_bucket_settings"),
    )
