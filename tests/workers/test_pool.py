"""The workers of a run: as many as there may be, and each that is missing is told once."""

from __future__ import annotations

import pytest

from backup.errors import WorkerGoneError
from backup.workers.pool import Pool


class Closing:
    """Something that is ended; the fifth cannot be had."""

    made: list[Closing]

    def __init__(self) -> None:
        if len(self.made) == 4:
            self.made.append(self)  # it was tried
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.made.append(self)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        if self is self.made[1]:
            raise OSError("it does not want to")


@pytest.fixture(autouse=True)
def made() -> list[Closing]:
    Closing.made = []
    return Closing.made


@pytest.fixture
def warnings() -> list[str]:
    return []


def test_no_more_are_started_than_may_be(made: list[Closing], warnings: list[str]) -> None:
    pool = Pool(Closing, 2, warnings.append, "files")
    assert [pool.start_one() is None for _ in range(4)] == [False, False, True, True]
    assert pool.workers == made
    assert warnings == []


@pytest.mark.parametrize("misses_any", [False, True])
def test_where_there_is_no_other_it_is_not_tried_again(
    made: list[Closing], warnings: list[str], misses_any: bool
) -> None:
    pool = Pool(Closing, 9, warnings.append, "files were read by fewer: one", misses_any=misses_any)
    for _ in range(8):
        pool.start_one()
    assert len(made) == 5
    assert pool.workers == made[:4]
    told = "files were read by fewer: one cannot be started: Resource temporarily unavailable"
    assert warnings == [told] * misses_any


def test_where_there_is_none_at_all_it_is_told(made: list[Closing], warnings: list[str]) -> None:
    made += [None] * 4  # type: ignore[list-item]
    assert Pool(Closing, 1, warnings.append, "files: the second").start_one() is None
    assert warnings == ["files: the second cannot be started: Resource temporarily unavailable"]


def test_the_others_go_on_without_one_that_is_gone(made: list[Closing], warnings: list[str]) -> None:
    pool = Pool(Closing, 3, warnings.append, "files: the second")
    pool.start_one()
    pool.start_one()
    pool.give_up(made[0], WorkerGoneError("it was ended by signal 9"))
    assert pool.start_one() is None
    assert (made[0].closed, made[1].closed) == (1, 0)
    assert warnings == ["files: the second is gone: it was ended by signal 9"]


def test_all_are_ended_whatever_one_of_them_does(made: list[Closing], warnings: list[str]) -> None:
    pool = Pool(Closing, 3, warnings.append, "files")
    while pool.start_one():
        pass
    with pytest.raises(OSError, match="does not want"):
        pool.close()
    assert [worker.closed for worker in made] == [1, 1, 1]
    assert pool.start_one() is None
