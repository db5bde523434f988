"""A worker that says what nobody understands, or nothing: it is gone, and takes nothing of ours along."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from backup.errors import WorkerGoneError
from backup.source.scanner import ScannerProcess
from backup.workers import worker
from tests.support.other_processes import start_instead

CODE = """
import os, socket, stat
handles = [int(number) for number in os.listdir("/proc/self/fd")]
there = [number for number in handles if number > 2 and os.path.exists(f"/proc/self/fd/{number}")]
(ours,) = [number for number in there if stat.S_ISSOCK(os.fstat(number).st_mode)]
connection = socket.socket(fileno=ours)
connection.recv(1 << 20)
socket.send_fds(connection, [MESSAGE], [os.open("/", os.O_RDONLY)])
raise SystemExit("that was all")
"""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    "message",
    [b"", b"\1\0\0\0\1\0\0\0\xc1", b"\1\0\0\0\0\0\0\0\xc0", b"\xff\0\0\0\1\0\0\0short"],
    ids=["nothing", "no MessagePack", "fewer handles than came", "the half of it"],
)
def test_it_is_gone_with_its_last_words(monkeypatch: pytest.MonkeyPatch, message: bytes) -> None:
    monkeypatch.setattr(worker, "start", start_instead(CODE.replace("MESSAGE", repr(message))))
    process = ScannerProcess({}, {})
    with pytest.raises(WorkerGoneError, match="it ended with exit code 1: that was all"):
        list(process.directories(lambda _: None))
    process.close()
    process.close()  # as often as anybody likes


def test_one_that_cannot_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker, "start", refuse)
    with pytest.raises(BlockingIOError):
        ScannerProcess({}, {})
