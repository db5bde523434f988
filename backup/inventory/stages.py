"""How far we are with what a vault was asked for, as tables keep it; its own word is a `RetrievalState`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RetrievalStage(StrEnum):
    """A restore's retrieval; `FAILED` is for good, until the user asks anew."""

    PLANNED = "planned"
    WAITING = "waiting"
    READY = "ready"
    FETCHED = "fetched"
    FAILED = "failed"


class ReadingStage(StrEnum):
    """A piece that a check reads; `READ` also if it is known that it cannot be read."""

    PLANNED = "planned"
    WAITING = "waiting"
    READ = "read"


class ListingStage(StrEnum):
    """A vault's list: recorded, asked for, brought down."""

    PLANNED = "planned"
    WAITING = "waiting"
    KEPT = "kept"


class RestoreStage(StrEnum):
    """A restore as a whole."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


UNDER_WAY: Final = frozenset({RetrievalStage.WAITING, RetrievalStage.READY})
"""Asked for, and not fetched yet."""
OVER: Final = frozenset({RetrievalStage.FETCHED, RetrievalStage.FAILED})
"""Nothing of it is waited for."""
HAS_OUTPUT: Final = frozenset({RetrievalStage.WAITING, RetrievalStage.READY, RetrievalStage.FETCHED})
"""The vault has, makes or had its output."""
SETTLED: Final = OVER | {RetrievalStage.READY}
"""The vault has said its last word on it."""
