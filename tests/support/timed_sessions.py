"""The emulator's Roles Anywhere behind real HTTP, by a clock that a test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.errors import ServiceError
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.state.store import Store
from backup.emulator.core.wire import Answer, Inbound, session_error
from backup.emulator.rolesanywhere.sessions import SessionService
from backup.protocols import Clock
from tests.support.emulated import ACCOUNT_ID, REGION, write_accounts

ANCHOR = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor/timed"
PROFILE = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:profile/timed"
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/Timed"
TRUST = {
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "rolesanywhere.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {"ArnEquals": {"aws:SourceArn": ANCHOR}},
        }
    ]
}


@dataclass
class TimedSessions:
    """CreateSession on loopback; `is_away` has it answer 503."""

    service: SessionService
    clock: Clock
    url: str = ""
    is_away: bool = False
    serials: list[str] = field(default_factory=list)

    def answer(self, inbound: Inbound, body: bytes) -> Answer:
        """The emulator's own answer, at the clock's time."""
        if self.is_away:
            return session_error(ServiceError("ServiceUnavailableException", "Come again.", status=503))
        try:
            answer = self.service.create_session(inbound, body, self.clock.now())
        except ServiceError as error:
            return session_error(error)
        self.serials.append((inbound.header("authorization") or "").partition("Credential=")[2].split("/")[0])
        return answer


@contextmanager
def timed_sessions(folder: Path, certificates: Sequence[Path], clock: Clock) -> Iterator[TimedSessions]:
    """Serve until the end of the block; files of the trust anchor are read again when they change."""
    accounts = write_accounts(
        folder / "accounts.toml",
        trust_anchors=[{"arn": ANCHOR, "certificates": certificates}],
        profiles=[{"arn": PROFILE, "role_arns": [ROLE]}],
        roles=[{"arn": ROLE, "trust_policy": TRUST}],
    )
    store = Store(folder / "sessions", speed=1)
    sessions = TimedSessions(SessionService(store, AccountsFile(accounts), FaultPlan(), 1), clock)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(sessions))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    sessions.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield sessions
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        store.close()


def _handler_of(sessions: TimedSessions) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            head = tuple((name.lower(), value) for name, value in self.headers.items())
            answer = sessions.answer(Inbound("POST", url.path, url.query, head), body)
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    return Handler
