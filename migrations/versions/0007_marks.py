"""Marks of snapshots (forgotten, tags, pin); archives that are condemned, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them, all empty."""
    op.add_column("snapshots", sa.Column("forgotten_at", LONG))
    op.add_column("snapshots", sa.Column("tags", sa.Text()))
    op.add_column("snapshots", sa.Column("pin_note", sa.Text()))
    op.add_column("snapshots", sa.Column("pin_until", LONG))
    op.create_table(
        "condemnations",
        sa.Column("archive", LONG, nullable=False),
        sa.Column("job", LONG, nullable=False),
        sa.Column("at", LONG, nullable=False),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name="fk_condemnations_archive_archives"),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_condemnations_job_jobs"),
        sa.PrimaryKeyConstraint("archive", "job", name="pk_condemnations"),
    )
    op.create_table(
        "deletions",
        sa.Column("archive", LONG, nullable=False),
        sa.Column("decided_at", LONG, nullable=False),
        sa.Column("deleted_at", LONG),
        sa.Column("retry_at", LONG),
        sa.Column("refusal", sa.Text()),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name="fk_deletions_archive_archives"),
        sa.PrimaryKeyConstraint("archive", name="pk_deletions"),
    )
