"""A table of chunks by what their ids begin with, not an index: it takes a pack's rows in its own order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MANY = 2**20  # sorted in memory

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the table in the place of the index, and fill it from the chunks that are there."""
    op.drop_index("ix_chunks_prefix", "chunks")  # first: the table then fills its pages
    op.create_table(
        "chunk_prefixes",
        sa.Column("prefix", LONG, nullable=False),
        sa.Column("chunk", LONG, nullable=False),
        sa.PrimaryKeyConstraint("prefix", "chunk", name="pk_chunk_prefixes"),
        sqlite_with_rowid=False,
    )
    bind = op.get_bind()
    largest = bind.exec_driver_sql("SELECT coalesce(max(number), 0) FROM chunks").scalar_one()
    fill = sa.text(
        "INSERT INTO chunk_prefixes SELECT prefix, number FROM chunks"
        " WHERE number BETWEEN :first AND :last ORDER BY prefix, number"
    )
    for first in range(0, largest + 1, MANY):
        bind.execute(fill, {"first": first, "last": first + MANY - 1})
