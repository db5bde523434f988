"""Until when a job's snapshots restore whatever an intruder does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "lock_dates",
        sa.Column("job", LONG, nullable=False),
        sa.Column("vault", LONG, nullable=False),
        sa.Column("nights", LONG, nullable=False),
        sa.Column("newest", LONG, nullable=False),
        sa.Column("until", LONG),
        sa.Column("as_of", LONG, nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_lock_dates_job_jobs"),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name="fk_lock_dates_vault_vaults"),
        sa.PrimaryKeyConstraint("job", "vault", name="pk_lock_dates"),
    )
