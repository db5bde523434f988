"""Messages between processes: they come whole, with their open files, and leave no handle behind."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from backup.workers.messages import HEAD, close_all, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection with as little room as the kernel allows."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def handles(tmp_path: Path) -> Iterator[list[int]]:
    """Some open files."""
    opened = [os.open(tmp_path / str(number), os.O_CREAT | os.O_RDWR) for number in range(5)]
    yield opened
    close_all(opened)


def handles_of(folder: Path) -> int:
    """How often this process has files of a folder open."""
    opened = 0
    for handle in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            opened += os.readlink(f"/proc/self/fd/{handle}").startswith(f"{folder}/")
    return opened


@pytest.mark.parametrize("polls", [False, True])
def test_messages_come_whole_with_their_files(
    pair: Pair, handles: list[int], tmp_path: Path, polls: bool
) -> None:
    """Larger than the socket's room or empty, and whether the sender waits or does something else."""
    ours, theirs = pair
    chance = random.Random(5)
    sizes = [0, 1, 300_000, *(chance.randrange(60_000) for _ in range(20))]
    sent = [(chance.randbytes(size), handles[: chance.randrange(6)]) for size in sizes]
    waited = []

    def send_all() -> None:
        for body, some in sent:
            send(ours, body, some, (lambda: waited.append(1)) if polls else None)

    sender = Thread(target=send_all)
    sender.start()
    for body, some in sent:
        found, copies = receive(theirs, len(handles))
        assert found == body
        assert [os.fstat(copy).st_ino for copy in copies] == [os.fstat(handle).st_ino for handle in some]
        close_all(copies)
    sender.join()
    assert bool(waited) == polls
    assert handles_of(tmp_path) == len(handles)


@pytest.mark.parametrize(
    ("told", "most", "error"),
    [(2, 5, "lost on the way"), (1, 5, "closed the connection"), (1, 0, "lost on the way")],
    ids=["fewer than were told", "an end within the message", "more than are taken"],
)
def test_a_message_in_part_leaves_no_handle(
    pair: Pair, handles: list[int], tmp_path: Path, told: int, most: int, error: str
) -> None:
    ours, theirs = pair
    socket.send_fds(ours, [HEAD.pack(10, told) + b"half"], handles[:1])
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError, match=error):
        receive(theirs, most)
    assert handles_of(tmp_path) == len(handles)


def test_no_message_is_the_end(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        receive(pair[1])
