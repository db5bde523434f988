"""Indexes by the snapshots in which versions of entries begin and end: what a night changed, without reading
the entries that it did not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes; no row changes."""
    op.create_index("ix_entries_added_in", "entries", ["added_in"])
    ended = sa.text("removed_in IS NOT NULL")
    op.create_index("ix_entries_removed_in", "entries", ["removed_in"], sqlite_where=ended)
