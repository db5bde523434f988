"""A summary of each host beside what it told, and a row for each of its days; both seen as all else is.

A host that told something before has no summary until it tells again, and is not called well until then.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backup.center.tables import MOMENT, row_security

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table, and force row-level security on it."""
    for column in (
        sa.Column("told_standing", sa.Text(), nullable=False, server_default="warning"),
        sa.Column("told_why", sa.Text(), nullable=False, server_default="it told nothing since an upgrade"),
        sa.Column("jobs", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("schedule", sa.Text(), nullable=False, server_default=""),
        sa.Column("good_since", MOMENT),
        sa.Column("due_from", MOMENT),
        sa.Column("due_job", sa.Text()),
        sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("month", sa.Numeric(18, 6), nullable=False, server_default="0"),
        sa.Column("currency", sa.Text(), nullable=False, server_default=""),
    ):
        op.add_column("hosts", column)
    op.add_column("chains", sa.Column("told_at", MOMENT))
    op.create_table(
        "days",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("reports", sa.Integer(), nullable=False),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("good_since", MOMENT),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("month", sa.Numeric(18, 6), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.host_id"], name="fk_days_host", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "day", name="pk_days"),
    )
    for statement in row_security("days"):
        op.execute(statement)
