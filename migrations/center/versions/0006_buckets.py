"""Reports in buckets: how far each place was read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backup.center.tables import MOMENT, row_security

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of places, which only those see who see all."""
    op.create_table(
        "places",
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("read_to", MOMENT, nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("place", name="pk_places"),
    )
    for statement in row_security("places", None):
        op.execute(statement)
