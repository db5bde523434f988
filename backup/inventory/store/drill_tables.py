"""The tables of drills (the plan of each, its expected cost), and of the daemon's tasks."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from backup.inventory.store.columns import TABLES, Long, number, refers

# A drill is a row before anything is asked for.
drills = Table(
    "drills",
    TABLES,
    Column("run", Long, ForeignKey("runs.number"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("grade", Integer, nullable=False),  # readings.Grade
    refers("vault", "vaults.number"),
    Column("plan", LargeBinary),  # of one that opens: what it restores (`driller/planning.py`)
    Index("ix_drills_name", "name"),
)

# Money that a drill may have spent: committed before the vault is asked, and never taken back.
drill_costs = Table(
    "drill_costs",
    TABLES,
    number(),
    refers("run", "drills.run"),
    Column("month", Integer, nullable=False),  # months since year 0, UTC, by the clock of then
    Column("cost", Long, nullable=False),  # millionths of the price table's currency
    Index("ix_drill_costs_run", "run"),
)

# When the dump of a database was last loaded by a drill, and was whole.
loads = Table(
    "loads",
    TABLES,
    refers("job", "jobs.number"),
    Column("engine", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("at", Long, nullable=False),
    PrimaryKeyConstraint("job", "engine", "database"),
)

# The daemon's tasks (`inventory.tasks.TaskRow`): what has to be known of them after a restart.
tasks = Table(
    "tasks",
    TABLES,
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("known_since", Long, nullable=False),
    Column("state", Text, nullable=False),
    Column("began_at", Long),
    Column("ended_at", Long),
    Column("failures", Integer, nullable=False),
    Column("cuts", Integer, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
)

pauses = Table(
    "pauses",
    TABLES,
    Column("job", Text, primary_key=True),
    Column("since", Long, nullable=False),
    Column("until", Long, nullable=False),
)
