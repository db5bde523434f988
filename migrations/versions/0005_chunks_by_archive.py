"""Chunks by their archive: a full catalog asks for those of each, and read all chunks for it."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing changes but what is looked up."""
    op.create_index("ix_chunks_archive", "chunks", ["archive"])
