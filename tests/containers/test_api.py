"""The API of an engine: its version is found, and no answer of it is a traceback, or without an end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backup.containers.api import ContainerEngine, ContainersError
from tests.containers.engine_server import EngineServer


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [("1.24", "1.41", "1.41"), ("1.44", "1.52", "1.44"), ("1.24", "1.44", "1.44")],
)
def test_the_newest_version_that_both_speak(tmp_path: Path, oldest: str, newest: str, spoken: str) -> None:
    with EngineServer(tmp_path, oldest=oldest, newest=newest) as engine:
        engine.volume("shop")
        asking = ContainerEngine(engine.address)
        assert [volume.name for volume in asking.volumes()] == ["shop"]
        assert engine.versions == {spoken}


def test_what_a_command_printed_last_and_its_exit_code(tmp_path: Path) -> None:
    with EngineServer(tmp_path) as engine:
        engine.run = lambda *_: (7, b"x" * 100_000 + b"\nlast words\n")
        engine.container("db")
        asking = ContainerEngine(engine.address)
        container = asking.container("db")
        assert container is not None
        code, said = asking.run(container, ["true"], 10)
        assert (code, said.splitlines()[-1]) == (7, "last words")
        assert len(said) <= 4096


def test_what_is_not_there_is_none_and_a_stop_twice_is_no_stop(tmp_path: Path) -> None:
    with EngineServer(tmp_path) as engine:
        engine.container("db")
        asking = ContainerEngine(engine.address)
        container = asking.container("db")
        assert container is not None
        assert [asking.stop(container), asking.stop(container)] == [True, False]
        assert [asking.start(container.id), asking.start(container.id), asking.start("0")] == [
            True,
            True,
            False,
        ]
        assert (asking.container("no/../body"), asking.volume("nothing")) == (None, None)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[str]:
    """A server at a socket that answers everything with these bytes."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(65536):
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix://{path}"
        stop.set()
        with closing(socket.socket(socket.AF_UNIX)) as last:
            last.connect(str(path))
        thread.join()


PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{",
        PING + b"Content-Length: 4\r\n\r\nnone",
        PING + b'Content-Length: 13\r\n\r\n["something"]',
        PING + b'Content-Length: 10\r\n\r\n{"Id": {}}',
        b"HTTP/1.1 500 No\r\nApi-Version: x\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_answers_of_something_else_are_errors_in_our_words(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "s", answer) as address, pytest.raises(ContainersError) as raised:
        ContainerEngine(address).container("db")
    assert address in str(raised.value)


def test_a_command_that_does_not_end_is_left_to_its_container(tmp_path: Path) -> None:
    with EngineServer(tmp_path) as engine:
        engine.container("db")
        engine.is_endless = True
        asking = ContainerEngine(engine.address)
        container = asking.container("db")
        assert container is not None
        began = time.monotonic()
        with pytest.raises(ContainersError, match="took longer than 1 s, and goes on in its container"):
            asking.run(container, ["sleep", "100"], 1)
        assert time.monotonic() - began < 5
