"""The processes that read small files: how many there are, who is asked, and what a missing one changes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.archiver.readers import MANY_BATCHES, MANY_SMALL_FILES, Batch, Handle, Readers
from backup.format.keys import ChunkSecret
from backup.model import MIB
from backup.source import reader
from backup.source.reader import ReaderProcess
from backup.source.scanned import ScannedEntry
from backup.source.small import MOST_REQUESTS

Make = Callable[[int], Readers]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ReaderProcess]:
    """The processes that were started."""
    made: list[ReaderProcess] = []

    class Noted(ReaderProcess):
        def __init__(self, *, chunk_key: bytes, content_key: bytes, batch_bytes: int) -> None:
            super().__init__(chunk_key=chunk_key, content_key=content_key, batch_bytes=batch_bytes)
            made.append(self)

    monkeypatch.setattr(reader, "ReaderProcess", Noted)
    return made


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def make(warnings: list[str]) -> Iterator[Make]:
    """Makes readers, and ends them."""
    made: list[Readers] = []

    def new(most: int) -> Readers:
        made.append(Readers(ChunkSecret(bytes(32)), MIB, most=most, warn=warnings.append))
        return made[-1]

    yield new
    for readers in made:
        readers.close()


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Callable[[bytes], Batch]]:
    """Makes batches of one file with that content."""
    opened = os.open(tmp_path, os.O_RDONLY)

    def new(content: bytes) -> Batch:
        path = tmp_path / content.decode()
        path.write_bytes(content)
        one = Batch(0, MIB, 100)
        one.add(
            Handle(opened, os.fsencode(tmp_path)), ScannedEntry(os.fsencode(path.name), os.stat(path)), None
        )
        return one

    yield new
    os.close(opened)


def see_many(readers: Readers) -> None:
    """Let them see as many files as make the first one worth its start."""
    for _ in range(MANY_SMALL_FILES):
        assert not readers.for_one_more()
    readers.for_one_more()


def take(readers: Readers) -> bytes:
    """The content that the next answer has."""
    answer = readers.answer()
    assert answer is not None
    return bytes(answer.loose) + bytes(answer.dense)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_more_are_started_as_there_is_more_to_read(
    make: Make, batch: Callable[[bytes], Batch], started: list[ReaderProcess], most: int
) -> None:
    readers = make(most)
    assert not readers.are_there
    assert not started
    see_many(readers)
    assert len(started) == 1
    for number in range(MANY_BATCHES * (most + 2)):
        while not readers.have_room:
            take(readers)
        readers.ask(batch(b"%d" % number))
        assert len(started) == min(1 + number // MANY_BATCHES, most)
        assert all(process.unanswered <= MOST_REQUESTS for process in started)


def test_answers_come_in_the_order_of_the_questions(make: Make, batch: Callable[[bytes], Batch]) -> None:
    readers = make(2)
    see_many(readers)
    wanted = [b"%d" % number for number in range(6 * MANY_BATCHES)]
    found = []
    for content in wanted:
        while not readers.have_room:
            found.append(take(readers))
        readers.ask(batch(content))
    while len(found) < len(wanted):
        found.append(take(readers))
    assert found == wanted


def test_where_only_one_can_be_started_it_reads_alone(
    make: Make,
    batch: Callable[[bytes], Batch],
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    started: list[ReaderProcess],
) -> None:
    readers = make(3)
    see_many(readers)
    tries: list[object] = []

    def refuse(**_: object) -> ReaderProcess:
        tries.append(None)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(reader, "ReaderProcess", refuse)
    for number in range(3 * MANY_BATCHES):
        readers.ask(batch(b"%d" % number))
        assert take(readers) == b"%d" % number
    assert len(started) == len(tries) == 1, "it is not tried again"
    assert warnings == []


def test_one_that_dies_ends_them_all(
    make: Make, batch: Callable[[bytes], Batch], warnings: list[str], started: list[ReaderProcess]
) -> None:
    readers = make(2)
    see_many(readers)
    for number in range(MANY_BATCHES + 1):
        readers.ask(batch(b"%d" % number))
        take(readers)
    assert len(started) == 2
    started[0]._process.send_signal(signal.SIGSTOP)  # it answers nothing any more
    readers.ask(batch(b"one"))
    readers.ask(batch(b"two"))
    started[0]._process.kill()
    started[0]._process.wait()
    assert [readers.answer(), readers.answer()] == [None, None]
    assert not readers.for_one_more()
    readers.ask(batch(b"three"))
    assert readers.answer() is None
    (warning,) = warnings
    assert warning.endswith("is gone: it was ended by signal 9, and said nothing")


def test_a_question_too_many_is_refused(
    make: Make, batch: Callable[[bytes], Batch], started: list[ReaderProcess]
) -> None:
    readers = make(1)
    see_many(readers)
    for number in range(MOST_REQUESTS):
        readers.ask(batch(b"%d" % number))
    assert not readers.have_room
    with pytest.raises(AssertionError, match="overwritten"):
        readers.ask(batch(b"more"))


def test_none_on_one_core(make: Make, started: list[ReaderProcess]) -> None:
    readers = make(0)
    for _ in range(2 * MANY_SMALL_FILES):
        assert not readers.for_one_more()
    assert not started
