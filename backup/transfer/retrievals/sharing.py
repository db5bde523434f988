"""Outputs shared between restores: what one has asked for serves another, and is not paid twice.

A check does not share: it is there to prove that the vault gives an archive now, and by a request of its own.
A rebuild cannot: it has no inventory yet that knows of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta

from msgspec.structs import replace

from backup.errors import LockedError
from backup.inventory.records.restore_state import alive_retrievals, retrievals_changed, shareable
from backup.inventory.records.retrievals import Retrieval
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import RetrievalStage
from backup.protocols import Clock

LAST_HOUR = timedelta(hours=1)  # an output that goes so soon is not counted on
_LOCK_TRIES, _LOCK_PAUSE = 600, 0.2


@contextmanager
def asking_alone(inventory: Inventory, clock: Clock) -> Iterator[None]:
    """Hold the lock on requesting: one process at a time, so that each restore sees the other's requests."""
    with ExitStack() as held:
        for tried in range(_LOCK_TRIES):
            try:
                held.enter_context(inventory.locked("asking"))
                break
            except LockedError as error:
                if tried == _LOCK_TRIES - 1:
                    raise LockedError(
                        "another restore has sent requests to the vault for a long time"
                    ) from error
                clock.sleep(_LOCK_PAUSE)
        yield


def share(
    due: Sequence[Retrieval],
    inventory: Inventory,
    now: datetime,
    serves: Callable[[Retrieval], bool] = lambda _: True,
) -> tuple[list[Retrieval], bool]:
    """Record retrievals that any restore's output serves; returns the others, and whether any was served.

    `serves`: whether an output is of the vault that its archive would be read from now.
    """
    with inventory.writing() as tx:
        alive = alive_retrievals(tx, (retrieval.archive for retrieval in due), now + LAST_HOUR)
        found: list[Retrieval] = []
        rest: list[Retrieval] = []
        for retrieval in due:
            theirs = next(
                (
                    shared
                    for shared in alive.get(retrieval.archive, ())
                    if shareable(shared, retrieval.left, retrieval.tier) and serves(shared)
                ),
                None,
            )
            if theirs is None:
                rest.append(retrieval)
            else:
                found.append(_served_by(retrieval, theirs))
        retrievals_changed(tx, found)
    return rest, bool(found)


def _served_by(retrieval: Retrieval, theirs: Retrieval) -> Retrieval:
    return replace(
        retrieval,
        state=RetrievalStage.WAITING,
        tier=theirs.tier,
        retrieval_id=theirs.retrieval_id,
        asked=theirs.asked,
        requested_at=theirs.requested_at,
        until=theirs.until,
    )
