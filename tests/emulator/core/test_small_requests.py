"""What a small request must not cost: counted, not timed, so that it holds on any machine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.access.sigv4 import derived_key
from backup.emulator.core.http.protocol import _HeadFirst
from backup.emulator.core.state import settle
from backup.emulator.core.state.settings import Settings, SettingsInForce
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.duties import DUTIES
from backup.emulator.server import EmulatorOptions, application
from tests.support.emulated import write_accounts
from tests.support.emulator_clients import Talker

S3_PORT = 2
REPEATS = 20


class Inside:
    """The emulator's application without its sockets; `statements` are those that SQLite was given."""

    def __init__(self, folder: Path) -> None:
        accounts = write_accounts(folder / "accounts.toml")
        self.store = Store(folder / "state", speed=1, duties=DUTIES)
        self.statements: list[str] = []
        self.threads = 0
        options = EmulatorOptions(folder / "state", accounts)
        settings = SettingsInForce(Settings())
        self._app = application(options, self.store, AccountsFile(accounts), settings, S3_PORT)
        self.store._db.set_trace_callback(self.statements.append)

    def look_no_more(self) -> None:
        """Let the next look for what is old lie an hour ahead, so that no second that passes counts."""
        now = self.store.clock.now()
        self.store.swept = replace(now, real_ms=now.real_ms + 3_600_000)

    def ask(self, method: str, path: str, body: bytes = b"", **how: Any) -> tuple[int, bytes]:
        """Status and body of an answer."""
        s3 = path.startswith("/bucket")
        digest = hashlib.sha256(body).hexdigest()
        given = {"content-length": str(len(body)), "x-amz-content-sha256": digest} if s3 else {}
        talker = Talker(f"http://127.0.0.1:{S3_PORT if s3 else 1}")
        service = "s3" if s3 else "glacier"
        headers = talker.signed(method, path, body, {**given, **how.get("headers", {})}, service=service)
        return asyncio.run(self._ask(method, path, body, headers, S3_PORT if s3 else 1))

    async def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], port: int
    ) -> tuple[int, bytes]:
        sent: list[Any] = []
        scope = {
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", port),
            "state": {},
        }

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    """An emulator with a vault, a bucket and an object, that has looked for what is old already."""
    emulator = Inside(tmp_path)
    emulator.look_no_more()
    region = b"<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint>"
    assert emulator.ask("PUT", "/-/vaults/v")[0] == 201
    assert emulator.ask("PUT", "/bucket", region + b"</CreateBucketConfiguration>")[0] == 200
    assert emulator.ask("PUT", "/bucket/key", b"content")[0] == 200
    hand_over = asyncio.to_thread

    async def counted(work: Callable[..., Any], *given: Any) -> Any:
        emulator.threads += 1
        return await hand_over(work, *given)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    yield emulator
    emulator.store.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "most"),
    [
        ("GET", "/-/vaults/v", b"", 8),
        ("GET", "/-/vaults", b"", 6),
        ("PUT", "/-/vaults/v", b"", 10),
        ("HEAD", "/bucket/key", b"", 8),
        ("GET", "/bucket/key", b"", 8),
        ("PUT", "/bucket/key", b"new", 20),
    ],
)
def test_a_small_request_costs_little(inside: Inside, method: str, path: str, body: bytes, most: int) -> None:
    first = inside.ask(method, path, body)
    inside.statements.clear()
    derived = derived_key.cache_info().misses
    for _ in range(REPEATS):
        assert inside.ask(method, path, body) == first
    transactions = inside.statements.count("BEGIN IMMEDIATE")
    assert transactions == REPEATS * (2 if body else 1)
    assert len(inside.statements) <= REPEATS * most, inside.statements[-most - 1 :]
    assert inside.threads == 0
    assert derived_key.cache_info().misses <= derived + 1, "a key is derived once a day"


def test_what_is_due_comes_first_and_on_a_thread(inside: Inside) -> None:
    with inside.store.transaction() as tx:
        tx.db.execute("UPDATE vaults SET changed_ms = created_ms")
    assert b'"LastInventoryDate":null' in inside.ask("GET", "/-/vaults/v")[1]
    assert inside.threads == 0
    inside.store.advance(25 * 3600)
    inside.look_no_more()
    assert b'"LastInventoryDate":"2' in inside.ask("GET", "/-/vaults/v")[1]
    assert inside.threads == 1


def test_what_falls_due_is_known_after_every_change(inside: Inside) -> None:
    def due(tx: Transaction) -> int:
        assert settle._is_settled(inside.store, tx)
        return inside.store.outlook.due_ms

    with inside.store.transaction() as tx:
        never = due(tx)
        tx.db.execute("UPDATE vaults SET changed_ms = created_ms")
    with contextlib.suppress(ZeroDivisionError), inside.store.transaction() as tx:
        assert due(tx) < never
        tx.db.execute("UPDATE vaults SET changed_ms = NULL")
        assert due(tx) == never
        raise ZeroDivisionError
    with inside.store.transaction() as tx:
        tx.db.execute("UPDATE vaults SET name = name")
        assert due(tx) < never, "what was taken back counts no more"


def test_nobody_waits_who_must_not(inside: Inside) -> None:
    with inside.store.transaction(), inside.store.unless_busy() as tx:
        assert tx is None
    with inside.store.unless_busy() as tx:
        assert tx is not None


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def test_head_and_body_are_one_write() -> None:
    transport = _Transport()
    head_first = _HeadFirst(transport)  # type: ignore[arg-type]
    for data in (b"head", b"body", b"", b"more"):
        head_first.write(data)
    assert transport.written == [b"headbody", b"more"]
    head_first = _HeadFirst(transport)  # type: ignore[arg-type]
    head_first.write(b"head")
    head_first.close()
    assert transport.written[2:] == [b"head"]
    assert head_first.is_closing()
