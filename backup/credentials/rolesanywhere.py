"""Exchange this machine's identity for temporary credentials, and renew them in time.

The rules, learnt from clients that abort a night's backup because of a short outage:

1. Keys are renewed while they still work: when a quarter of their lifetime is left, at least five minutes,
   never more than half of it. Until then nobody waits and no request is sent.
2. One thread renews; the others go on with the current keys. Only when there are none that work do all
wait.
3. A failed renewal is no error as long as the current keys work. It is tried again after a pause that
   doubles, from 30 s up to five minutes, with jitter.
4. Without working keys a fetch is tried three times if trying again may help. All waiting threads get its
   result, so that 32 threads do not send 32 requests.
5. The identity is loaded again for each renewal: a rotated certificate needs no restart.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import SystemRandom

import urllib3
from msgspec import Struct

from backup.credentials.connection import Connection, open_pool
from backup.credentials.createsession import create_session
from backup.credentials.identity import KeyHolder, check_validity
from backup.credentials.options import RolesAnywhereOptions
from backup.errors import NightvaultError
from backup.model import Credentials
from backup.protocols import Clock

LEAST_MARGIN = timedelta(minutes=5)
ATTEMPTS = 3
LONGEST_PAUSE = 20.0
FIRST_BACK_OFF = timedelta(seconds=30)
LONGEST_BACK_OFF = timedelta(minutes=5)

LONG_AGO = datetime.min.replace(tzinfo=UTC)
RANDOM = SystemRandom()

log = logging.getLogger(__name__)


class _CurrentKeys(Struct, frozen=True):
    """The current keys: they work until `expires_at` and are renewed from `renew_at` on."""

    credentials: Credentials
    renew_at: datetime
    expires_at: datetime


class _Failures(Struct, frozen=True):
    """The failures since the last successful fetch: their number, the last error, and when to try again."""

    count: int = 0
    error: NightvaultError | None = None
    retry_at: datetime = LONG_AGO


class RolesAnywhere:
    """A `CredentialSource` on IAM Roles Anywhere; thread-safe."""

    def __init__(
        self,
        options: RolesAnywhereOptions,
        *,
        load: Callable[[], KeyHolder],
        clock: Clock,
        http: urllib3.PoolManager | None = None,
        jitter: Callable[[], float] = RANDOM.random,
    ) -> None:
        """Prepare; `load` reads the identity anew at each call; `jitter` returns a number from 0 to 1.

        Without `http`, the proxies and authorities of the environment are used, as boto3 does.
        """
        self._options = options
        self._load = load
        self._clock = clock
        self._http = http or open_pool(options, Connection.of_environment(os.environ))
        self._jitter = jitter
        self._lock = threading.Lock()  # held by whoever fetches
        self._held: _CurrentKeys | None = None
        self._failures = _Failures()

    def __repr__(self) -> str:
        return f"RolesAnywhere({self._options.role_arn})"

    def credentials(self) -> Credentials:
        """Keys that are valid now."""
        held, now = self._held, self._clock.now()
        if held is None or now >= held.expires_at:
            return self._wait_for_keys()
        if now >= held.renew_at and not now < self._failures.retry_at <= now + LONGEST_BACK_OFF:
            self._renew(held)
            return self._wait_for_keys()
        return held.credentials

    def _wait_for_keys(self) -> Credentials:
        """The current keys if they work, else those that the first of the waiting threads fetches."""
        if works := self._working():
            return works
        seen = self._failures
        with self._lock:
            if works := self._working():
                return works
            if self._failures is not seen and self._failures.error is not None:
                raise _again(self._failures.error)
            return self._fetch(ATTEMPTS)

    def _working(self) -> Credentials | None:
        held = self._held
        return held.credentials if held is not None and self._clock.now() < held.expires_at else None

    def _renew(self, held: _CurrentKeys) -> None:
        """Try once to get new keys, unless another thread is doing so."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._held is held:
                self._fetch(1)
        except NightvaultError as error:
            failures = self._failures
            log.warning(
                "credentials for %s could not be renewed (%s); those in hand work until %s, next try at %s",
                self._options.role_arn, error, held.expires_at, failures.retry_at,
            )  # fmt: skip
        finally:
            self._lock.release()

    def _fetch(self, attempts: int) -> Credentials:
        """Get new keys, with the lock held; keep them, or keep the failure and raise it."""
        try:
            credentials = self._try_to_fetch(attempts)
        except NightvaultError as error:
            count = self._failures.count + 1
            pause = min(FIRST_BACK_OFF * 2 ** min(count - 1, 10), LONGEST_BACK_OFF)
            self._failures = _Failures(count, error, self._clock.now() + pause * (0.5 + self._jitter() / 2))
            raise
        self._held = self._hold(credentials)
        self._failures = _Failures()
        return credentials

    def _try_to_fetch(self, attempts: int) -> Credentials:
        for attempt in range(1, attempts):
            try:
                return self._exchange()
            except NightvaultError as error:
                if not error.retryable:
                    raise
                log.info("attempt %d for credentials failed: %s", attempt, error)
            self._clock.sleep(min(2.0**attempt, LONGEST_PAUSE) * (0.5 + self._jitter() / 2))
        return self._exchange()

    def _exchange(self) -> Credentials:
        identity = self._load()
        now = self._clock.now()
        check_validity(identity.certificate, now)
        return create_session(self._options, identity, http=self._http, now=now)

    def _hold(self, credentials: Credentials) -> _CurrentKeys:
        now = self._clock.now()
        expires_at = credentials.expires_at or now  # CreateSession's always expire
        log.info("got credentials for %s, valid until %s", self._options.role_arn, expires_at)
        margin = renewal_margin(expires_at - now, self._options.renew_before)
        return _CurrentKeys(credentials, expires_at - margin, expires_at)


def renewal_margin(life: timedelta, chosen: timedelta | None = None) -> timedelta:
    """The time before expiry at which keys of this lifetime are renewed."""
    return min(chosen or max(life / 4, LEAST_MARGIN), life / 2)


def _again(error: NightvaultError) -> NightvaultError:
    """A copy of the failure for another thread: an exception raised twice would mix tracebacks."""
    again = type(error)(str(error), advice=error.advice)
    again.__cause__ = error
    return again
