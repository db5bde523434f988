"""Alembic's entry point for a center: the connection comes from the program, never from a file."""

from __future__ import annotations

from alembic import context

from backup.center.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
