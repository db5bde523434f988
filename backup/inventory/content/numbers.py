"""Numbers that are given out once and never again, even if the run that took them dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.driver import changed, number_of

if TYPE_CHECKING:
    from concurrent.futures import Future

Counter = Literal["entries", "chunks", "directories", "owners", "archives"]


_LARGEST_BLOCK = 2**15


def reserve(tx: Transaction, counter: Counter, count: int) -> int:
    """Reserve `count` numbers and return the first; they are ours once the transaction is committed."""
    first = number_of(tx, "SELECT next FROM counters WHERE name = ?", (counter,))
    changed(tx, "UPDATE counters SET next = ? WHERE name = ?", (first + count, counter))
    return first


class Numbers(Protocol):
    """A source of unique numbers."""

    def take(self) -> int:
        """A number that was never given out before and never will be again."""

    def take_many(self, count: int) -> Sequence[int]:
        """`count` such numbers, rising."""


class NumberSupply:
    """Unique numbers, reserved in the inventory in blocks that grow with use. For one thread.

    With `ahead`, the next block is reserved in advance while the present one is used.
    """

    def __init__(
        self,
        inventory: Inventory,
        counter: Counter,
        block: int = 4096,
        ahead: Callable[[Callable[[], range]], Future[range]] | None = None,
    ) -> None:
        self._inventory = inventory
        self._counter = counter
        self._block = block
        self._ahead = ahead
        self._following: Future[range] | None = None
        self._next = 0
        self._end = 0

    def take(self) -> int:
        """A number that was never given out before and never will be again."""
        if self._next == self._end:
            self._take_block()
        number = self._next
        self._next += 1
        return number

    def _take_block(self) -> None:
        following = self._following
        block = self._reserve(self._block) if following is None else following.result()
        is_first = self._end == 0
        self._next, self._end = block.start, block.stop
        self._block = min(2 * len(block), _LARGEST_BLOCK)
        if self._ahead is not None and not is_first:
            self._following = self._ahead(partial(self._reserve, self._block))

    def _reserve(self, count: int) -> range:
        with self._inventory.writing() as tx:
            first = reserve(tx, self._counter, count)
        return range(first, first + count)

    def take_many(self, count: int) -> Sequence[int]:
        """`count` such numbers, rising."""
        if self._end - self._next < count:
            return [self.take() for _ in range(count)]
        first, self._next = self._next, self._next + count
        return range(first, self._next)
