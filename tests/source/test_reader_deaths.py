"""Reading in a second process: answers come in order, nobody waits for ever, and a death is told."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backup.errors import WorkerGoneError
from backup.model import MIB
from backup.source.reader import ReaderProcess, answer_one, request_of
from backup.source.small import (
    MOST_DIRECTORIES,
    MOST_FILES,
    MOST_REQUESTS,
    ReadBatch,
    seen,
)
from backup.workers.messages import HEAD
from tests.source.smalls import CHUNK_KEY, CONTENT_KEY, FileToRead, ask, columns_of, read_here, told_by


@pytest.fixture
def reader() -> Iterator[ReaderProcess]:
    process = ReaderProcess(chunk_key=CHUNK_KEY, content_key=CONTENT_KEY, batch_bytes=4 * MIB)
    yield process
    process.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path, os.O_RDONLY)
    yield handle
    os.close(handle)


def files(folder: Path, contents: Sequence[bytes], first: int = 0) -> list[FileToRead]:
    """Files in a directory, which is the first of the question."""
    wanted = []
    for number, content in enumerate(contents, first):
        name = b"%06d" % number
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            file.write(content)
        wanted.append(FileToRead(0, name, seen(os.stat(path))))
    return wanted


def contents_told(answer: ReadBatch, wanted: Sequence[FileToRead]) -> list[bytes | None]:
    """The content of each file by the answer; None for one that was not read."""
    return [file and file.data for file in told_by(answer, wanted)]


def test_questions_are_answered_in_their_order(reader: ReaderProcess, tmp_path: Path, folder: int) -> None:
    chance = random.Random(7)
    contents = [chance.randbytes(chance.choice([0, 0, 1, 100, 5000])) for _ in range(300)]
    wanted = files(tmp_path, contents)
    gone = set(chance.sample(range(300), 60))
    for number in gone:
        os.unlink(tmp_path / f"{number:06}")
    starts = range(0, 300, 300 // MOST_REQUESTS)
    for start in starts:
        ask(reader, [folder], wanted[start : start + starts.step])
    for start in starts:
        span = range(start, start + starts.step)
        expected = [None if number in gone else contents[number] for number in span]
        assert contents_told(reader.answer(), wanted[start : start + starts.step]) == expected


@pytest.mark.parametrize("batch", ["of nothing but unread files", "of nothing but empty ones"])
def test_a_batch(reader: ReaderProcess, tmp_path: Path, folder: int, batch: str) -> None:
    wanted = files(tmp_path, [b""] * 5)
    if "unread" in batch:
        for file in wanted:
            os.unlink(file.name, dir_fd=folder)
    ask(reader, [folder], wanted)
    after = files(tmp_path, [b"after"], 5)
    ask(reader, [folder], after)
    expected = [None if "unread" in batch else b""] * len(wanted)
    assert contents_told(reader.answer(), wanted) == expected
    assert contents_told(reader.answer(), after) == [b"after"]


def test_names_of_255_bytes_in_as_many_directories_as_may_be(reader: ReaderProcess, tmp_path: Path) -> None:
    wanted, handles = [], []
    for number in range(MOST_DIRECTORIES):
        (tmp_path / str(number)).mkdir()
        handles.append(os.open(tmp_path / str(number), os.O_RDONLY))
        name = b"\xff" * 252 + b"%03d" % number
        path = os.path.join(os.fsencode(tmp_path / str(number)), name)
        with open(path, "wb") as file:
            file.write(b"%d" % number)
        wanted.append(FileToRead(number, name, seen(os.stat(path))))
    ask(reader, handles, wanted)
    for handle in handles:
        os.close(handle)  # they travelled
    assert contents_told(reader.answer(), wanted) == [b"%d" % number for number in range(MOST_DIRECTORIES)]


def test_both_sides_with_full_buffers_do_not_wait_for_each_other(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow() -> tuple[socket.socket, socket.socket]:
        pair = whole()
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes the least of it
        return pair

    whole = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", narrow)
    reader = ReaderProcess(chunk_key=CHUNK_KEY, content_key=CONTENT_KEY, batch_bytes=4 * MIB)
    try:
        wanted = files(tmp_path, [b"%d" % number * 250 for number in range(MOST_FILES)])
        for _ in range(MOST_REQUESTS):
            ask(reader, [folder], wanted)
        for _ in range(MOST_REQUESTS):
            assert None not in contents_told(reader.answer(), wanted)
    finally:
        reader.close()


def test_its_death_is_told_whenever_it_comes(tmp_path: Path, folder: int) -> None:
    chance = random.Random(11)
    wanted = files(tmp_path, [chance.randbytes(1000) for _ in range(MOST_FILES)])
    expected = [file and file.data for file in read_here([folder], wanted)]
    for kill_at in range(4):
        reader = ReaderProcess(chunk_key=CHUNK_KEY, content_key=CONTENT_KEY, batch_bytes=4 * MIB)
        try:
            with pytest.raises(WorkerGoneError):  # noqa: PT012  wherever it comes
                for number in range(20):
                    ask(reader, [folder], wanted)
                    if number == kill_at:
                        reader._process.kill()
                        reader._process.wait()
                    assert contents_told(reader.answer(), wanted) == expected
        finally:
            reader.close()


def test_handles_that_were_lost_on_the_way_are_no_answer(tmp_path: Path, folder: int) -> None:
    ours, theirs = socket.socketpair()
    question = request_of(*columns_of(files(tmp_path, [b"one"])))
    with ours, theirs:
        socket.send_fds(ours, [HEAD.pack(len(question), 2)], [folder])
        ours.sendall(question)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(EOFError):
            answer_one(theirs, memoryview(bytearray(4096)), CHUNK_KEY, CONTENT_KEY)
        assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_left_of_it(tmp_path: Path, folder: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reader = ReaderProcess(chunk_key=CHUNK_KEY, content_key=CONTENT_KEY, batch_bytes=4 * MIB)
    ask(reader, [folder], files(tmp_path, [b"one"]))
    reader.answer()
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert reader._process.returncode is not None
