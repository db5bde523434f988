"""Receivers of messages: a mail server, and HTTP servers that refuse what the real ones refuse.

ntfy (server/server.go, util/util.go): the topic is 1 to 64 of letters, digits, - and _; priorities 1 to 5;
JSON is posted to the root; a message above 4,096 bytes is refused where files are off (413); 401 or 403
without the right token. Gotify (api/message.go): X-Gotify-Key, a `message` that is not empty, priority a
whole number. Healthchecks (hc/api/views.py): 404 for what is no check, `rid` must be a UUID (400), suffixes
start, fail, log and 0 to 255; 100,000 bytes of a body are kept.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from msgspec import Struct

NTFY_BYTES = 4096
PING_BYTES = 100_000


class Request(Struct, frozen=True):
    """A request as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values."""
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)


Judge = Callable[[Request], tuple[int, str]]


@dataclass
class Receiver:
    """A running HTTP receiver: what it took, all that came, and how it answers.

    `away` answers 503 to so many requests; `lose` closes so many connections after having taken a request.
    """

    url: str
    judge: Judge
    taken: list[Request] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    away: int = 0
    lose: int = 0


def ntfy(token: str) -> Judge:
    """As an ntfy server does that lets this token write."""

    def judge(request: Request) -> tuple[int, str]:
        if request.headers.get("authorization") != f"Bearer {token}":
            return 401, json.dumps({"code": 40101, "http": 401, "error": "unauthorized"})
        if urlsplit(request.path).path != "/":
            return 404, json.dumps({"code": 40401, "http": 404, "error": "page not found"})
        try:
            document = request.json
        except ValueError:
            return 400, json.dumps(
                {"code": 40017, "http": 400, "error": "invalid request: request body must be JSON"}
            )
        if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", document.get("topic", "")):
            return 400, json.dumps({"code": 40009, "http": 400, "error": "invalid request: topic invalid"})
        if document.get("priority", 3) not in range(1, 6):
            return 400, json.dumps({"code": 40007, "http": 400, "error": "invalid priority parameter"})
        if not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", document.get("sequence_id", "a")):
            return 400, json.dumps(
                {"code": 40049, "http": 400, "error": "invalid request: sequence ID invalid"}
            )
        if len(document.get("message", "").encode()) > NTFY_BYTES:
            return 413, json.dumps({"code": 41301, "http": 413, "error": "attachment too large"})
        return 200, json.dumps({"id": "sPs71M8A2T", "event": "message", "topic": document["topic"]})

    return judge


def gotify(token: str) -> Judge:
    """As a Gotify server does with an application of this token."""

    def judge(request: Request) -> tuple[int, str]:
        if request.headers.get("x-gotify-key") != token:
            told = "you need to provide a valid access token or user credentials to access this api"
            return 401, json.dumps({"error": "Unauthorized", "errorCode": 401, "errorDescription": told})
        if urlsplit(request.path).path != "/message":
            return 404, json.dumps({"error": "Not Found", "errorCode": 404})
        document = request.json
        if not document.get("message"):
            return 400, json.dumps(
                {"error": "Bad Request", "errorCode": 400, "errorDescription": "Field 'message' is required"}
            )
        if not isinstance(document.get("priority", 0), int):
            return 400, json.dumps({"error": "Bad Request", "errorCode": 400})
        return 200, json.dumps({"id": 25, "appid": 5, "message": document["message"]})

    return judge


def healthchecks(check: str) -> Judge:
    """As healthchecks does with one check, at /ping/UUID."""
    place = re.compile(rf"/ping/{check}(?:/(start|fail|log|[0-9]{{1,3}}))?")

    def judge(request: Request) -> tuple[int, str]:
        match = place.fullmatch(urlsplit(request.path).path)
        if match is None or (match[1] and match[1].isdigit() and int(match[1]) > 255):
            return 404, "not found"
        for rid in request.query.get("rid", []):
            try:
                if str(uuid.UUID(rid)) != rid:
                    raise ValueError
            except ValueError:
                return 400, "invalid uuid format"
        return 200, "OK"

    return judge


def webhook(request: Request) -> tuple[int, str]:
    """As a program that takes JSON of ours."""
    if request.headers.get("content-type") != "application/json" or "idempotency-key" not in request.headers:
        return 415, "unsupported"
    return (204, "") if isinstance(request.json, dict) else (400, "no object")


@contextmanager
def receiving(judge: Judge, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A running receiver on this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            made.seen.append(request)
            status, text = made.judge(request)
            if made.away:
                made.away -= 1
                status, text = 503, "come again"
            elif 200 <= status < 300:
                made.taken.append(request)
            if made.lose:
                made.lose -= 1
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST  # noqa: N815  its name is the library's

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Nothing: a test closes connections on purpose."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    made = Receiver(f"{scheme}://127.0.0.1:{server.server_port}", judge)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def dripping(at_once: bytes, slowly: bytes = b"x" * 1000, every: float = 0.1) -> Iterator[int]:
    """The port of a server that answers this at once, and then that, a byte now and then."""
    over = threading.Event()

    def serve(caller: socket.socket) -> None:
        with caller, suppress(OSError):
            caller.sendall(at_once)
            for byte in slowly:
                if over.wait(every):
                    return
                caller.sendall(bytes([byte]))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS with its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class MailServer:
    """A running mail server that wants TLS and a login, if it has a password; `mails` are what it took.

    `refuses`: answers to recipients instead of taking them; `answers`: those to the next mails, in turn.
    """

    def __init__(self, user: str = "", password: str = "") -> None:
        self.user, self.password = user, password
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuses: dict[str, str] = {}
        self.answers: list[str] = []
        self.host, self.port = "127.0.0.1", 0

    async def handle_RCPT(  # noqa: N802  its name is the library's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or not."""
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail, or not."""
        if self.answers and (answer := self.answers.pop(0)):
            return answer
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 2.0.0 Ok: queued as 4B2C"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        """Whether user and password are right."""
        right = (self.user.encode(), self.password.encode())
        is_right = isinstance(data, LoginPassword) and (data.login, data.password) == right
        return AuthResult(success=is_right, handled=is_right)


@contextmanager
def mail_server(
    made: MailServer, tls: ssl.SSLContext | None = None, *, at_once: bool = False
) -> Iterator[MailServer]:
    """Run a mail server, with STARTTLS or, `at_once`, TLS from the first byte."""
    more: dict[str, Any] = {}
    if tls is not None and not at_once:
        more = {"tls_context": tls, "require_starttls": True}
    if made.password:
        more |= {"authenticator": made.authenticate, "auth_required": True, "auth_require_tls": not at_once}
    with socket.create_server(("127.0.0.1", 0)) as free:  # the library cannot choose one by itself
        made.port = free.getsockname()[1]
    controller = Controller(
        made,
        hostname="127.0.0.1",
        port=made.port,
        ssl_context=tls if at_once else None,
        ready_timeout=20,
        **more,
    )
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
