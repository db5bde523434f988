"""The vault in which a copy was read back, where that is not the archive's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column."""
    op.add_column("readings", sa.Column("copied_to", LONG))
