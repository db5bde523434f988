"""Files on a disk that must be waited for are opened ahead; each is read as it would be alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.source.read_small import AHEAD, OpenedAhead

Preadv = Callable[..., int]


def plant(folder: Path, count: int) -> list[tuple[int, bytes, None]]:
    for number in range(count):
        (folder / f"{number:03}").write_bytes(b"%d" % number * number)
    return [(0, b"%03d" % number, None) for number in range(count)]


def read_all(folder: Path, wanted: Sequence[tuple[int, bytes, None]]) -> list[bytes | None]:
    """What is read of each, and that no handle stays open."""
    before = os.listdir("/proc/self/fd")
    directory = os.open(folder, os.O_RDONLY)
    opened = OpenedAhead([directory], wanted)
    found: list[bytes | None] = []
    for handle, (_, name, _) in zip(opened, wanted, strict=True):
        if handle is None:
            found.append(None)
            continue
        size = (folder / os.fsdecode(name)).stat().st_size
        room = memoryview(bytearray(size + 1))
        found.append(bytes(room[: opened.read(handle, room, size)]))
        os.close(handle)
    os.close(directory)
    assert set(os.listdir("/proc/self/fd")) <= set(before)  # another may have been collected
    return found


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The files that the system was told of."""
    told: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda handle, *_: told.append(handle))
    return told


def not_in_memory(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file of that number on, nothing is read at once."""
    real: Preadv = os.preadv
    count = iter(range(10**6))

    def preadv(handle: int, buffers: Sequence[memoryview], offset: int, *flags: int) -> int:
        if flags and next(count) >= number:
            raise BlockingIOError
        return real(handle, buffers, offset, *flags)

    monkeypatch.setattr(os, "preadv", preadv)


def test_what_is_in_memory_is_read_at_once(tmp_path: Path, advised: list[int]) -> None:
    wanted = plant(tmp_path, 30)
    assert read_all(tmp_path, wanted) == [b"%d" % number * number for number in range(30)]
    assert advised == []


@pytest.mark.parametrize("first", [0, 1, 7, 199])
def test_from_the_first_that_is_not_they_are_opened_ahead(
    tmp_path: Path, advised: list[int], monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    wanted = plant(tmp_path, 200)
    not_in_memory(first, monkeypatch)
    assert read_all(tmp_path, wanted) == [b"%d" % number * number for number in range(200)]
    assert len(advised) == 199 - first


def test_no_more_than_some_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = plant(tmp_path, 3 * AHEAD)
    not_in_memory(0, monkeypatch)
    directory = os.open(tmp_path, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    opened = OpenedAhead([directory], wanted)
    handles = iter(opened)
    for _ in range(AHEAD):
        handle = next(handles)
        assert handle is not None
        opened.read(handle, memoryview(bytearray(10**6)), 1)
        os.close(handle)
        assert len(os.listdir("/proc/self/fd")) <= before + AHEAD
    del handles
    assert len(os.listdir("/proc/self/fd")) == before, "what was opened for nothing is closed"
    os.close(directory)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12), st.sets(st.integers(0, 11)))
def test_what_cannot_be_opened_leaves_the_others_their_places(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], cold: int, gone: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("ahead")
    wanted = [(0, b"%03d" % number, None) for number in range(len(sizes))]
    for number, size in enumerate(sizes):
        if number not in gone:
            (folder / f"{number:03}").write_bytes(b"%d" % (number % 10) * size)
    with pytest.MonkeyPatch.context() as patch:
        not_in_memory(cold, patch)
        found = read_all(folder, wanted)
    assert found == [
        None if number in gone else b"%d" % (number % 10) * size for number, size in enumerate(sizes)
    ]
