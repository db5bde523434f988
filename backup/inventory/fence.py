"""The fencing number: which process took the lock of backups last, as the inventory itself has it.

A process that was suspended for hours keeps its lock, and may lose it to `nightvault unlock --force`. Once it
goes on it must record nothing more: another run may have finished what it had sent, and gone on from there.
So whoever takes the lock takes the next number, too, and each of his transactions that write begins by
comparing it. What he had recorded as submitted before is finished by the next run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import LockedError
from backup.inventory.connections import Transaction
from backup.inventory.driver import changed, value_of

_NAME = "fence"


class Fence:
    """The number that this process holds, if it holds the lock."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: int | None = None

    @contextmanager
    def holding(self, number: int) -> Iterator[None]:
        """Meanwhile this process writes only as long as nobody took a higher number."""
        self._held = number
        try:
            yield
        finally:
            self._held = None

    def require(self, tx: Transaction) -> None:
        """`LockedError` if the lock was taken from this process; each transaction that writes asks."""
        if self._held is None or self._held == _number(tx):
            return
        raise LockedError(
            "the lock of this process was taken away by `nightvault unlock --force`, and another may have "
            "gone on since: it records nothing more",
            advice="nothing is lost: the next backup finishes what this one had recorded, and stores the "
            "rest",
        )


def raise_fence(tx: Transaction) -> int:
    """Take the next number: whoever holds a lower one writes nothing any more."""
    number = _number(tx) + 1
    if not changed(tx, "UPDATE counters SET next = {m} WHERE name = {m}", (number, _NAME)):
        changed(tx, "INSERT INTO counters (next, name) VALUES ({m}, {m})", (number, _NAME))
    return number


def _number(tx: Transaction) -> int:
    return int(value_of(tx, "SELECT next FROM counters WHERE name = {m}", (_NAME,)) or 0)
