"""The seam of channels: a note goes out, a receiver's answer comes back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from backup.errors import NightvaultError, UnreachableError
from backup.inventory.store.states import MessageKind
from backup.notify.letter import Letter, as_text

URGENT = frozenset({MessageKind.FAILED, MessageKind.OVERDUE})
"""Kinds for which a phone should make itself heard."""


class AwayError(UnreachableError):
    """A receiver cannot be reached, or asks for a later retry: its other messages wait, too."""


class RefusedError(NightvaultError):
    """A receiver refuses this message, or the channel cannot send it as it is configured."""


class ConflictError(RefusedError):
    """A receiver has had this already, or something that it does not follow (409)."""


def safely(send: Callable[[], str]) -> str:
    """Return a channel's answer; an unexpected error becomes a `RefusedError` without its text.

    That text may hold what was to be sent, secrets included.
    """
    try:
        return send()
    except NightvaultError:
        raise
    except Exception as error:  # noqa: BLE001  one channel must not keep the others from their messages
        raise RefusedError(f"unexpected {type(error).__name__} in this channel") from None


class Note(Struct, frozen=True):
    """A message as a channel sends it; `id` is the same whenever it is sent again, `run_id` that of its run.

    `exit_code` is how a backup ended, for pings: None if it neither succeeded nor failed.
    """

    id: str
    kind: MessageKind
    created_at: datetime
    letter: Letter
    details: Mapping[str, Any]
    run_id: str | None = None
    exit_code: int | None = None

    def document(self) -> dict[str, Any]:
        """The note as JSON; the keys are part of the interface."""
        at = {"id": self.id, "kind": str(self.kind), "created_at": self.created_at.isoformat()}
        return at | dict(self.details) | self.letter.document() | {"text": as_text(self.letter)}


class Channel(Protocol):
    """A way to a receiver; it can be used repeatedly, and keeps no connection open."""

    @property
    def name(self) -> str:
        """Its name in the config."""
        ...

    def send(self, note: Note) -> str:
        """Send a note, and return what the receiver answered, on one line and without secrets.

        `AwayError` if a later attempt may succeed, `RefusedError` or `ConfigError` if a person must act
        first. None of their texts holds a secret.
        """
        ...


@runtime_checkable
class Pings(Channel, Protocol):
    """A channel to which the start of a run is sent, too."""

    def start(self, run_id: str) -> str:
        """Send that a run has begun. Errors are those of `send`."""
        ...


def message_id(inventory_id: bytes, key: str) -> str:
    """A message's id for receivers, made from the inventory's id; the same for every attempt."""
    return _uuid(inventory_id, key)


def run_id(inventory_id: bytes, run: int) -> str:
    """A run's id for receivers of pings: the same for its start and its end."""
    return _uuid(inventory_id, f"run {run}")


def _uuid(inventory_id: bytes, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(bytes=inventory_id[:16]), name))
