"""Which objects were put under a legal hold, and for which snapshot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "legal_holds",
        sa.Column("vault", LONG, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name="fk_legal_holds_vault_vaults"),
        sa.PrimaryKeyConstraint("vault", "key", "snapshot", name="pk_legal_holds"),
    )
