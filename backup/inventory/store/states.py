"""The recorded stages of restores, retrievals, readings and listings; the vault's own is `RetrievalState`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RetrievalStage(StrEnum):
    """The stage of a restore's retrieval; `FAILED` is final, until the user asks again."""

    PLANNED = "planned"
    WAITING = "waiting"
    READY = "ready"
    FETCHED = "fetched"
    FAILED = "failed"


class ReadingStage(StrEnum):
    """The stage of a piece that a check reads; `READ` also if it is known that it cannot be read."""

    PLANNED = "planned"
    WAITING = "waiting"
    READ = "read"


class ListingStage(StrEnum):
    """The stage of a vault's listing: recorded, requested, downloaded."""

    PLANNED = "planned"
    WAITING = "waiting"
    KEPT = "kept"


class RestoreStage(StrEnum):
    """The stage of a restore as a whole."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


class StepStage(StrEnum):
    """The stage of a check or a rebuild after one of its steps, which may lie hours apart."""

    WAITING = "waiting"
    DONE = "done"


UNDER_WAY: Final = frozenset({RetrievalStage.WAITING, RetrievalStage.READY})
"""Requested, and not fetched yet."""
OVER: Final = frozenset({RetrievalStage.FETCHED, RetrievalStage.FAILED})
"""Nothing is pending."""
HAS_OUTPUT: Final = frozenset({RetrievalStage.WAITING, RetrievalStage.READY, RetrievalStage.FETCHED})
"""The vault has, is making or had the output."""
SETTLED: Final = OVER | {RetrievalStage.READY}
"""The vault will not change its answer."""


class MessageKind(StrEnum):
    """The kind of a message; part of the JSON interface. `RUN` is the end of a backup, for pings alone."""

    FAILED = "failed"
    RECOVERED = "recovered"
    OVERDUE = "overdue"
    WARNING = "warning"
    RUN = "run"


class DeliveryState(StrEnum):
    """How far the delivery of a message to a channel is; part of the JSON interface."""

    WAITING = "waiting"
    SENT = "sent"
    DROPPED = "dropped"
