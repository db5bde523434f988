"""The identity of each vault: another vault may be at the same path, or have the same name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it, unknown for the vaults there are: the next run looks it up."""
    op.add_column("vaults", sa.Column("identity", sa.Text()))
