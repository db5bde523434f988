"""What a vault lacks of what its host told; whose a place is, and when it was compared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backup.center.tables import MOMENT

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; nobody counts as contradicted until its vault was compared."""
    op.add_column("hosts", sa.Column("contradicted_at", MOMENT))
    op.add_column("hosts", sa.Column("contradicted_why", sa.Text()))
    op.add_column("places", sa.Column("host_id", sa.Text()))
    op.add_column("places", sa.Column("compared_at", MOMENT))
