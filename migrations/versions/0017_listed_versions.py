"""The vault's word for the object that a list shows: it tells ours from somebody else's of the same size."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column."""
    op.add_column("listed_archives", sa.Column("version", sa.Text()))
