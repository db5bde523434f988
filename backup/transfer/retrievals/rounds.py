"""Chooses the requests of one round: what can be downloaded before outputs expire, at least one; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from backup.protocols import VaultTraits

T = TypeVar("T")


def due(
    planned: Iterable[T],
    length: Callable[[T], int],
    *,
    under_way: int,
    budget: int | None,
    traits: VaultTraits,
) -> Sequence[T]:
    """The first of `planned` that fit beside the bytes `under_way` into the budget of a round.

    One that is larger than the budget goes alone. All where nothing waits, or no budget was set: what is
    ready at once cannot expire unread.
    """
    if budget is None or not traits.waits:
        return [*planned]
    room = budget - under_way
    chosen: list[T] = []
    for request in planned:
        room -= length(request)
        if room < 0 and (chosen or under_way):
            break
        chosen.append(request)
    return chosen
