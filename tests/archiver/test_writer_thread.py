"""What a run records goes on in order on one thread, and ends with the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from backup.archiver.writer_thread import WriterThread
from backup.errors import SpoolError


@pytest.fixture
def writer() -> Iterator[WriterThread]:
    made = WriterThread()
    yield made
    made.close()


def test_it_is_done_in_order_on_one_other_thread(writer: WriterThread) -> None:
    done: list[int] = []
    threads: set[int] = set()

    def note(number: int) -> int:
        threads.add(threading.get_ident())
        time.sleep(0.001 * (number % 3))
        done.append(number)
        return -number

    results = [writer.submit(partial(note, number)) for number in range(50)]
    writer.finish()
    assert done == list(range(50))
    assert [future.result() for future in results] == [-number for number in range(50)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_few_wait_at_a_time(writer: WriterThread) -> None:
    begun, may_end, given = threading.Event(), threading.Event(), threading.Semaphore(0)

    def slow() -> None:
        begun.set()
        assert may_end.wait(10)

    def give() -> None:
        for _ in range(20):
            writer.submit(slow)
            given.release()

    giver = threading.Thread(target=give)
    giver.start()
    assert begun.wait(10)
    taken = 0
    while given.acquire(timeout=0.3):
        taken += 1
    may_end.set()
    giver.join(10)
    assert 2 <= taken <= 8


def test_nothing_is_done_after_the_first_error_which_everyone_gets(writer: WriterThread) -> None:
    done: list[str] = []

    def fail() -> None:
        raise SpoolError("no space left")

    def wait_a_moment() -> None:
        time.sleep(0.05)

    writer.submit(wait_a_moment)
    failing = writer.submit(fail)
    later = writer.submit(partial(done.append, "later"))
    for future in (failing, later):
        with pytest.raises(SpoolError, match="no space left"):
            future.result(10)
    with pytest.raises(SpoolError, match="no space left"):
        writer.submit(partial(done.append, "last"))
    assert done == []


def test_an_error_comes_out_at_the_end_at_the_latest(writer: WriterThread) -> None:
    writer.submit(partial(int, "no number"))
    with pytest.raises(ValueError, match="no number"):
        writer.finish()


def test_what_was_not_begun_is_dropped(writer: WriterThread) -> None:
    begun, may_end = threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        begun.set()
        assert may_end.wait(10)
        done.append("begun")

    writer.submit(slow)
    dropped = writer.submit(partial(done.append, "never"))
    assert begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    writer.close()
    assert done == ["begun"]
    assert dropped.cancelled()
