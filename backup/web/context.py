"""The context of the handlers of requests."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct
from starlette.requests import Request

from backup.config import Config
from backup.config.web import WebSettings
from backup.inventory.pages.page_copies import page_copy
from backup.protocols import Clock
from backup.web.daemon_desk import Ask, DaemonDesk
from backup.web.guard.accounts import Accounts
from backup.web.guard.throttle import Throttle
from backup.web.guard.users import User
from backup.web.reading import Reading


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
