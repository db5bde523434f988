"""Read transactions for requests: each on a thread of its own, only so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from backup.errors import LockedError
from backup.inventory.pages.page_reads import PageReads
from backup.inventory.store.connections import Transaction

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AT_ONCE, _MOST_WAITING = 4, 128


class Reading:
    """The inventory for the handlers of requests.

    jobs = await context.reading.view(list_jobs_view, now)    # list_jobs_view(tx, now)
    """

    def __init__(self, url: str, copy: str = "") -> None:
        self._reads = PageReads(url, copy, most=_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="view")
        self._waiting = 0

    def as_of(self, now: datetime) -> datetime:
        """The time of what is read: now, or that of the copy where a copy is read."""
        return self._reads.as_of() or now

    async def view(
        self, make: Callable[Concatenate[Transaction, _P], _T], *args: _P.args, **named: _P.kwargs
    ) -> _T:
        """What `make` returns, called with a transaction that sees one moment, then with the arguments.

        `LockedError` if very many wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise LockedError("too many requests wait for the inventory", advice="try again in a moment")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(self._make, make, *args, **named))
        finally:
            self._waiting -= 1

    def _make(
        self, make: Callable[Concatenate[Transaction, _P], _T], *args: _P.args, **named: _P.kwargs
    ) -> _T:
        return self._reads.read(lambda tx: make(tx, *args, **named))

    def close(self) -> None:
        """Close the connections, once what runs has ended."""
        self._threads.shutdown()
        self._reads.close()
