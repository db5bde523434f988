"""Locks of Glacier vaults that were begun or completed here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "vault_locks",
        sa.Column("vault", LONG, nullable=False),
        sa.Column("lock_id", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("ends_at", LONG, nullable=False),
        sa.Column("days", LONG, nullable=False),
        sa.Column("locked_at", LONG),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name="fk_vault_locks_vault_vaults"),
        sa.PrimaryKeyConstraint("vault", name="pk_vault_locks"),
    )
