"""The context of the handlers of requests, with read transactions on a small pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from msgspec import Struct
from starlette.requests import Request

from backup.config import Config
from backup.config.web import WebSettings
from backup.errors import LockedError
from backup.inventory.pages.page_copies import page_copy
from backup.inventory.pages.page_reads import PageReads
from backup.inventory.store.connections import Transaction
from backup.protocols import Clock
from backup.web.daemon_desk import Ask, DaemonDesk
from backup.web.guard.accounts import Accounts
from backup.web.guard.throttle import Throttle
from backup.web.guard.users import User

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


class WebContext(Struct, frozen=True):
    """The objects that handlers use; the same for all requests."""

    config: Config
    settings: WebSettings
    clock: Clock
    reading: Reading
    daemon: DaemonDesk
    accounts: Accounts
    throttle: Throttle

    @classmethod
    def of(cls, config: Config, clock: Clock, ask: Ask) -> WebContext:
        """Return the context for a config, with its accounts opened; `ask` sends requests to the daemon."""
        settings = config.web or WebSettings()
        return cls(
            config=config,
            settings=settings,
            clock=clock,
            reading=Reading(config.inventory_url, page_copy(config.state_dir)),
            daemon=DaemonDesk(ask, clock),
            accounts=Accounts(
                accounts_path(config),
                idle=timedelta(seconds=settings.idle_end),
                absolute=timedelta(seconds=settings.absolute_end),
            ),
            throttle=Throttle(),
        )

    def close(self) -> None:
        """Close files and connections."""
        self.reading.close()
        self.daemon.close()
        self.accounts.close()


def accounts_path(config: Config) -> str:
    """Return the path of the file of accounts: as configured, else in a directory beside the state."""
    configured = config.web.accounts if config.web else None
    return configured or f"{config.state_dir}-web/accounts.sqlite"


def context_of(request: Request) -> WebContext:
    """Return the context of the application that handles the request."""
    context: WebContext = request.app.state.context
    return context


def user_of(request: Request) -> User:
    """Return the user who sent the request; all routes but those of `guard.gate.OPEN` need one."""
    user: User = request.state.user
    return user
