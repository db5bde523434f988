"""Staged entries without foreign keys: a commit empties the table at once, and checks what they became."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table anew, with the rows of a run that waits to be completed."""
    op.rename_table("staged_entries", "staged_entries_before")
    op.create_table(
        "staged_entries",
        sa.Column("number", LONG, nullable=False),
        sa.Column("run", LONG, nullable=False),
        sa.Column("directory", LONG, nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("owner", LONG, nullable=False),
        sa.Column("mtime_ns", LONG, nullable=False),
        sa.Column("size", LONG, nullable=False),
        sa.Column("extra", sa.LargeBinary()),
        sa.Column("content_id", sa.LargeBinary()),
        sa.Column("chunks", sa.LargeBinary()),
        sa.Column("inode", LONG, nullable=False),
        sa.Column("ctime_ns", LONG, nullable=False),
        sa.Column("is_mount", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_staged_entries"),
    )
    columns = "number, run, directory, name, kind, mode, owner, mtime_ns, size, extra, content_id, chunks"
    columns += ", inode, ctime_ns, is_mount"
    op.execute(f"INSERT INTO staged_entries ({columns}) SELECT {columns} FROM staged_entries_before")  # noqa: S608
    op.drop_table("staged_entries_before")
