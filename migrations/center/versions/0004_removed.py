"""Servers that were removed are gone with all that was known of them; whoever joins anew begins anew."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Delete the rows of removed servers, and invitations that they used, and drop the column."""
    op.execute("SELECT set_config('nightvault.sees', 'all', true)")
    op.execute(
        "DELETE FROM invites WHERE used_by IN (SELECT host_id FROM hosts WHERE removed_at IS NOT NULL)"
    )
    op.execute("DELETE FROM hosts WHERE removed_at IS NOT NULL")
    op.execute("SELECT set_config('nightvault.sees', '', true)")
    op.drop_column("hosts", "removed_at")
