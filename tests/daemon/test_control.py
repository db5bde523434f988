"""The control socket: it answers its owner and root in a line; nobody who is slow or hostile harms it."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.daemon import control
from backup.daemon.client import ask
from backup.daemon.control import ControlServer
from backup.daemon.local_socket import LONGEST_REQUEST, SOCKET
from backup.errors import DaemonAwayError, NightvaultError, UsageError

NOBODY = 65534


def echo(request: Mapping[str, object]) -> dict[str, Any]:
    return {"said": request.get("word")}


def refuse(_: Mapping[str, object]) -> dict[str, Any]:
    raise UsageError("not so", advice="but so")


def crash(_: Mapping[str, object]) -> dict[str, Any]:
    raise ZeroDivisionError("by zero")


VERBS = {"echo": echo, "refuse": refuse, "crash": crash}


@contextmanager
def listening(directory: Path, seconds: float = 1.0) -> Iterator[ControlServer]:
    server = ControlServer(str(directory), VERBS, seconds=seconds)
    server.start()
    try:
        yield server
    finally:
        server.close()


def connect(directory: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(directory / SOCKET))
    return client


def answer_to(directory: Path, sent: bytes) -> bytes:
    with closing(connect(directory)) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(sent)
        found = b""
        with suppress(ConnectionResetError):
            while piece := client.recv(65536):
                found += piece
    return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path is short enough for a socket."""
    return tmp_path_factory.mktemp("s")


def test_a_line_is_answered_by_a_line(place: Path) -> None:
    with listening(place):
        assert ask(str(place), {"do": "echo", "word": "ä\n\x00"}) == {"said": "ä\n\x00"}
        assert answer_to(place, b'{"do": "echo", "word": 1}\n') == b'{"said":1}\n'


def test_errors_are_those_of_the_daemon(place: Path) -> None:
    with listening(place), pytest.raises(NightvaultError) as caught:
        ask(str(place), {"do": "refuse"})
    assert (caught.value.kind, str(caught.value), caught.value.advice) == ("usage", "not so", "but so")
    assert caught.value.exit_code == 2


def test_what_a_socket_does_not_do_is_refused(place: Path) -> None:
    with listening(place), pytest.raises(NightvaultError, match="it does echo, refuse, crash"):
        ask(str(place), {"do": "status"})


def test_it_is_its_owners_alone_from_the_first_moment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    bind = socket.socket.bind

    def bound(self: socket.socket, path: str) -> None:
        bind(self, path)
        modes.append(stat.S_IMODE(os.stat(path).st_mode))

    monkeypatch.setattr(socket.socket, "bind", bound)
    mask = os.umask(0)
    try:
        with listening(place):
            assert modes == [0o600]
            assert stat.S_IMODE((place / SOCKET).stat().st_mode) == 0o600
    finally:
        os.umask(mask)
    assert not (place / SOCKET).exists()


def test_a_state_directory_with_a_long_path_has_one_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with listening(deep):
        assert ask(str(deep), {"do": "echo", "word": 1}) == {"said": 1}


def test_what_a_killed_daemon_left_is_taken_away_and_nothing_else(place: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place / SOCKET))
    left.close()
    with pytest.raises(DaemonAwayError):
        ask(str(place), {"do": "echo"})
    with listening(place):
        assert ask(str(place), {"do": "echo"}) == {"said": None}
    (place / SOCKET).write_text("a file of somebody")
    with pytest.raises(OSError, match="in use"):
        ControlServer(str(place), VERBS).start()
    assert (place / SOCKET).read_text() == "a file of somebody"


def test_without_a_daemon_it_says_so(place: Path) -> None:
    with pytest.raises(DaemonAwayError, match="the daemon gives no answer") as caught:
        ask(str(place), {"do": "status"})
    assert caught.value.exit_code == 15


AS_NOBODY = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    client.sendall(b'{"do": "echo"}\\n')
    print("answered" if client.recv(10) else "closed")
except PermissionError:
    print("not permitted")
except (BrokenPipeError, ConnectionResetError):
    print("closed")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("opened", "seen"), [(False, "not permitted"), (True, "closed")])
def test_another_user_is_kept_out_even_if_somebody_opened_the_socket_to_all(
    place: Path, opened: bool, seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in (place, *place.parents):
        if folder.stat().st_mode & 0o001 == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with listening(place):
        if opened:
            (place / SOCKET).chmod(0o777)
        words = [sys.executable, "-c", AS_NOBODY, str(place / SOCKET)]
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout
        assert said.strip() == seen
        assert ask(str(place), {"do": "echo"}) == {"said": None}
    assert ("a connection of user 65534 was refused" in caplog.text) is opened


@pytest.mark.parametrize(
    "sent",
    [b"\n", b"{}\n", b"[]\n", b'"do"\n', b"null\n", b"\xff\xfe\n", b"[" * 50_000 + b"\n",
     b'{"do": {"a": 1}}\n', b'{"do": "echo"', b'{"do": "crash"}\n', b'{"do": "echo"}\n{"do": "echo"}\n'],
)  # fmt: skip
def test_nonsense_harms_nothing(place: Path, sent: bytes) -> None:
    with listening(place, seconds=0.3):
        found = answer_to(place, sent)
        assert found == b"" or "error" in json.loads(found) or "said" in json.loads(found)
        assert found.count(b"\n") <= 1
        assert ask(str(place), {"do": "echo"}) == {"said": None}


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_harm_nothing(tmp_path_factory: pytest.TempPathFactory, sent: bytes) -> None:
    place = tmp_path_factory.mktemp("s")
    with listening(place, seconds=0.3):
        answer_to(place, sent + b"\n")
        assert ask(str(place), {"do": "echo"}) == {"said": None}


def test_a_request_without_an_end_is_given_up(place: Path) -> None:
    with listening(place, seconds=10):
        began = time.monotonic()
        assert answer_to(place, b"x" * (LONGEST_REQUEST + 200_000)) == b""
        assert time.monotonic() - began < 5


def test_slow_clients_hold_up_nobody_and_are_given_up(place: Path) -> None:
    """One sends a byte now and then, one reads nothing of a large answer, many say nothing at all."""
    big = {"big": lambda _: {"text": "x" * 4_000_000}}
    server = ControlServer(str(place), {**VERBS, **big}, seconds=0.8)
    server.start()
    with closing(server), closing(connect(place)) as dripping, closing(connect(place)) as deaf:
        silent = [connect(place) for _ in range(5)]
        deaf.sendall(b'{"do": "big"}\n')
        began = time.monotonic()
        assert ask(str(place), {"do": "echo"}) == {"said": None}
        assert time.monotonic() - began < 0.7
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - began < 10:
                dripping.sendall(b" ")
                time.sleep(0.05)
        assert time.monotonic() - began < 5
        assert [connection.recv(10) for connection in silent] == [b""] * 5
        for connection in silent:
            connection.close()
        deadline = time.monotonic() + 5
        while server._room._value < control._MOST_CLIENTS and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server._room._value == control._MOST_CLIENTS


def test_more_clients_than_there_is_room_for_are_turned_away_and_later_ones_are_served(place: Path) -> None:
    with listening(place, seconds=0.5):
        crowd = [connect(place) for _ in range(control._MOST_CLIENTS + 8)]
        for connection in crowd:
            assert connection.recv(10) == b""
            connection.close()
        assert ask(str(place), {"do": "echo"}) == {"said": None}
    assert threading.active_count() < 40


def test_clients_that_go_away_at_any_moment_harm_nothing(place: Path) -> None:
    chance = random.Random(1)
    with listening(place):
        for _ in range(60):
            with closing(connect(place)) as client:
                client.sendall(b'{"do": "echo"}\n'[: chance.randrange(16)])
                if chance.random() < 0.5:  # a reset in place of an orderly end
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ask(str(place), {"do": "echo"}) == {"said": None}
