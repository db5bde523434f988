"""Strangers are sent to the login; who logs in sees the page."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.support.pages import Client, Page
from tests.support.servers import Server


def test_a_stranger_is_sent_to_the_login_and_comes_back(web_page: Page) -> None:
    stranger = web_page.stranger()
    answer = stranger.get("/runs?job=main")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=%2Fruns%3Fjob%3Dmain")
    assert stranger.get("/healthz").body == b"ok\n"


def test_who_logs_in_sees_the_page(client: Client) -> None:
    answer = client.get("/")
    assert answer.status == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.post("/logout").status == 303
    assert client.get("/").status == 303


def test_an_address_that_cannot_be_listened_on(one_backup: Server) -> None:
    """In words, without a number that only programmers know."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = f"127.0.0.1:{taken.getsockname()[1]}"
        reasons = {used: "Address already in use", "127.0.0.1:99999": "a port is at most 65535"}
        for listen, reason in reasons.items():
            with one_backup.process("web", "--listen", listen) as process:
                _, said = process.communicate(timeout=30)
            assert process.returncode == 1
            assert f"nightvault: cannot listen on {listen}: {reason}\n  choose another --listen\n" in said


def test_a_backup_goes_before_the_page(one_backup: Server) -> None:
    with one_backup.process("web", "--listen", "127.0.0.1:0") as process:
        assert process.stderr is not None
        while "listens" not in process.stderr.readline():
            assert process.poll() is None
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            assert os.getpriority(os.PRIO_PROCESS, int(thread.name)) == 19
