"""Readings: the ranges of archives that checks have read, and when, so that in time everything is read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "readings",
        sa.Column("number", number, nullable=False),
        sa.Column("run", number, nullable=False),
        sa.Column("archive", number, nullable=False),
        sa.Column("start", number, nullable=False),
        sa.Column("end", number, nullable=False),
        sa.Column("asked_from", number, nullable=False),
        sa.Column("asked_to", number, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("retrieval_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_at", number, nullable=True),
        sa.Column("read_at", number, nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name="fk_readings_archive"),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_readings_run"),
        sa.PrimaryKeyConstraint("number", name="pk_readings"),
        sa.UniqueConstraint("token", name="uq_readings_token"),
    )
    op.create_index("ix_readings_run", "readings", ["run"])
    op.create_index("ix_readings_archive", "readings", ["archive"])
