"""What vaults with copies keep: snapshots forgotten there, copies condemned there, runs that say so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and a table; what was copied before is kept."""
    op.add_column("copies", sa.Column("stored_at", LONG))
    op.execute("UPDATE copies SET stored_at = since WHERE archive_id IS NOT NULL")
    op.add_column("copies", sa.Column("retry_at", LONG))
    op.add_column("copies", sa.Column("refusal", sa.Text()))
    op.add_column("copied_snapshots", sa.Column("state", sa.Text(), nullable=False, server_default="copied"))
    op.add_column("copied_snapshots", sa.Column("forgotten_at", LONG))
    op.add_column("runs", sa.Column("copied_to", LONG))
    op.create_table(
        "condemned_copies",
        sa.Column(
            "archive",
            LONG,
            sa.ForeignKey("archives.number", name="fk_condemned_copies_archive"),
            nullable=False,
        ),
        sa.Column(
            "vault", LONG, sa.ForeignKey("vaults.number", name="fk_condemned_copies_vault"), nullable=False
        ),
        sa.Column("job", LONG, sa.ForeignKey("jobs.number", name="fk_condemned_copies_job"), nullable=False),
        sa.Column("at", LONG, nullable=False),
        sa.PrimaryKeyConstraint("archive", "vault", "job", name="pk_condemned_copies"),
    )
