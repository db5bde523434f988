"""A CreateSession that answers as it is told: for denials, throttling, outages and rubbish."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3
from msgspec import Struct, field

from backup.credentials.createsession import create_session
from backup.credentials.identity import Identity
from backup.credentials.options import RolesAnywhereOptions
from backup.model import Credentials
from tests.support.identities import ANCHOR, NOW, PROFILE, ROLE

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYSCRATCHKEY"
TOKEN = "FwoGZXIvYXdzEScratchToken"


class Answer(Struct, frozen=True):
    """What the server says; `delay` in seconds comes before it, `drop` closes the connection instead."""

    status: int = 201
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


class Seen(Struct, frozen=True):
    """A request as it came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def keys_until(expires: datetime, number: int = 1) -> Answer:
    """A good answer whose keys say which one they are."""
    keys = {
        "accessKeyId": f"ASIASCRATCH{number:09d}",
        "secretAccessKey": SECRET,
        "sessionToken": f"{TOKEN}{number}",
        "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    document = {"credentialSet": [{"credentials": keys, "packedPolicySize": 5}], "subjectArn": "arn:aws:x"}
    return Answer(body=json.dumps(document).encode())


def no(message: str, code: str = "AccessDeniedException", status: int = 403, **headers: str) -> Answer:
    """A refusal in AWS's form."""
    body = json.dumps({"message": message}).encode()
    return Answer(status, body, {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/", **headers})


class ScratchServer:
    """The server: `answer` is asked for each request, by its number from 1."""

    def __init__(self, answer: Callable[[int], Answer]) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._handle(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            self.seen.append(Seen(handler.path, dict(handler.headers.items()), body))
            number = len(self.seen)
        answer = self.answer(number)
        time.sleep(answer.delay)
        if answer.drop:
            handler.close_connection = True
            return
        with suppress(ConnectionError):  # a client that waited long enough has gone
            handler.send_response_only(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(answer.body)

    @contextmanager
    def running(self) -> Iterator[ScratchServer]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def sessions(start: datetime, life: timedelta) -> Callable[[int], Answer]:
    """Good answers only, each with keys that live for `life` from `start`, one life later each time."""
    return lambda number: keys_until(start + life * number, number)


def ask(answer: Answer, signer: Identity) -> Credentials:
    with ScratchServer(lambda _number: answer).running() as server:
        options = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE, endpoint=server.url)
        return create_session(options, signer, http=urllib3.PoolManager(), now=NOW)
