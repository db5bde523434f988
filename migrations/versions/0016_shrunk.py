"""Sources that lost nearly everything, what was accepted of that, and which disk was mounted where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and a table: nothing is known of what was there before."""
    op.add_column("jobs", sa.Column("usual_from", LONG))
    op.add_column("snapshots", sa.Column("counts", sa.LargeBinary()))
    op.add_column("snapshots", sa.Column("shrunk", sa.LargeBinary()))
    op.create_table(
        "disks",
        sa.Column("job", LONG, sa.ForeignKey("jobs.number", name="fk_disks_job_jobs"), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job", "path", name="pk_disks"),
    )
