"""Post messages to the webhook in the settings, on a separate thread, so that no request waits for it."""

from __future__ import annotations

import http.client
import sqlite3
import sys
import threading
import urllib.request
from typing import IO

from backup.emulator.core.errors import DISK_ERRORS, describe_disk

from .messages import as_sns, note_try, waiting_messages
from .settings import SettingsInForce
from .settle import settle
from .store import Store

PAUSE_SECONDS = 0.2
TIMEOUT_SECONDS = 5.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A handler that treats a redirect as a failure, since it might lead off this machine."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: http.client.HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None


class Webhook:
    """The thread that delivers messages; without a webhook in the settings it does nothing.

    With one it also does the work that is due, so that a job's end is announced when it happens and not at
    the next request.
    """

    def __init__(self, store: Store, settings: SettingsInForce) -> None:
        self._store = store
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, at the latest at the end of the current attempt."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_SECONDS + 1)

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            url = self._settings.current.webhook
            if not url:
                continue
            try:
                self._deliver(url)
            except DISK_ERRORS as error:
                print(describe_disk(error), file=sys.stderr, flush=True)  # noqa: T201

    def _deliver(self, url: str) -> None:
        with self._store.transaction() as tx:
            settle(self._store, tx)
            waiting = waiting_messages(tx)
        for message in waiting:
            if self._ended.is_set():
                return
            delivered = self._post(url, message)
            with self._store.transaction() as tx:
                note_try(tx, message, delivered=delivered)

    def _post(self, url: str, message: sqlite3.Row) -> bool:
        headers, body = as_sns(message)
        request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 (checked with the settings)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return bool(200 <= answer.status < 300)
        except (OSError, http.client.HTTPException):
            return False
