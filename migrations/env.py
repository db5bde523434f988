"""Alembic's entry point: the connection comes from the program, never from a file."""

from __future__ import annotations

from alembic import context

from backup.inventory.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
