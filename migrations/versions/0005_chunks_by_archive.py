"""An index of chunks by archive: a full catalog queries the chunks of each archive, which scanned all
chunks."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index; no row changes."""
    op.create_index("ix_chunks_archive", "chunks", ["archive"])
