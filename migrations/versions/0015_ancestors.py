"""Who follows whom: all ancestors, bound ids of jobs, marks of heirs, strangers, versions of archives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables. Ancestors before the predecessor are told by what they left behind."""
    op.add_column("about", sa.Column("ancestors", sa.LargeBinary()))
    op.add_column("vaults", sa.Column("heir_mark", sa.Text()))
    op.add_column("jobs", sa.Column("made_by", sa.LargeBinary()))
    op.add_column("jobs", sa.Column("nonce", sa.LargeBinary()))
    op.add_column("archives", sa.Column("version", sa.Text()))
    op.create_table(
        "strangers",
        sa.Column(
            "vault", LONG, sa.ForeignKey("vaults.number", name="fk_strangers_vault_vaults"), nullable=False
        ),
        sa.Column("inventory", sa.LargeBinary(), nullable=False),
        sa.Column("job", sa.LargeBinary(), nullable=False),
        sa.Column("pack", sa.LargeBinary(), nullable=False),
        sa.Column("number", LONG, nullable=False),
        sa.Column("seen_at", LONG, nullable=False),
        sa.Column("told_at", LONG),
        sa.Column("accepted_by", sa.Text()),
        sa.Column("accepted_at", LONG),
        sa.PrimaryKeyConstraint("vault", "inventory", "job", name="pk_strangers"),
    )
    op.create_table(
        "passed_catalogs",
        sa.Column("pack", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pack", name="pk_passed_catalogs"),
    )
    _note_ancestors()


def _note_ancestors() -> None:
    """The predecessor, then the other inventories whose archives are here, the newest first.

    A pack's header has its inventory's id at byte 48 (docs/format.md, 2.1).
    """
    bind = op.get_bind()
    about = bind.exec_driver_sql(
        "SELECT inventory_id, predecessor FROM about WHERE predecessor IS NOT NULL"
    ).first()
    if about is None:
        return
    own, predecessor = about
    others = bind.exec_driver_sql(
        "SELECT substr(header, 49, 16) AS id FROM archives WHERE length(header) >= 64"
        " GROUP BY id ORDER BY max(submitted_at) DESC, id"
    )
    ids = [predecessor, *(row[0] for row in others if row[0] not in (own, predecessor))]
    bind.exec_driver_sql("UPDATE about SET ancestors = ?", (b"".join(ids),))
