"""A center with a real PostgreSQL, and servers that tell it, for tests."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import urllib3
from cryptography.hazmat.primitives.serialization import Encoding

from backup.app.base.clock import SystemClock
from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.format.host_report import (
    CERTIFICATE,
    PATH,
    SIGNATURE,
    HostReport,
    signed_text,
    written_report,
)
from backup.pki.authority import Authority
from backup.pki.issuing import Issued
from tests.support.database_servers import PASSWORD, RunningServer, newest_postgresql, postgresql
from tests.support.identities import authority_in, issue_in
from tests.support.servers import Server, directory_server

PROGRAMS = newest_postgresql()
needs_postgresql = pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed")
OWNER_PASSWORD = "plover-Vega"
CHAIN = "0123456789abcdef" * 2


@contextmanager
def center_database(*, is_durable: bool = False) -> Iterator[tuple[RunningServer, str]]:
    """A PostgreSQL with an empty database that an ordinary user owns, and its address."""
    assert PROGRAMS is not None
    with postgresql(PROGRAMS, is_durable=is_durable) as server, pytest.MonkeyPatch.context() as patch:
        with closing(superuser(server)) as connection:
            connection.execute(f"CREATE ROLE nightvault LOGIN PASSWORD '{OWNER_PASSWORD}'")
            connection.execute("CREATE DATABASE nightvault OWNER nightvault")
        passwords = server.folder / "pgpass"
        passwords.write_text(f"*:*:*:nightvault:{OWNER_PASSWORD}\n")
        passwords.chmod(0o600)
        patch.setenv("PGPASSFILE", str(passwords))
        yield server, f"postgresql://nightvault@/nightvault?host={server.host}"


def superuser(server: RunningServer, database: str = "postgres") -> psycopg.Connection[Any]:
    """A connection of the superuser, each statement by itself."""
    words = {"host": server.host, "user": "postgres", "password": PASSWORD, "dbname": database}
    return psycopg.connect(**words, autocommit=True)  # type: ignore[arg-type]


@dataclass
class Center:
    """A center that runs as a process, with its authority, and hosts that it may be told by."""

    folder: Path
    url: str
    authority: Authority
    port: int = 0

    @property
    def address(self) -> str:
        """Where it is told."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def served(self, *words: object) -> Iterator[Path]:
        """It runs, for servers that were not invited as well unless `words` say how; the file of its log."""
        self.port = self.port or free_port()
        with ExitStack() as stack:
            admin = stack.enter_context(
                self.admin.process(
                    *("center", "serve", "--database", self.url, "--listen", f"127.0.0.1:{self.port}"),
                    *("--authority", self.authority.certificate_path, *(words or ("--uninvited",))),
                )
            )
            assert admin.stderr is not None
            assert "listens" in admin.stderr.readline()
            wait_for(self.port)
            log = self.folder / "center.log"
            yield log
            admin.terminate()
            log.write_text(admin.communicate(timeout=30)[1])
            assert admin.returncode == 0

    @property
    def admin(self) -> Server:
        """Who gives commands at the center; it has no config."""
        return Server(self.folder / "admin", SystemClock())

    def command(self, *words: object, exit_code: int = 0) -> Any:
        """The document of a command at the center."""
        return self.admin.json("center", *words, "--database", self.url, exit_code=exit_code)

    def issued(self, name: str) -> Issued:
        """A certificate for a host."""
        return issue_in(self.authority, str(self.folder / "issued" / name), name=name, now=datetime.now(UTC))

    def identity(self, name: str) -> Identity:
        """A host's identity, for reports by hand."""
        issued = self.issued(name)
        return load_identity(IdentityFiles(issued.certificate_path, issued.key_path))

    def server(self, name: str) -> Server:
        """A server with a certificate of that name, set up."""
        issued = self.issued(name)
        made = directory_server(self.folder / name, clock=SystemClock())
        keys = f'certificate = "{issued.certificate_path}"\nprivate_key = "{issued.key_path}"\n'
        made.config.write_text(f"{made.config.read_text()}\n[identity]\n{keys}")
        made.init()
        return made

    def send(self, identity: Identity, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Send a report by hand; the status and the answer. `headers` replace those that are right."""
        return self.post(body, {**self.signed(identity, body), **headers})

    def signed(self, identity: Identity, body: bytes, path: str = PATH) -> dict[str, str]:
        """The headers of a request that is right."""
        host = f"127.0.0.1:{self.port}"
        coded = base64.b64encode(identity.certificate.public_bytes(Encoding.DER)).decode()
        signature = base64.b64encode(identity.sign(signed_text(host, body, path))).decode()
        return {"Host": host, CERTIFICATE: coded, SIGNATURE: signature}

    def post(self, body: bytes, headers: Mapping[str, str], path: str = PATH) -> tuple[int, dict[str, Any]]:
        """Send any request to where reports go, or to another path."""
        answer = urllib3.request(
            "POST", self.address + path, body=body, headers=headers, retries=False, timeout=30.0
        )
        try:
            return answer.status, json.loads(answer.data)
        except ValueError:
            return answer.status, {}


def body_of(number: int = 1, changes: Any = None, **more: Any) -> bytes:
    """A report by hand."""
    told = {"to": {"well": True, "concerns": [], "jobs": []}} if changes is None else changes
    values = {"chain": CHAIN, "number": number, "at": int(time.time()), "program": "1.0", "changes": told}
    return written_report(HostReport(**{**values, **more}))


def new_center(folder: Path, url: str) -> Center:
    """A center with an authority of its own, set up."""
    (folder / "admin").mkdir(parents=True)
    authority = authority_in(str(folder / "ca"), datetime.now(UTC) - timedelta(days=30))
    center = Center(folder, url, authority)
    center.command("init")
    return center


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nobody listens")
