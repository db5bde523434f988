"""Messages about jobs: who gets one, what is in it, and how a webhook that fails is tried again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backup.emulator.core.state.settings import Settings, changed
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, Talker, arn_of, new_vault_name, pattern

TOPIC = "arn:aws:sns:eu-central-1:123456789012:vault"
OWN = "arn:aws:sns:eu-central-1:123456789012:job"
HOURS = 3600


class Hook:
    """A webhook that remembers what came; `status` is asked for each post, by its number from 1."""

    def __init__(self, status: Callable[[int], int]) -> None:
        self.posts: list[tuple[dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.posts.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status(len(outer.posts)))
                self.send_header("Content-Length", "0")
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?x=1"

    @contextmanager
    def running(self) -> Iterator[Hook]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    folder = tmp_path_factory.mktemp("webhook")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


def ask_for_archive(talker: Talker, vault: str, *events: str, topic: str | None = None) -> str:
    """A retrieval in a new vault whose topic listens to `events`; its job id."""
    data = pattern(MIB + 5)
    talker.ask("PUT", f"/-/vaults/{vault}")
    if events:
        wanted = json.dumps({"SNSTopic": TOPIC, "Events": events}).encode()
        assert talker.ask("PUT", f"/-/vaults/{vault}/notification-configuration", wanted).status == 204
    stored = talker.upload(f"/-/vaults/{vault}/archives", data, {})
    job = {"Type": "archive-retrieval", "ArchiveId": stored.headers["x-amz-archive-id"], "Tier": "Standard"}
    asked = json.dumps(job if topic is None else {**job, "SNSTopic": topic}).encode()
    return str(talker.ask("POST", f"/-/vaults/{vault}/jobs", asked).headers["x-amz-job-id"])


def messages(emulator: RunningEmulator, vault: str) -> list[dict[str, Any]]:
    """The admin's list, of one vault."""
    found = emulator._admin("messages")["messages"]
    return [message for message in found if message["message"]["VaultARN"] == arn_of(vault)]


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_gets_a_message(own: RunningEmulator) -> None:
    talker = Talker(own.glacier_url)
    both, wrong, none = new_vault_name(), new_vault_name(), new_vault_name()
    job = ask_for_archive(talker, both, "ArchiveRetrievalCompleted", topic=OWN)
    ask_for_archive(talker, wrong, "InventoryRetrievalCompleted")
    ask_for_archive(talker, none)
    assert messages(own, both) == []
    own.advance(4 * HOURS)
    found = messages(own, both)
    assert [message["topic"] for message in found] == [TOPIC, OWN]
    assert {(message["state"], message["tries"]) for message in found} == {("waiting", 0)}
    described = talker.ask("GET", f"/-/vaults/{both}/jobs/{job}").json
    assert found[0]["message"] == found[1]["message"] == described
    assert described["StatusCode"] == "Succeeded"
    assert messages(own, wrong) == messages(own, none) == []


def test_an_inventory_is_told_too(own: RunningEmulator) -> None:
    talker, vault = Talker(own.glacier_url), new_vault_name()
    ask_for_archive(talker, vault, "InventoryRetrievalCompleted")
    own.make_inventories()
    talker.ask("POST", f"/-/vaults/{vault}/jobs", json.dumps({"Type": "inventory-retrieval"}).encode())
    own.advance(5 * HOURS)
    assert [message["message"]["Action"] for message in messages(own, vault)] == ["InventoryRetrieval"]


def test_delivered_as_sns_does_and_tried_again(own: RunningEmulator) -> None:
    talker, vault = Talker(own.glacier_url), new_vault_name()
    own.advance(30 * HOURS)
    ask_for_archive(talker, vault, "ArchiveRetrievalCompleted")
    statuses = {1: 500, 2: 302}
    with Hook(lambda number: statuses.get(number, 200)).running() as hook:
        own.change_settings(webhook="http://127.0.0.1:9/nobody")
        own.advance(4 * HOURS)
        wait_until(lambda: messages(own, vault)[0]["tries"] > 0)
        own.change_settings(webhook=hook.url)
        wait_until(lambda: messages(own, vault)[0]["state"] == "delivered")
        own.change_settings(webhook="")
        posts = [post for post in hook.posts if arn_of(vault) in post[1]["Message"]]
    assert messages(own, vault)[0]["tries"] > len(posts) >= 1  # some went nowhere
    assert len(hook.posts) > 2  # the 500 and the redirect were no deliveries
    headers, body = posts[-1]
    assert headers["x-amz-sns-message-type"] == body["Type"] == "Notification"
    assert headers["x-amz-sns-topic-arn"] == body["TopicArn"] == TOPIC
    assert headers["x-amz-sns-message-id"] == body["MessageId"] == messages(own, vault)[0]["message_id"]
    assert json.loads(body["Message"]) == messages(own, vault)[0]["message"]


def test_time_alone_ends_a_job_and_no_request_waits(tmp_path: Path) -> None:
    def slow(_number: int) -> int:
        time.sleep(1.5)
        return 200

    accounts = write_accounts(tmp_path / "accounts.toml")
    with Hook(slow).running() as hook:
        options = ("--set", f"webhook={hook.url}")
        with RunningEmulator(tmp_path / "state", accounts, speed=20_000, options=options) as emulator:
            talker, vault = Talker(emulator.glacier_url), new_vault_name()
            ask_for_archive(talker, vault, "ArchiveRetrievalCompleted")  # due in 0.7 s
            wait_until(lambda: len(hook.posts) == 1)
            began = time.monotonic()
            for _ in range(5):
                assert talker.ask("GET", f"/-/vaults/{vault}").status == 200
            assert time.monotonic() - began < 1
            wait_until(lambda: messages(emulator, vault)[0]["state"] == "delivered")


def test_what_waits_is_delivered_after_a_restart(tmp_path: Path) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts) as emulator:
        talker, vault = Talker(emulator.glacier_url), new_vault_name()
        ask_for_archive(talker, vault, topic=OWN)
        emulator.advance(4 * HOURS)
        assert len(messages(emulator, vault)) == 1
        emulator.kill()
        emulator.start()
        with Hook(lambda _number: 204).running() as hook:
            emulator.change_settings(webhook=hook.url)
            wait_until(lambda: messages(emulator, vault)[0]["state"] == "delivered")


NOWHERE = ("http://example.com/", "ftp://127.0.0.1/", "http://", "http://me:pass@127.0.0.1/", "http://[", "x")


@pytest.mark.parametrize("url", NOWHERE)
def test_no_webhook_elsewhere_unless_it_is_meant(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        changed(Settings(), {"webhook": url})


def test_a_webhook_elsewhere_can_be_meant() -> None:
    wanted = {"webhook": "https://example.com/x", "webhook_elsewhere": True}
    assert changed(Settings(), wanted).webhook == "https://example.com/x"
    with pytest.raises(ValueError, match="must be a text"):
        changed(Settings(), {"webhook": True})
