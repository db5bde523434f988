"""Drills, what they may have cost, and what was proven by reading it back."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
READ_BACK = 1

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, empty; what checks have read and found good counts as read back."""
    op.add_column("readings", sa.Column("proven", sa.Integer()))
    _mark_good()
    op.create_table(
        "drills",
        sa.Column("run", LONG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("grade", sa.Integer(), nullable=False),
        sa.Column("vault", LONG, nullable=False),
        sa.Column("plan", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name="fk_drills_run_runs"),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name="fk_drills_vault_vaults"),
        sa.PrimaryKeyConstraint("run", name="pk_drills"),
    )
    op.create_index("ix_drills_name", "drills", ["name"])
    op.create_table(
        "drill_costs",
        sa.Column("number", LONG, nullable=False),
        sa.Column("run", LONG, nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("cost", LONG, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["drills.run"], name="fk_drill_costs_run_drills"),
        sa.PrimaryKeyConstraint("number", name="pk_drill_costs"),
    )
    op.create_index("ix_drill_costs_run", "drill_costs", ["run"])


def _mark_good() -> None:
    """Mark the readings whose result tells of no damage."""
    bind = op.get_bind()
    read = "SELECT number, result FROM readings WHERE state = 'read' AND read_at IS NOT NULL"
    good = [number for number, result in bind.exec_driver_sql(read) if not _is_bad(result)]
    for number in good:
        bind.execute(
            sa.text("UPDATE readings SET proven = :grade WHERE number = :number"),
            {"grade": READ_BACK, "number": number},
        )


def _is_bad(result: bytes | None) -> bool:
    told = msgspec.msgpack.decode(result) if result else {}
    return bool(told.get("bad") or told.get("note"))
