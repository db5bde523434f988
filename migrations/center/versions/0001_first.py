"""Hosts and their chains; a transaction sees the rows of the host that it names, or all if it says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backup.center.tables import MOMENT, row_security

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and force row-level security, also upon their owner."""
    op.create_table(
        "hosts",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("anchor", sa.Text(), nullable=False),
        sa.Column("certificate_ends", MOMENT, nullable=False),
        sa.Column("first_at", MOMENT, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.Column("told_at", MOMENT),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("set_back_at", MOMENT),
        sa.Column("set_back_why", sa.Text()),
        sa.Column("removed_at", MOMENT),
        sa.PrimaryKeyConstraint("host_id", name="pk_hosts"),
    )
    op.create_table(
        "chains",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.host_id"], name="fk_chains_host", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "chain", name="pk_chains"),
    )
    for table in ("hosts", "chains"):
        for statement in row_security(table):
            op.execute(statement)
