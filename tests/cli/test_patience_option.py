"""An endpoint that is away: one sentence within half a minute, or after --patience."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.app import SystemClock
from tests.support.doubles import ManualClock
from tests.support.servers import Cloud, Server, running_cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Server:
    """A server whose vault was there, and whose endpoint is a port that nobody listens at."""
    made = cloud.server(tmp_path, vault=f"away-{zlib.crc32(str(tmp_path).encode()):08x}", kind="s3")
    made.init()
    made.backup()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = made.config.read_text()
    made.config.write_text(text.replace(cloud.emulator.s3_url, f"http://127.0.0.1:{port}"))
    made.clock = ManualClock(SystemClock().now())
    return made


def slept(server: Server) -> float:
    assert isinstance(server.clock, ManualClock)
    total = sum(server.clock.slept)
    server.clock.slept.clear()
    return total


def commands(server: Server) -> list[tuple[object, ...]]:
    key = ("--key", server.key_file)
    return [
        ("backup",),
        ("restore", "latest", "--target", server.folder / "out", *key),
        ("dump", f"latest:{server.source}/a.txt", *key),
        ("check",),
        ("check", "--read-data", "1%"),
        ("listing", "request"),
        ("rebuild", "--set-aside", *key),
    ]


def test_every_command_gives_up_within_half_a_minute(server: Server) -> None:
    """With one sentence and 15, and by --patience later."""
    for words in commands(server):
        assert "cannot" in server.fails(15, *words)
        assert slept(server) <= 30, words


def test_patience_is_longer_where_it_is_said(server: Server) -> None:
    """Before or after the command's name, also before a word of `restore`."""
    for words in commands(server)[:-2]:
        told = server.fails(15, "--patience", "5m", *words)
        assert "it is tried again" in told, words
        assert 200 <= slept(server) <= 300, words
        server.clock = ManualClock(SystemClock().now())  # or signatures would be of the future
    server.fails(2, "--patience", "soon", "backup")
    server.fails(2, "restore", "--patience", "1m", "resume", "nothing")


def test_an_endpoint_that_swallows_everything(server: Server) -> None:
    """No answer at all, by the real clock: a word soon, an end within some thirty seconds."""
    server.clock = SystemClock()
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        full = [socket.socket() for _ in range(4)]  # the backlog is full: further connections hang
        for connection in full:
            connection.setblocking(False)
            connection.connect_ex(hole.getsockname())
        lines = server.config.read_text().splitlines()
        place = max(n for n, line in enumerate(lines) if line.startswith("endpoint"))
        lines[place] = f'endpoint = "http://127.0.0.1:{hole.getsockname()[1]}"'
        server.config.write_text("\n".join(lines) + "\n")
        began = time.monotonic()
        told = server.fails(15, "backup")
        took = time.monotonic() - began
        for connection in full:
            connection.close()
    assert took <= 33
    assert "it is tried again" in told


def test_refused_keys_are_no_trace(server: Server, cloud: Cloud) -> None:
    """botocore's own warning about keys that it did not get holds a whole traceback, which nobody sees."""
    cloud.accounts.write_text(cloud.accounts.read_text().replace("BEGIN CERTIFICATE", "BEGIN NOTHING"))
    with server.process("vaults") as process:
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait(60) != 0
    assert "Traceback" not in told
    assert "Refreshing" not in told
