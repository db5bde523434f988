"""Strangers are sent to the login; who logs in sees the page."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.support.pages import Client, Page
from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.users import AS_NOBODY


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


def said_until_it_listens(process: subprocess.Popen[str]) -> str:
    """What a page says until it serves; it is ended then, as systemd ends it."""
    assert process.stderr is not None
    said = ""
    while "listens" not in said.rpartition("\n")[0]:
        said += (line := process.stderr.readline())
        assert line, said
    process.terminate()
    return said + process.stderr.read()


def test_a_page_of_root_says_so_and_how_it_gets_a_user_of_its_own(one_backup: Server) -> None:
    """It stayed root without a word, and the page says that who breaks into it has no rights."""
    with one_backup.process("web", "--listen", "127.0.0.1:0") as process:
        said = said_until_it_listens(process)
    if os.geteuid():
        assert "root" not in said
        return
    assert "warning: this page runs as root: whoever breaks into it has all rights here." in said
    assert "as the user nightvault-web: docs/web.md" in said


def test_a_page_of_another_user_does_not(nobody: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nightvault-test-", dir="/var/lib") as name:
        server = directory_server(Path(name))
        server.init()
        for path in (server.folder, *server.folder.rglob("*")):
            os.chown(path, nobody, nobody, follow_symlinks=False)
        words = [*AS_NOBODY, SCRIPT, "--config", str(server.config), "web", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd="/") as process:
            assert "root" not in said_until_it_listens(process)
