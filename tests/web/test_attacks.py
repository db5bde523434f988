"""The ways in which pages of backup programs were attacked, each with raw requests."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.routing import Route

from backup.config import load_config
from backup.errors import ConfigError
from backup.web.app import build
from backup.web.guard.users import Role, Scope
from tests.support.doubles import ManualClock
from tests.support.pages import PASSWORD, VIEWER, Client, Page, running_page
from tests.support.servers import Server


class Daemon:
    """A daemon that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    def __call__(self, request: dict[str, object]) -> dict[str, object]:
        self.asked.append(dict(request))
        return {"tasks": [], "job": request.get("job"), "queued": True}

    @property
    def done(self) -> list[object]:
        """What it was asked to change."""
        return [one["do"] for one in self.asked if one["do"] != "status"]


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def web_page(one_backup: Server, daemon: Daemon) -> Iterator[Page]:
    one_backup.clock = ManualClock(one_backup.clock.now())
    with running_page(one_backup, ask=daemon) as page:  # type: ignore[arg-type]
        yield page


RUN = {"job": "main"}
ACTING = ("/schedule/run", "/schedule/pause", "/schedule/resume")
API_ACTING = tuple(f"/api/v1/jobs/{{job}}/{verb}" for verb in ("run", "pause", "resume"))
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def routes(page: Page) -> list[Route]:
    return [route for route in build(page.context).routes if isinstance(route, Route)]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {},
    ],
)
def test_01_another_site_changes_nothing(client: Client, daemon: Daemon, headers: dict[str, str]) -> None:
    for path in (*ACTING, "/logout", "/login", "/welcome"):
        answer = client.send("POST", path, headers=FORM | headers, body=b"job=main")
        assert answer.status == 403
    for path in (f"{path}?job=main" for path in ACTING):
        assert client.get(path).status == 405
    assert daemon.done == []
    own = {"Origin": f"http://{client.authority}"}
    assert client.send("POST", "/schedule/run", headers=FORM | own, body=b"job=main").status == 303
    assert daemon.done == ["run"]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost", "127.0.0.1.evil.example", "a@127.0.0.1", "", "10.0.0.1"]
)
def test_02_a_name_of_an_attacker_is_refused(client: Client, host: str) -> None:
    answer = client.get("/", Host=host)
    assert answer.status == 421
    assert "main" not in answer.text


def test_02_two_hosts_are_refused(client: Client) -> None:
    said = raw(client, f"GET /healthz HTTP/1.1\r\nHost: {client.authority}\r\nHost: evil.example\r\n\r\n")
    assert b" 200 " not in said.partition(b"\r\n")[0]


def test_03_nothing_is_shown_without_a_login(web_page: Page) -> None:
    stranger = web_page.stranger()
    seen = 0
    for route in routes(web_page):
        path = re.sub(r"\{[^}]*\}", "1", route.path)
        if path in {"/login", "/welcome", "/healthz"} or path.startswith("/static/"):
            continue
        for method in route.methods or ():
            given = FORM | {"Sec-Fetch-Site": "same-origin"}
            answer = stranger.send(method, path, headers=given, body=b"" if method == "POST" else None)
            assert answer.status in {303, 401}, (method, path)
            if answer.status == 303:
                assert answer.headers["location"].startswith("/login")
            seen += 1
    assert seen >= 5


def test_03_an_unknown_path_says_nothing_to_a_stranger(web_page: Page) -> None:
    assert web_page.stranger().get("/no/such").status == web_page.stranger().get("/").status == 303


def test_04_secrets_are_in_no_log_header_or_error(web_page: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = web_page.login()
    now = web_page.context.clock.now()
    token = web_page.context.accounts.add_token("t", Scope.API, now + timedelta(days=1), now)
    link = web_page.context.accounts.make_link(VIEWER, now)
    answers = [
        client.get("/nothing"),
        client.get("/welcome?link=" + link),
        web_page.stranger().get("/api/v1/none", Authorization=f"Bearer {token}"),
        web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD + "!"}),
        client.post("/schedule/run", {"job": token}),
    ]
    secrets = {token, PASSWORD, *client.cookies.values()}
    for answer in answers:
        for secret in secrets - {token}:
            assert secret not in answer.text + str(answer.headers)
        assert answer.headers["referrer-policy"] == "no-referrer"
    for secret in secrets | {link}:
        assert secret not in caplog.text
    web_page.context.accounts.remove_token("t")


def test_04_only_hashes_are_kept(web_page: Page, one_backup: Server) -> None:
    client = web_page.login()
    kept = b"".join(path.read_bytes() for path in Path(f"{one_backup.state}-web").iterdir())
    for secret in (PASSWORD, *client.cookies.values()):
        assert secret.encode() not in kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(f"{one_backup.state}-web").iterdir())


def test_05_there_is_no_default_user(web_page: Page) -> None:
    for name in ("admin", "root", "nightvault", ""):
        for password in ("", "admin", "nightvault"):
            answer = web_page.stranger().post("/login", {"name": name, "password": password})
            assert answer.status in {403, 429}
            assert not answer.cookies


def test_07_the_proxys_header_counts_on_a_unix_socket_alone(web_page: Page, one_backup: Server) -> None:
    for name in ("X-Remote-User", "Remote-User", "X-Forwarded-User", "X-Webauth-User"):
        assert web_page.stranger().send("GET", "/", headers={name: "ada"}).status == 303
    from backup.cli.support.page_setup import page_settings

    one_backup.config.write_text('[web]\nuser_header = "X-Remote-User"\n' + one_backup.config.read_text())
    try:
        with pytest.raises(ConfigError, match="whoever reaches the port"):
            page_settings(load_config(str(one_backup.config)), listen=None, behind_proxy=False)
    finally:
        text = one_backup.config.read_text()
        one_backup.config.write_text(text.removeprefix('[web]\nuser_header = "X-Remote-User"\n'))


WORDS = (
    *("delete", "forget", "prune", "hook", "config", "policy", "policies", "key", "keys", "restore"),
    *("webhook", "notify", "test", "download", "upload", "cancel", "users"),
)


def test_08_10_15_17_18_no_route_edits_deletes_restores_or_fetches(web_page: Page) -> None:
    changing = {route.path for route in routes(web_page) if "POST" in (route.methods or ())}
    assert changing == {"/login", "/logout", "/welcome", *ACTING, *API_ACTING}
    client, given = web_page.login(), {"Sec-Fetch-Site": "same-origin"}
    for word in WORDS:
        assert client.post(f"/{word}").status in {404, 405}
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert client.send(method, f"/{word}", headers=given).status == 405


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../../../etc/passwd", "/static/%2e%2e/%2e%2e/config.toml", "//etc/passwd"),
        *("/static/..%2f..%2fapp.py", "/static/%00", "/static//etc/passwd"),
    ],
)
def test_09_no_path_leads_out(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in {400, 404}
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "/\r\nX: y"]
)
def test_09_a_login_leads_nowhere_else(web_page: Page, target: str) -> None:
    fields = {"name": "ada", "password": PASSWORD, "next": target}
    answer = web_page.stranger().post("/login", fields)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "X" not in answer.headers


def test_11_what_is_shown_is_escaped(web_page: Page) -> None:
    hostile = '"><script>alert(1)</script>'
    client = web_page.login()
    for answer in (
        web_page.stranger().post("/login", {"name": hostile, "password": "x", "next": "/" + hostile}),
        client.get("/welcome?link=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"),
        client.post("/schedule/run", {"job": hostile}),
    ):
        assert "<script>alert" not in answer.text


def test_12_no_frame_no_foreign_script_no_other_origin(client: Client) -> None:
    for path in ("/", "/login", "/nothing", "/healthz", "/api/v1/none"):
        headers = client.get(path, Origin="http://evil.example").headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_13_no_header_is_made_of_what_was_asked(client: Client) -> None:
    for path in ("/nothing%0d%0aX-Evil:1", "/?a=%0d%0aX-Evil:1", "/login?next=/%0d%0aX-Evil:1"):
        assert "X-Evil" not in client.get(path).headers


def raw(client: Client, text: str, *, wait: float = 5.0) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection((client.host, client.port), timeout=wait) as sock:
        sock.sendall(text.encode())
        sock.shutdown(socket.SHUT_WR)
        said = b""
        while piece := sock.recv(65536):
            said += piece
        return said


def test_14_what_is_too_large_is_refused(client: Client) -> None:
    form = FORM | {"Sec-Fetch-Site": "same-origin"}
    assert client.send("POST", "/login", headers=form, body=b"a" * 70_000).status == 413
    assert client.send("POST", "/login", headers=form, body=b"&".join([b"a=b"] * 1000)).status == 400
    assert client.get("/?" + "a" * 9000).status == 414
    chunked = f"POST /login HTTP/1.1\r\nHost: {client.authority}\r\nSec-Fetch-Site: same-origin\r\n"
    chunked += "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = raw(client, chunked + ("2000\r\n" + "a" * 0x2000 + "\r\n") * 9 + "0\r\n\r\n")
    assert said.split()[1] == b"400"
    huge = f"GET / HTTP/1.1\r\nHost: {client.authority}\r\nX: {'a' * 40_000}\r\n\r\n"
    assert raw(client, huge).split()[1] in {b"400", b"431"}


def test_14_a_client_that_sends_nothing_is_cut_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.web.server.HEAD_SECONDS", 0.3)
    with socket.create_connection((client.host, client.port), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost:")
        began = time.monotonic()
        with suppress(ConnectionResetError):
            while sock.recv(100):
                pass
        assert time.monotonic() - began < 3


def test_14_streams_are_few(web_page: Page) -> None:
    client = web_page.login()
    held = []
    jar = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    try:
        for _ in range(4):
            sock = socket.create_connection((client.host, client.port), timeout=5)
            held.append(sock)
            sock.sendall(
                f"GET /events HTTP/1.1\r\nHost: {client.authority}\r\nCookie: {jar}\r\n\r\n".encode()
            )
            assert b" 200 " in sock.recv(4096)
        assert client.get("/events").status == 204
    finally:
        for sock in held:
            sock.close()


def test_16_nothing_is_left_of_a_removed_user(web_page: Page) -> None:
    accounts, now = web_page.context.accounts, web_page.context.clock.now()
    from backup.web.guard.passwords import hash_password

    accounts.add_user("eve", Role.OPERATOR, hash_password("quite another word 9"), now)
    eve = web_page.login("eve", "quite another word 9")
    assert eve.get("/").status == 200
    accounts.remove_user("eve")
    assert eve.get("/").status == 303
    accounts.add_user("eve", Role.VIEWER, None, now)
    assert eve.get("/").status == 303
    accounts.remove_user("eve")


def test_16_typing_the_password_again_is_for_the_same_account(web_page: Page) -> None:
    viewer = web_page.login(VIEWER)
    assert viewer.post("/schedule/run", RUN).status == 403
    answer = viewer.post("/login", {"name": "ada", "password": PASSWORD})
    assert answer.status == 303
    assert viewer.post("/schedule/run", RUN).status == 403


def test_16_a_session_ends_and_is_new_at_each_login(web_page: Page, daemon: Daemon) -> None:
    client, clock = web_page.login(), web_page.context.clock
    first = dict(client.cookies)
    clock.sleep(6 * 60)  # no fresh login any more
    assert client.post("/schedule/run", RUN).headers["location"].startswith("/login")
    assert daemon.done == []
    assert client.post("/login", {"password": PASSWORD}).status == 303
    assert client.cookies["nightvault"] != first["nightvault"]
    stale = Client(client.host, client.port, first)
    assert stale.get("/").status == 303
    assert client.post("/schedule/run", RUN).status == 303
    assert daemon.done == ["run"]
    clock.sleep(2 * 3600 + 1)
    assert client.get("/").status == 303


def test_a_cookie_is_for_no_script_and_no_other_site(web_page: Page) -> None:
    answer = web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD})
    for cookie in answer.cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie


def test_guessing_is_slowed_down_and_the_owner_is_not_kept_out(web_page: Page) -> None:
    owner = web_page.login()
    guesser = web_page.stranger()
    statuses = [guesser.post("/login", {"name": "ada", "password": f"guess {n}"}).status for n in range(7)]
    assert statuses[:5] == [403] * 5
    assert statuses[6] == 429
    assert web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD}).status == 429
    owner.cookies.pop("nightvault")
    assert owner.post("/login", {"name": "ada", "password": PASSWORD}).status == 303
    web_page.context.clock.sleep(301)
    assert web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD}).status == 303


def test_a_token_reads_within_its_scope_until_it_expires(web_page: Page) -> None:
    accounts, clock = web_page.context.accounts, web_page.context.clock
    secret = accounts.add_token("mon", Scope.METRICS, clock.now() + timedelta(hours=1), clock.now())
    bearer = {"Authorization": f"Bearer {secret}"}
    stranger = web_page.stranger()
    assert b"nightvault_last_success" in stranger.get("/metrics", **bearer).body
    assert stranger.get("/api/v1/none", **bearer).status == 401
    assert stranger.get("/", **bearer).status == 303
    assert stranger.post("/schedule/run", RUN, **bearer).status == 401
    clock.sleep(3601)
    assert stranger.get("/metrics", **bearer).status == 401


def test_a_link_sets_a_password_once(web_page: Page) -> None:
    accounts, clock = web_page.context.accounts, web_page.context.clock
    accounts.add_user("lin", Role.VIEWER, None, clock.now())
    link = accounts.make_link("lin", clock.now())
    stranger = web_page.stranger()
    assert stranger.post("/welcome", {"link": link, "password": "short"}).status == 400
    assert stranger.post("/welcome", {"link": link, "password": "a long one of words"}).status == 303
    assert stranger.post("/welcome", {"link": link, "password": "another long of words"}).status == 403
    assert web_page.login("lin", "a long one of words").get("/").status == 200
    old = accounts.make_link("lin", clock.now())
    clock.sleep(24 * 3600 + 1)
    assert stranger.post("/welcome", {"link": old, "password": "another long of words"}).status == 403
    accounts.remove_user("lin")


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "192.0.2.1:1", "[::]:1"])
def test_other_machines_need_tls(one_backup: Server, listen: str) -> None:
    from backup.cli.support.page_setup import page_settings

    config = load_config(str(one_backup.config))
    with pytest.raises(ConfigError, match="in clear"):
        page_settings(config, listen=listen, behind_proxy=False)
    assert page_settings(config, listen=listen, behind_proxy=True).has_tls
