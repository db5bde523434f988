"""Progress of restores: bytes written of each range, and retrievals that are ready, with their expiry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; they stay empty for open restores, which begin writing again from the start."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    for name in ("asked_from", "asked_to", "written_to", "until"):
        op.add_column("retrievals", sa.Column(name, number, nullable=True))
    op.create_index("ix_retrievals_archive", "retrievals", ["archive"])
    op.add_column("restores", sa.Column("on_capacity", sa.Text(), nullable=True))
    op.add_column("restores", sa.Column("progress", sa.LargeBinary(), nullable=True))
