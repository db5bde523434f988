"""Messages to topics on the end of jobs: an outbox, and the thread that posts them to the webhook in the
settings, so that no request waits for it.

Source: Developer Guide (configuring-notifications): the message is the job object; a vault's topic and the
job's own each get one. The newest thousand are kept.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import sys
import threading
import urllib.request
import uuid
from collections.abc import Mapping
from typing import IO

from backup.emulator.core.errors import DISK_ERRORS, describe_disk
from backup.emulator.core.wire import date_ms

from .settings import SettingsInForce
from .settle import settle
from .store import Store, Transaction

PAUSE_SECONDS = 0.2
TIMEOUT_SECONDS = 5.0
MOST_KEPT = 1000
MOST_TRIES = 10
LONGEST_PAUSE_MS = 60_000


def topics_of(tx: Transaction, vault: int, event: str, own: str | None) -> list[str]:
    """The topics to notify of an event in a vault, including the job's `own`; each once."""
    row = tx.db.execute("SELECT sns_topic, events FROM notifications WHERE vault = ?", (vault,)).fetchone()
    of_vault = [row["sns_topic"]] if row is not None and event in row["events"].split(",") else []
    return list(dict.fromkeys([*of_vault, *([own] if own else [])]))


def put_message(tx: Transaction, topic: str, document: Mapping[str, object]) -> None:
    """Put a message into the outbox."""
    tx.db.execute(
        "INSERT INTO messages (message_id, topic, message, created_ms, next_real_ms) VALUES (?, ?, ?, ?, ?)",
        (str(uuid.uuid4()), topic, json.dumps(document), tx.now_ms, tx.moment.real_ms),
    )
    tx.db.execute("DELETE FROM messages WHERE id <= (SELECT max(id) FROM messages) - ?", (MOST_KEPT,))


def waiting_messages(tx: Transaction) -> list[sqlite3.Row]:
    """The messages that are due to be sent now, oldest first."""
    return tx.db.execute(
        "SELECT * FROM messages WHERE state = 'waiting' AND next_real_ms <= ? ORDER BY id LIMIT 20",
        (tx.moment.real_ms,),
    ).fetchall()


def note_try(tx: Transaction, message: sqlite3.Row, *, delivered: bool) -> None:
    """Record an attempt: delivered, to be repeated after a pause that doubles, or given up."""
    tries = message["tries"] + 1
    state = "delivered" if delivered else "waiting" if tries < MOST_TRIES else "given up"
    pause = min(1000 << message["tries"], LONGEST_PAUSE_MS)
    tx.db.execute(
        "UPDATE messages SET tries = ?, state = ?, next_real_ms = ? WHERE id = ?",
        (tries, state, tx.moment.real_ms + pause, message["id"]),
    )


def list_messages(tx: Transaction) -> list[dict[str, object]]:
    """All kept messages, for the admin interface."""
    return [
        {
            "message_id": row["message_id"],
            "topic": row["topic"],
            "created": date_ms(row["created_ms"]),
            "state": row["state"],
            "tries": row["tries"],
            "message": json.loads(row["message"]),
        }
        for row in tx.db.execute("SELECT * FROM messages ORDER BY id")
    ]


def as_sns(message: sqlite3.Row) -> tuple[dict[str, str], bytes]:
    """Headers and body as SNS posts them to an HTTP endpoint, without a signature."""
    document = {
        "Type": "Notification",
        "MessageId": message["message_id"],
        "TopicArn": message["topic"],
        "Subject": "Notification From Amazon Glacier Service",
        "Message": message["message"],
        "Timestamp": date_ms(message["created_ms"]),
        "SignatureVersion": "1",
    }
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": message["message_id"],
        "x-amz-sns-topic-arn": message["topic"],
    }
    return headers, json.dumps(document).encode()


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
