"""An answer that comes a byte now and then ends; a slow download, and a slow reader, do not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from backup import answers_in_time
from backup.errors import UnreachableError
from backup.vault.aws import translated_errors
from tests.support.rigs import s3_client

Pieces = Iterator[tuple[float, bytes]]


@contextmanager
def answering(pieces: Callable[[], Pieces]) -> Iterator[str]:
    """The address of a server that reads each request, and answers so: bytes, each after its seconds."""
    over = threading.Event()

    def serve(one: socket.socket) -> None:
        with one, suppress(OSError):
            one.settimeout(0.3)
            with suppress(TimeoutError):
                while one.recv(65_536):
                    pass
            for seconds, piece in pieces():
                if over.wait(seconds):
                    return
                one.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def trickling(at_once: bytes) -> Callable[[], Pieces]:
    def pieces() -> Pieces:
        yield 0.0, at_once
        for _ in range(600):
            yield 0.05, b"x"

    return pieces


HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "e"\r\n\r\n'
BEGUN = [HEAD, b"HTTP/1.1 200 OK\r\nETag: ", b"", b"HTTP/1.1 100 Continue\r\nA: "]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_in_time, "ANSWER_SECONDS", 1.0)


ASK: dict[str, Callable[[object], object]] = {
    "list": lambda s3: s3.list_objects_v2(Bucket="b"),  # type: ignore[attr-defined]
    "get": lambda s3: s3.get_object(Bucket="b", Key="k")["Body"].read(),  # type: ignore[attr-defined]
    "put": lambda s3: s3.put_object(Bucket="b", Key="k", Body=b"x" * 100_000),  # type: ignore[attr-defined]
    "part": lambda s3: s3.upload_part(  # type: ignore[attr-defined]
        Bucket="b", Key="k", PartNumber=1, UploadId="u", Body=b"x" * 100_000
    ),
}


@pytest.mark.parametrize("at_once", BEGUN)
@pytest.mark.parametrize("ask", ASK)
def test_a_byte_now_and_then_is_no_answer(ask: str, at_once: bytes) -> None:
    with answering(trickling(at_once)) as url:
        began = time.monotonic()
        with pytest.raises(UnreachableError), translated_errors("ask"):
            ASK[ask](s3_client(url))
        assert time.monotonic() - began < 10


def test_a_slow_line_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far longer than an answer of some bytes may take, but faster than a dead one."""
    monkeypatch.setattr(answers_in_time, "ANSWER_SECONDS", 0.5)

    def pieces() -> Pieces:
        yield 0.0, HEAD
        for _ in range(20):
            yield 0.1, b"x" * 50

    with answering(pieces) as url:
        assert s3_client(url).get_object(Bucket="b", Key="k")["Body"].read() == b"x" * 1000


def test_a_slow_reader_is_waited_for() -> None:
    """A limit of the config lets a download rest; that is not the vault's time."""
    with answering(lambda: iter([(0.0, HEAD + b"x" * 1000)])) as url:
        body = s3_client(url).get_object(Bucket="b", Key="k")["Body"]
        time.sleep(1.5)
        got = body.read(10)
        time.sleep(1.5)
        assert len(got + body.read()) == 1000
