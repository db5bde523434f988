"""Marks of snapshots (forgotten, tags, pin), and when an archive was condemned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them, all empty."""
    op.add_column("snapshots", sa.Column("forgotten_at", LONG))
    op.add_column("snapshots", sa.Column("tags", sa.Text()))
    op.add_column("snapshots", sa.Column("pin_note", sa.Text()))
    op.add_column("snapshots", sa.Column("pin_until", LONG))
    op.add_column("archives", sa.Column("condemned_at", LONG))
