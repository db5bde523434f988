"""The real path of each source of a snapshot: a symlink above it may lead elsewhere by now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column."""
    op.add_column("snapshots", sa.Column("roots", sa.LargeBinary()))
