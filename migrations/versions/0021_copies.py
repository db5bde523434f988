"""Copies of archives in other vaults, and the snapshots that these vaults' catalogs name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables."""
    op.create_table(
        "copies",
        sa.Column(
            "archive", LONG, sa.ForeignKey("archives.number", name="fk_copies_archive"), nullable=False
        ),
        sa.Column("vault", LONG, sa.ForeignKey("vaults.number", name="fk_copies_vault"), nullable=False),
        sa.Column("domain", LONG, sa.ForeignKey("domains.number", name="fk_copies_domain"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", LONG, nullable=False),
        sa.Column("archive_id", sa.Text()),
        sa.Column("version", sa.Text()),
        sa.Column("upload_id", sa.Text()),
        sa.Column("part_size", LONG, nullable=False),
        sa.Column("spool_file", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("archive", "vault", name="pk_copies"),
    )
    op.create_table(
        "copied_snapshots",
        sa.Column("job", LONG, sa.ForeignKey("jobs.number", name="fk_copied_snapshots_job"), nullable=False),
        sa.Column(
            "vault", LONG, sa.ForeignKey("vaults.number", name="fk_copied_snapshots_vault"), nullable=False
        ),
        sa.Column("number", LONG, nullable=False),
        sa.Column("is_alone", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job", "number", "vault", name="pk_copied_snapshots"),
    )
