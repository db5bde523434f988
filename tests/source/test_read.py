"""Files are cut as if they had been read whole, whatever their size was thought to be."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup.buffers import Buffers
from backup.format.chunker import MAXIMUM, Chunker
from backup.source.read import (
    LARGEST_WINDOW,
    FileUnreadableError,
    Windows,
    open_file,
    read_chunks,
    same_version,
)

MIB = 1024 * 1024
KIB = 1024
BYTES = random.Random(5).randbytes(30 * MIB)


def chunks_of(data: bytes, thought: int) -> list[bytes]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return [bytes(chunk.view) for chunk in read_chunks(file.fileno(), thought, Chunker(7))]


def whole_cuts(data: bytes) -> list[int]:
    return list(Chunker(7).cuts(data, final=True))


@settings(deadline=None, max_examples=25)
@given(
    size=st.one_of(st.integers(0, 300 * KIB), st.integers(0, len(BYTES))),
    thought=st.one_of(st.none(), st.integers(0, 2 * len(BYTES))),
)
@example(size=0, thought=None)
@example(size=1, thought=0)
@example(size=256 * KIB, thought=None)
@example(size=256 * KIB - 1, thought=None)
@example(size=8 * MIB, thought=None)
@example(size=8 * MIB, thought=8 * MIB - 1)
@example(size=len(BYTES), thought=0)
@example(size=5, thought=len(BYTES))
def test_chunks_are_those_of_the_whole(size: int, thought: int | None) -> None:
    data = BYTES[:size]
    chunks = chunks_of(data, size if thought is None else thought)
    assert b"".join(chunks) == data
    assert [len(chunk) for chunk in chunks] == whole_cuts(data)


def test_views_stay_as_they_were_while_reading_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BYTES)
    with open(tmp_path / "file", "rb") as file:
        held = list(read_chunks(file.fileno(), len(BYTES), Chunker(7)))
    assert b"".join(chunk.view for chunk in held) == BYTES


@pytest.mark.parametrize("size", [300 * KIB, 9 * MIB, 30 * MIB])
def test_a_view_holds_no_more_than_the_file_has(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(BYTES[:size])
    with open(tmp_path / "file", "rb") as file:
        for chunk in read_chunks(file.fileno(), size, Chunker(7)):
            assert memoryview(chunk.window.obj).nbytes <= min(size + 1, MAXIMUM)


def opened(path: Path) -> int:
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        return open_file(handle, os.fsencode(path.name))
    finally:
        os.close(handle)


class TestOpen:
    def test_a_regular_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        before = os.stat(tmp_path / "file").st_atime_ns
        handle = opened(tmp_path / "file")
        assert os.read(handle, 10) == b"content"
        assert not os.get_inheritable(handle)
        os.close(handle)
        assert os.stat(tmp_path / "file").st_atime_ns == before

    def test_another_s_file_is_read_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_bytes(b"content")
        real = os.open

        def owner_only(path: bytes, flags: int, **options: int) -> int:
            if flags & os.O_NOATIME:
                raise PermissionError(1, "Operation not permitted")
            return real(path, flags, **options)

        monkeypatch.setattr(os, "open", owner_only)
        os.close(opened(tmp_path / "file"))

    @pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "directory", "absent"])
    def test_anything_else_has_vanished_and_nothing_waits(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "thing"
        if kind == "symlink":
            (tmp_path / "real").touch()
            path.symlink_to("real")
        elif kind == "dangling":
            path.symlink_to("nowhere")
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        with pytest.raises(FileUnreadableError) as caught:
            opened(path)
        assert caught.value.has_vanished

    def test_a_file_that_may_not_be_read_has_not_vanished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(*_: object, **__: object) -> int:
            raise PermissionError(13, "Permission denied")

        handle = os.open(tmp_path, os.O_RDONLY)
        monkeypatch.setattr(os, "open", denied)
        with pytest.raises(FileUnreadableError, match="Permission denied") as caught:
            open_file(handle, b"file")
        assert not caught.value.has_vanished
        assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.parametrize("call", ["read", "readv"])
def test_a_failing_disk_is_told_in_our_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    size = 100 if call == "read" else MIB
    (tmp_path / "file").write_bytes(BYTES[:size])

    def failing(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with open(tmp_path / "file", "rb") as file:
        monkeypatch.setattr(os, call, failing)
        with pytest.raises(FileUnreadableError, match="Input/output error"):
            list(read_chunks(file.fileno(), size, Chunker(7)))


def test_what_was_written_shows_in_size_or_times(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = os.stat(path)
    assert same_version(before, os.stat(path))
    os.utime(path, ns=(1, 1))
    assert not same_version(before, os.stat(path))
    before = os.stat(path)
    with open(path, "ab") as file:
        file.write(b"more")
    assert not same_version(before, os.stat(path))


class TestShortReads:
    """The system may give fewer bytes than were asked for, and more, or an error, when asked again."""

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "file").write_bytes(BYTES[: 100 * KIB])
        whole = os.read
        monkeypatch.setattr(os, "read", lambda handle, most: whole(handle, min(most, 64 * KIB)))
        return tmp_path / "file"

    def test_are_read_on_to_the_end(self, file: Path) -> None:
        with open(file, "rb") as opened:
            chunks = list(read_chunks(opened.fileno(), 100 * KIB, Chunker(7)))
        assert b"".join(chunk.view for chunk in chunks) == BYTES[: 100 * KIB]
        assert len(chunks) == 1

    def test_before_a_damaged_block_are_no_whole_file(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(handle: int, views: list[memoryview]) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "readv", broken)
        with open(file, "rb") as opened, pytest.raises(FileUnreadableError, match="Input/output error"):
            list(read_chunks(opened.fileno(), 100 * KIB, Chunker(7)))


@given(st.lists(st.tuples(st.integers(1, LARGEST_WINDOW), st.integers(0, 4)), max_size=30))
def test_windows_leave_alone_what_is_looked_at(steps: list[tuple[int, int]]) -> None:
    """One after the other, large ones and small ones; with each step one of them is let go."""
    windows, held = Windows(Buffers()), list[tuple[memoryview, bytes]]()
    for number, (size, gone) in enumerate(steps):
        view = windows.take(size)
        assert len(view) == size
        mark = number.to_bytes(4, "big")
        view[:4], view[-4:] = mark[: len(view[:4])], mark[-len(view[-4:]) :]
        held.append((view, bytes(view[:4]) + bytes(view[-4:])))
        del view
        assert all(bytes(window[:4]) + bytes(window[-4:]) == was for window, was in held)
        held[gone : gone + 1] = []


def test_small_windows_share_a_buffer_and_large_ones_do_not() -> None:
    windows = Windows(Buffers())
    sizes = [MAXIMUM // 2, MAXIMUM // 2 + 1, MAXIMUM // 2 - 1, MAXIMUM, MAXIMUM + 1, 1]
    held = [windows.take(size) for size in sizes]
    assert [memoryview(view.obj).nbytes for view in held] == [MAXIMUM] * 4 + [LARGEST_WINDOW, MAXIMUM]
    shared = [held[at].obj is held[at - 1].obj for at in range(1, len(held))]
    assert shared == [False, True, False, False, False]


def test_windows_are_used_again() -> None:
    """Also while the chunks of one are looked at when the next is taken."""
    windows, made = Windows(Buffers()), set[int]()
    for _ in range(50):
        view = windows.take(MAXIMUM)
        made.add(id(view.obj))
    assert len(made) <= 2
