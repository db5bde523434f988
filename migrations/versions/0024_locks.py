"""Ends of locks, as vaults have answered them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "locks",
        sa.Column("vault", LONG, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("until", LONG, nullable=False),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name="fk_locks_vault_vaults"),
        sa.PrimaryKeyConstraint("vault", "key", name="pk_locks"),
    )
