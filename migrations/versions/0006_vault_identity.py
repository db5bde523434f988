"""What each vault is known by: another one may stand at the same path, or under the same name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Unknown for the vaults that are there: the next run looks."""
    op.add_column("vaults", sa.Column("identity", sa.Text()))
