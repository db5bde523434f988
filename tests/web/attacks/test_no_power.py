"""What the page cannot do, whoever asks: change settings, use archives, become more, fetch, spend."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from importlib.util import find_spec
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from backup.errors import StateDeniedError
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import open_inventory
from backup.web.guard.users import Role
from tests.support.pages import NAME, PASSWORD, VIEWER, Client, Page
from tests.support.servers import Server
from tests.web.attacks.asking import ACTING, API_ACTING, FORM, OWN, RUN, Daemon, routes

WORDS = (
    *("delete", "forget", "prune", "hook", "config", "policy", "policies", "key", "keys", "restore"),
    *("webhook", "notify", "test", "download", "upload", "cancel", "users"),
)


HOSTILE = {
    "hooks": "/bin/sh -c reboot",
    "before": '["reboot"]',
    "command": "reboot",
    "sources": "/etc",
    "config": "/etc/nightvault/config.toml",
    "do": "stop",
    "run": "main",
    "verb": "forget",
    "role": "operator",
    "user": "root",
    "path": "/etc/shadow",
    "target": "/",
    "max_cost": "1000000",
}
OFFERED = {"run": {"do", "job"}, "pause": {"do", "job", "until"}, "resume": {"do", "job"}}


def test_08_no_setting_hook_or_command_can_be_changed(
    web_page: Page, daemon: Daemon, one_backup: Server
) -> None:
    before = one_backup.config.read_bytes()
    client = web_page.login()
    for path in ACTING:
        assert client.post(path, HOSTILE | RUN | {"hours": "1"}).status == 303
    assert daemon.done == ["run", "pause", "resume"]
    for request in daemon.asked:
        if request["do"] != "status":
            assert set(request) == OFFERED[str(request["do"])]
            assert request["job"] == "main"
    assert one_backup.config.read_bytes() == before


def test_08_no_route_is_there_for_it(web_page: Page) -> None:
    changing = {route.path for route in routes(web_page) if "POST" in (route.methods or ())}
    assert changing == {"/login", "/logout", "/welcome", *ACTING, *API_ACTING}
    client = web_page.login()
    for word in WORDS:
        assert client.post(f"/{word}").status in {404, 405}
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert client.send(method, f"/{word}", headers=OWN).status == 405


def shown(client: Client) -> dict[str, bytes]:
    """What every page without a parameter shows."""
    pages = ("/", "/runs", "/runs/1", "/nights", "/browse", "/archives", "/search?q=a", "/schedule")
    return {path: client.get(path).body for path in pages}


def test_10_what_lies_in_a_vault_is_never_used(web_page: Page, one_backup: Server) -> None:
    """Archives are for a restore, which proves each byte; the page shows the inventory alone."""
    client = web_page.login()
    before = shown(client)
    archives = {
        path: path.read_bytes() for path in (one_backup.folder / "vault").rglob("*") if path.is_file()
    }
    assert archives
    for path in archives:
        path.write_bytes(b"<script>alert(1)</script>" * 100)
    try:
        assert shown(client) == before
    finally:
        for path, data in archives.items():
            path.write_bytes(data)


def test_10_what_opens_archives_is_not_even_loaded() -> None:
    code = "import backup.web.app, sys; print('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    keys = ("backup.app.base.state", "backup.credentials.identity", "backup.restorer.pack_keys", "backup.pki")
    ways = ("backup.vault", "backup.app.base.vaults", "backup.credentials.signer", "backup.notify")
    for name in (*keys, *ways, "boto3", "urllib3"):
        assert find_spec(name) is not None, name
        assert name not in found.stdout.split(), name


def test_15_an_operator_is_no_user_of_the_database(web_page: Page) -> None:
    def write(tx: Transaction) -> None:
        tx.connection.execute("DELETE FROM runs")

    with pytest.raises(StateDeniedError, match="only be read"):
        asyncio.run(web_page.context.reading.view(write))
    client = web_page.login()
    for text in ("'; DROP TABLE runs; --", '" OR 1=1', "%' UNION SELECT password FROM users --", "main'--"):
        assert client.post("/schedule/run", {"job": text}).status == 404
        for path in ("/runs?job=", "/search?q=", "/nights?job=", "/browse?snapshot=", "/quote?snapshot="):
            assert client.get(path + quote(text)).status in {200, 400, 404}
    assert b"main" in client.get("/runs").body


def test_15_a_viewer_stays_one(web_page: Page, daemon: Daemon) -> None:
    stranger = web_page.stranger()
    fields = {"name": VIEWER, "password": PASSWORD, "role": "operator", "user": NAME, "name2": NAME}
    assert stranger.post("/login", fields).status == 303
    said = {"X-Role": "operator", "X-Remote-User": NAME, "Authorization": f"Basic {NAME}"}
    for path in ACTING:
        assert stranger.post(path, RUN | {"role": "operator", "user": NAME}).status == 403
        given = FORM | OWN | said
        assert stranger.send("POST", path, headers=given, body=b"job=main").status in {401, 403}
    assert daemon.done == []
    assert web_page.context.accounts.role_of(VIEWER) is Role.VIEWER


@pytest.fixture
def bait() -> Iterator[socket.socket]:
    """A service beside the page, which nothing may be made to ask."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.settimeout(0.3)
        yield listening


def test_17_no_address_that_is_given_is_fetched(
    web_page: Page, bait: socket.socket, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []

    def look_up(*words: object, **_: object) -> list[object]:
        looked_up.append(words)
        return []

    port = bait.getsockname()[1]
    client = web_page.login()
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    address = f"http://127.0.0.1:{port}/x"
    names = ("url", "next", "path", "q", "job", "snapshot", "link", "webhook", "endpoint", "host", "callback")
    fields = dict.fromkeys(names, address)
    headers = {"Referer": address, "X-Forwarded-Host": f"127.0.0.1:{port}", "Forwarded": f"host={address}"}
    headers |= {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": address, "Destination": address}
    asked = 0
    for route in routes(web_page):
        path = route.path.replace("{number:int}", "1").replace("{job}", "main")
        if path in {"/events", "/logout", "/login"} or "{" in path:
            continue
        assert raw_status(client, f"{path}?{urlencode(fields)}", headers) < 500
        asked += 1
    for path in ACTING:
        assert raw_status(client, path, headers | FORM | OWN, urlencode(fields).encode()) < 500
    assert asked >= 15
    with pytest.raises(TimeoutError):
        bait.accept()
    assert looked_up == []
    assert daemon.done == []


def raw_status(client: Client, path: str, headers: dict[str, str], body: bytes | None = None) -> int:
    """The status of a request that no name server is needed for."""
    jar = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {client.authority}"]
    lines += [f"Cookie: {jar}", "Connection: close", f"Content-Length: {len(body or b'')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with closing(socket.socket()) as sock:
        sock.settimeout(20)
        sock.connect((client.host, client.port))
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return int(sock.recv(65536).split()[1])


def test_18_no_click_begins_a_restore_or_spends_anything(
    web_page: Page, daemon: Daemon, one_backup: Server
) -> None:
    client = web_page.login()
    snapshot = parse_qs(urlsplit(links(client.get("/browse").text)[0]).query)["snapshot"][0]
    price = f"/quote?{urlencode({'snapshot': snapshot, 'path': '/'})}"
    assert "nightvault restore" in client.get(price).text
    for method in ("POST", "PUT"):
        for path in (price, "/quote", "/restore", "/api/v1/quote", "/api/v1/restores", "/schedule/restore"):
            answer = client.send(method, path, headers=FORM | OWN, body=urlencode(HOSTILE).encode())
            assert answer.status in {401, 404, 405}, (method, path)
    assert {request["do"] for request in daemon.asked} <= {"status"}
    url = f"sqlite:///{one_backup.state}/inventory.sqlite"
    inventory = open_inventory(url, lock_directory=str(one_backup.state))
    with closing(inventory), inventory.reading() as tx:
        assert tx.connection.execute("SELECT count(*) FROM restores").fetchone()[0] == 0
        assert tx.connection.execute("SELECT count(*) FROM retrievals").fetchone()[0] == 0


def links(html: str) -> list[str]:
    """The addresses of folders on a page."""
    return [unescape(link) for link in re.findall(r'href="(/browse\?snapshot=[^"]+)"', html)]
