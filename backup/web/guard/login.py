"""An attempt to log in: throttled, logged, and as slow for unknown names as for known ones."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import Protocol

from msgspec import Struct

from backup.errors import LockedError
from backup.protocols import Clock
from backup.web.guard.accounts import Accounts
from backup.web.guard.passwords import LONGEST, is_password
from backup.web.guard.throttle import Throttle

_room = BoundedSemaphore(8)  # more than these would wait for a second and longer


class Guarded(Protocol):
    """The part of the context that a login needs."""

    @property
    def accounts(self) -> Accounts:
        """The file of accounts."""

    @property
    def throttle(self) -> Throttle:
        """The counts of failed logins."""

    @property
    def clock(self) -> Clock:
        """The clock."""


class LoginResult(Struct, frozen=True):
    """The result of a login: secrets for the cookies; without a session, `wait` is the seconds to wait."""

    session: str | None = None
    browser: str | None = None
    wait: int = 0


def try_login(guarded: Guarded, name: str, password: str, known: str) -> LoginResult:
    """Log a user in, or count the failure. `LockedError` while too many logins are in progress."""
    accounts, throttle, now = guarded.accounts, guarded.throttle, guarded.clock.now()
    browser = accounts.known_browser(known[:128], name, now) if known else b""
    if wait := throttle.seconds_to_wait(name, browser, now):
        return LoginResult(wait=wait)
    if not _room.acquire(blocking=False):
        raise LockedError("too many log in at this moment", advice="try again in a moment")
    try:
        throttle.failed(name, browser, now)  # before it is known: attempts at the same time count, too
        fits = len(password) <= LONGEST and is_password(password, accounts.password_of(name))
    finally:
        _room.release()
    if not fits:
        accounts.note(name if accounts.role_of(name) else "somebody", "failed to log in", now)
        return LoginResult()
    throttle.succeeded(name, browser)
    accounts.note(name, "logged in", now)
    return LoginResult(
        accounts.open_session(name, now), None if browser else accounts.know_browser(name, now)
    )
