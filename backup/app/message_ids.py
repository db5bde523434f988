"""Ids of messages and runs for receivers: made of the inventory's id, so that they never change; pure."""

from __future__ import annotations

import uuid


def message_id(inventory_id: bytes, key: str) -> str:
    """A message's id: the same whenever it is sent again."""
    return _uuid(inventory_id, key)


def run_id(inventory_id: bytes, run: int) -> str:
    """A run's id for receivers of pings: the same for its start and its end."""
    return _uuid(inventory_id, f"run {run}")


def _uuid(inventory_id: bytes, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(bytes=inventory_id[:16]), name))
