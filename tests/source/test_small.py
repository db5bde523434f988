"""Small files are read whole and as the scan saw them, or not at all."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.source import small
from backup.source.attributes import Attributes, read_attributes
from backup.source.small import LARGEST, buffer_size, is_plain, is_small, read_small, seen
from tests.source.smalls import CHUNK_KEY, CONTENT_KEY, FileToRead, Told, read_here


def read(path: Path, found: os.stat_result | None = None) -> Told | None:
    """One file as it is now, or as it was when it was `found`."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        wanted = FileToRead(0, os.fsencode(path.name), seen(found or os.lstat(path)))
        (answer,) = read_here([folder], [wanted])
    finally:
        os.close(folder)
    return answer


@given(data=st.binary(max_size=300))
def test_what_is_read_is_named_as_the_long_way_names_it(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("small") / "file"
    path.write_bytes(data)
    got = read(path)
    assert got is not None
    assert got.data == data


def test_text_and_noise_lie_apart(tmp_path: Path) -> None:
    chance = random.Random(5)
    kinds = [chance.random() < 0.5 for _ in range(200)]
    wanted = []
    for number, is_noise in enumerate(kinds):
        size = chance.randrange(200, 5000)
        text = " ".join(str(chance.randrange(10**6)) for _ in range(size // 4))[:size].encode()
        (tmp_path / str(number)).write_bytes(chance.randbytes(size) if is_noise else text)
        wanted.append(FileToRead(0, b"%d" % number, seen(os.stat(tmp_path / str(number)))))
    room = memoryview(bytearray(buffer_size(10**6)))
    folder = os.open(tmp_path, os.O_RDONLY)
    read = read_small([folder], wanted, room, chunk_key=CHUNK_KEY, content_key=CONTENT_KEY)
    os.close(folder)
    assert list(read.dense) == [place for place, is_noise in enumerate(kinds) if is_noise]
    assert list(read.loose) == [place for place, is_noise in enumerate(kinds) if not is_noise]


def test_what_finds_no_room_is_left_to_the_long_way(tmp_path: Path) -> None:
    wanted = []
    for number, size in enumerate([3000, 5000, 2000, 1]):
        (tmp_path / str(number)).write_bytes(bytes(size))
        wanted.append(FileToRead(0, b"%d" % number, seen(os.stat(tmp_path / str(number)))))
    folder = os.open(tmp_path, os.O_RDONLY)
    room = memoryview(bytearray(2 * 5002))  # the first, the third and the fourth, and a byte to see growth
    read = read_small([folder], wanted, room, chunk_key=CHUNK_KEY, content_key=CONTENT_KEY)
    os.close(folder)
    assert list(read.loose) == [0, 2, 3]
    assert bytes(room[:5001]) == bytes(5001)


def rewritten(path: Path) -> None:
    found = os.stat(path)
    path.write_bytes(b"B" * found.st_size)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))  # ctime tells all the same


def grown(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.rename(other, path)


def turned_into(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def turn(path: Path) -> None:
        path.unlink()
        make(path)

    return turn


CHANGES = {
    "rewritten": rewritten,
    "grown": grown,
    "truncated": lambda path: os.truncate(path, 3),
    "emptied": lambda path: os.truncate(path, 0),
    "replaced": replaced,
    "gone": lambda path: path.unlink(),
    "with another mode": lambda path: path.chmod(0o600 ^ 0o111),
    "with another name beside it": lambda path: os.link(path, path.with_name("link")),
    "a symlink": turned_into(lambda path: path.symlink_to("target")),
    "a directory": turned_into(lambda path: path.mkdir()),
    "a FIFO": turned_into(os.mkfifo),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_another_than_the_scan_saw_is_left_to_the_long_way(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"A" * 10)
    (tmp_path / "target").write_bytes(b"A" * 10)
    os.utime(path, ns=(1, 1))
    found = os.stat(path)
    while os.stat(tmp_path).st_ctime_ns <= found.st_ctime_ns:
        (tmp_path / "tick").touch()  # the change must have a stamp of its own
        (tmp_path / "tick").unlink()
    change(path)
    assert read(path, found) is None


@pytest.mark.parametrize("size", [0, 1, 10])
def test_a_change_while_it_is_read_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"A" * size)
    os.utime(path, ns=(1, 1))

    def meanwhile(handle: int) -> Attributes:
        with open(path, "r+b") as file:
            file.write(b"B")
        return read_attributes(handle)

    monkeypatch.setattr(small, "read_attributes", meanwhile)
    assert read(path) is None


def test_fewer_bytes_than_it_has_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"A" * 10)
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, rooms, *at: whole(handle, [rooms[0][:4]], *at))
    assert read(tmp_path / "file") is None


def test_no_handle_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "file").write_bytes(b"A")
    found = os.stat(tmp_path / "file")
    grown(tmp_path / "file")
    assert read(tmp_path / "file", found) is None
    assert read(tmp_path / "file") is not None
    assert read(tmp_path / "no file", found) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_small(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(LARGEST))
    assert is_small(os.stat(path))
    with open(path, "ab") as file:
        file.write(b"1")
    assert not is_small(os.stat(path)), "it may be more than one chunk"
    os.truncate(path, 0)
    assert is_small(os.stat(path))
    os.link(path, tmp_path / "link")
    assert not is_small(os.stat(path)), "its other name is told by the long way"
    (tmp_path / "link").unlink()
    os.truncate(path, 200_000)
    assert not is_small(os.stat(path)), "a hole is kept by the long way"


@pytest.mark.parametrize("when", [2**63, 2**62, 0, -1])
def test_times_that_no_column_holds_are_for_the_long_way(tmp_path: Path, when: int) -> None:
    (tmp_path / "file").write_bytes(b"A")
    found = os.stat(tmp_path / "file")
    values = list(found)
    told = os.stat_result(
        values,
        {"st_mtime_ns": when, "st_ctime_ns": found.st_ctime_ns, "st_blocks": 8},
    )
    assert is_plain(told)
    assert is_small(told) == (0 <= when < 2**63)
