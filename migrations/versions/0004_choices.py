"""The user's selection of a restore, and the settings that were confirmed before it began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; they stay empty for open restores, which restore everything, as before."""
    op.add_column("restores", sa.Column("choice", sa.LargeBinary(), nullable=True))
    op.add_column("restores", sa.Column("agreed", sa.LargeBinary(), nullable=True))
