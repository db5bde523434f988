"""What a restore was told to choose, and what was agreed on with its user before it began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; restores that are open have neither, and take everything, as they did."""
    op.add_column("restores", sa.Column("choice", sa.LargeBinary(), nullable=True))
    op.add_column("restores", sa.Column("agreed", sa.LargeBinary(), nullable=True))
