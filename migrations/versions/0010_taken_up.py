"""When an archive was taken up again: only a list of the vault that is newer confirms it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time, of none."""
    op.add_column("archives", sa.Column("taken_up_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
