"""Read transactions for requests, on a small pool of threads."""

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
    """Read access to the inventory for handlers of requests.

    jobs = await context.reading.view(list_jobs_view, now)    # list_jobs_view(tx, now)
    """

    def __init__(self, url: str, copy: str = "") -> None:
        self._reads = PageReads(url, copy, most=_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="view")
        self._waiting = 0

    def as_of(self, now: datetime) -> datetime:
        """Return the time of the data: now, or the time of the copy if a copy is read."""
        return self._reads.as_of() or now

    async def view(
        self, make: Callable[Concatenate[Transaction, _P], _T], *args: _P.args, **named: _P.kwargs
    ) -> _T:
        """Call `make` with a read transaction (one consistent state) and the arguments; return its result.

        `LockedError` if too many requests wait already.
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
        """Close the connections, after the queries in progress."""
        self._threads.shutdown()
        self._reads.close()
