"""No channel tells its secret: not in outputs, logs, kept answers, crash files or the process list."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from tests.cli.listener import Listener
from tests.support.identities import server_certificate
from tests.support.notified_servers import secret_file
from tests.support.program_forks import run_command
from tests.support.receivers import MailServer, Request, mail_server, receiving, server_tls
from tests.support.servers import SCRIPT, Server, directory_server

pytestmark = pytest.mark.slow

SECRETS = {
    "the mail password": "mail-pässword-7f3a",
    "the token of ntfy": "tk_ntfysecret00000000000000000000",
    "the token of gotify": "AgotifySECRET1x",
    "the password of the hook": "hook password/5+5=10",
    "the path of the hook": "T0HOOKPATH/B0SECRETxyz",
    "the ping": "7d0f2c1e-aaaa-4bbb-8ccc-123456789abc",
    "the address of apprise": "apprise-secret-word-9911",
}
HOSTILE_STATUS = 400


def echo(request: Request) -> tuple[int, str]:
    """A receiver that refuses, and says all that it was sent."""
    words = {"path": request.path, "headers": dict(request.headers), "body": request.body.decode()}
    return HOSTILE_STATUS, json.dumps(words)


def command_lines(heard: Listener) -> None:
    """Keep the command line of each process."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                heard.hear(f"process {name}", Path(f"/proc/{name}/cmdline").read_bytes())
            except OSError:
                continue


@pytest.fixture
def heard() -> Listener:
    return Listener(SECRETS)


@pytest.fixture
def server(tmp_path: Path, heard: Listener) -> Iterator[Server]:
    """A server with a channel of each kind, whose receivers refuse, and repeat what they got."""
    made = directory_server(tmp_path, clock=SystemClock())
    files = {name: secret_file(tmp_path / f"s{n}", text) for n, (name, text) in enumerate(SECRETS.items())}

    def judge(request: Request) -> tuple[int, str]:
        command_lines(heard)
        return echo(request)

    with ExitStack() as stack:
        url = stack.enter_context(receiving(judge)).url
        certificate = server_certificate(tmp_path)
        mail = stack.enter_context(mail_server(MailServer("night", "another"), server_tls(*certificate)))
        hook = secret_file(tmp_path / "hook", f"{url}/hooks/{SECRETS['the path of the hook']}")
        ping = secret_file(tmp_path / "ping", f"{url}/ping/{SECRETS['the ping']}?x=y")
        other = f"json://{url.partition('//')[2]}/{SECRETS['the address of apprise']}"
        apprise = secret_file(tmp_path / "apprise", other)
        made.write_config(
            f'[[vault]]\nname = "cold"\nkind = "directory"\npath = "{tmp_path / "vault"}"\n',
            channel("smtp", f'host = "127.0.0.1"\nport = {mail.port}\nca_file = "{certificate[0]}"'),
            f'from = "a@example.org"\nto = ["b@example.org"]\nuser = "night"\n'
            f'password_file = "{files["the mail password"]}"',
            channel("ntfy", f'url = "{url}/topic"\ntoken_file = "{files["the token of ntfy"]}"'),
            channel("gotify", f'url = "{url}"\ntoken_file = "{files["the token of gotify"]}"'),
            channel("webhook", f'url_file = "{hook}"\nuser = "night"'),
            f'password_file = "{files["the password of the hook"]}"',
            channel("ping", f'url_file = "{ping}"'),
            channel("apprise", f'url_file = "{apprise}"'),
        )
        made.init()
        yield made


def channel(kind: str, keys: str) -> str:
    return f'[[notify.channel]]\nname = "{kind}"\nkind = "{kind}"\n{keys}'


def run(server: Server, heard: Listener, *words: str) -> None:
    done = run_command(["--config", str(server.config), *words], os.environ, seconds=120)
    heard.hear(" ".join(words), done.stdout, done.stderr)


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_nothing_tells_a_secret(server: Server, heard: Listener, tmp_path: Path) -> None:
    (server.folder / "vault").rename(server.folder / "gone")
    run(server, heard, "--verbose", "notify", "test")
    heard.hear("notify test", server.run("--json", "notify", "test").output)
    run(server, heard, "--verbose", "backup")
    for words in (
        ("notify", "list"),
        ("notify", "send"),
        ("status",),
        ("config", "show"),
        ("notify", "report"),
    ):
        run(server, heard, "--json", *words)
        run(server, heard, *words)
    with (tmp_path / "log").open("wb") as log:
        command = [SCRIPT, "--verbose", "--config", str(server.config), "daemon"]
        with subprocess.Popen(command, stderr=log) as process:
            try:
                until(lambda: b"started with" in (tmp_path / "log").read_bytes())
                run(server, heard, "run", "main")
                until(lambda: b"not sent" in (tmp_path / "log").read_bytes())
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
            finally:
                process.kill()
    heard.hear("the daemon's log", (tmp_path / "log").read_bytes())
    heard.hear_files("the state directory", server.state, but=("spool",))
    assert heard.amount > 100_000
    assert heard.told() == []


def test_a_listener_would_hear_it(heard: Listener) -> None:
    heard.hear("somebody", SECRETS["the ping"])
    assert heard.told() == ["somebody told the ping"]
