"""Invitations, seen by whoever shows one; servers that are known have joined, others have to be invited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backup.center.tables import MOMENT, row_security

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the columns; whoever told before goes on telling."""
    op.add_column("hosts", sa.Column("in_group", sa.Text(), nullable=False, server_default=""))
    op.add_column("hosts", sa.Column("joined_at", MOMENT))
    op.execute("SELECT set_config('nightvault.sees', 'all', true)")
    op.execute("UPDATE hosts SET joined_at = first_at")
    op.create_table(
        "invites",
        sa.Column("invite", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("in_group", sa.Text(), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.Column("used_by", sa.Text()),
        sa.PrimaryKeyConstraint("invite", name="pk_invites"),
    )
    for statement in row_security("invites", "invite", "nightvault.invite"):
        op.execute(statement)
