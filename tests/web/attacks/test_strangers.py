"""Who is not logged in: nothing is shown, nothing leaks, there is no side door."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from backup.cli.support.page_setup import page_settings
from backup.config import load_config
from backup.errors import ConfigError
from backup.web.guard.users import Role, Scope
from tests.support.pages import NAME, PASSWORD, VIEWER, Page
from tests.support.servers import Server
from tests.support.users import AS_NOBODY
from tests.web.attacks.asking import ACTING, FORM, Daemon, routes


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
    token = web_page.context.accounts.add_token("t", NAME, Scope.API, now + timedelta(days=1), now)
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


def test_06_a_link_sets_one_password_although_six_ask_at_once(web_page: Page) -> None:
    accounts, now = web_page.context.accounts, web_page.context.clock.now()
    accounts.add_user("grace", Role.VIEWER, None, now)
    link = accounts.make_link("grace", now)

    def use(number: int) -> int:
        fields = {"link": link, "password": f"a long password {number}"}
        return web_page.stranger().post("/welcome", fields).status

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(use, range(6))) == [303] + [403] * 5


def test_07_the_proxys_header_counts_on_a_unix_socket_alone(web_page: Page, one_backup: Server) -> None:
    for name in ("X-Remote-User", "Remote-User", "X-Forwarded-User", "X-Webauth-User"):
        assert web_page.stranger().send("GET", "/", headers={name: "ada"}).status == 303

    one_backup.config.write_text('[web]\nuser_header = "X-Remote-User"\n' + one_backup.config.read_text())
    try:
        with pytest.raises(ConfigError, match="whoever reaches the port"):
            page_settings(load_config(str(one_backup.config)), listen=None, behind_proxy=False)
    finally:
        text = one_backup.config.read_text()
        one_backup.config.write_text(text.removeprefix('[web]\nuser_header = "X-Remote-User"\n'))


AS_ANOTHER = """
import http.client, sys
for path in sys.argv[2:]:
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
    connection.request("POST", path, "job=main", {"Content-Type": "application/x-www-form-urlencoded",
                                                  "Sec-Fetch-Site": "same-origin"})
    print(connection.getresponse().status)
    connection.close()
"""


def test_06_another_local_user_is_a_stranger(web_page: Page, daemon: Daemon, nobody: int) -> None:
    """The sockets of daemon and page: test_another_user.py."""
    found = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", AS_ANOTHER, str(web_page.port), *ACTING],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
    )
    assert found.stdout.split() == ["401"] * len(ACTING), found.stderr
    assert daemon.asked == []
