"""When the dump of a database was last loaded by a drill, and was whole."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "loads",
        sa.Column("job", LONG, sa.ForeignKey("jobs.number", name="fk_loads_job_jobs"), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("database", sa.Text(), nullable=False),
        sa.Column("at", LONG, nullable=False),
        sa.PrimaryKeyConstraint("job", "engine", "database", name="pk_loads"),
    )
