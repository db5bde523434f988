"""Small files read by a second process: as they are read here, only what the scan saw, never elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backup.errors import WorkerGoneError
from backup.model import MIB
from backup.source.reader import ReaderProcess
from backup.source.small import seen
from tests.source.smalls import CHUNK_KEY, CONTENT_KEY, FileToRead, Told, ask, read_here, told_by

SECRET = b"nobody but root may read this"
CALLS = ("open", "fstat", "preadv", "listxattr", "getxattr", "close")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A source and a handle of it."""
    source = tmp_path / "source"
    source.mkdir()
    handle = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    yield source, handle
    os.close(handle)


@pytest.fixture
def reader() -> Iterator[ReaderProcess]:
    process = ReaderProcess(chunk_key=CHUNK_KEY, content_key=CONTENT_KEY, batch_bytes=MIB)
    yield process
    process.close()


def wanted(source: Path, *names: str) -> list[FileToRead]:
    """What the scan would ask for."""
    return [FileToRead(0, os.fsencode(name), seen(os.lstat(source / name))) for name in names]


def fill(source: Path) -> list[str]:
    """Some small files."""
    contents = {"empty": b"", "a": b"alpha", "b": os.urandom(100_000), "c": b"gamma" * 100}
    for name, content in contents.items():
        (source / name).write_bytes(content)
    os.setxattr(source / "c", "user.note", b"kept")
    return list(contents)


def test_it_reads_what_is_there(folder: tuple[Path, int], reader: ReaderProcess) -> None:
    source, handle = folder
    names = fill(source)
    asked = wanted(source, *names)
    ask(reader, [handle], asked)
    answer = reader.answer()
    files = told_by(answer, asked)
    assert [file and file.data for file in files] == [(source / name).read_bytes() for name in names]
    assert list(answer.read.attributes) == [names.index("c")]


def test_what_changed_since_the_scan_is_left_to_the_long_way(
    folder: tuple[Path, int], reader: ReaderProcess, tmp_path: Path
) -> None:
    source, handle = folder
    names = fill(source)
    asked = wanted(source, *names)
    (tmp_path / "secret").write_bytes(SECRET)
    (source / "a").unlink()
    (source / "a").symlink_to(tmp_path / "secret")
    (source / "b").unlink()
    os.mkfifo(source / "b")  # must not be waited for
    (source / "empty").unlink()
    (source / "c").write_bytes(b"other")
    ask(reader, [handle], asked)
    answer = reader.answer()
    assert told_by(answer, asked) == [None] * 4
    assert not answer.loose
    assert not answer.dense


def test_a_directory_is_read_by_its_handle_whatever_has_its_name_now(
    folder: tuple[Path, int], reader: ReaderProcess, tmp_path: Path
) -> None:
    source, handle = folder
    (source / "a").write_bytes(b"ours")
    asked = wanted(source, "a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(SECRET)
    source.rename(tmp_path / "moved")
    source.symlink_to(tmp_path / "elsewhere")
    ask(reader, [handle], asked)
    (file,) = told_by(reader.answer(), asked)
    assert file is not None
    assert file.data == b"ours"


def test_names_that_lead_elsewhere_are_not_what_the_scan_saw(
    folder: tuple[Path, int], reader: ReaderProcess, tmp_path: Path
) -> None:
    """Whoever could ask would get nothing either: a link is not followed, even to the inode asked for."""
    source, handle = folder
    (tmp_path / "secret").write_bytes(SECRET)
    (source / "link").symlink_to(tmp_path)
    (source / "to-it").symlink_to(tmp_path / "secret")
    asked = [FileToRead(0, b"to-it", seen(os.stat(source / "to-it")))]
    ask(reader, [handle], asked)
    assert told_by(reader.answer(), asked) == [None]


@pytest.mark.parametrize("attack", ["file", "folder"])
def test_swaps_at_every_step_of_a_read(folder: tuple[Path, int], tmp_path: Path, attack: str) -> None:
    source, handle = folder
    (tmp_path / "secret").mkdir()
    for name in ("a", "b"):
        (tmp_path / "secret" / name).write_bytes(SECRET)
        os.setxattr(tmp_path / "secret" / name, "user.secret", SECRET)

    def swap() -> None:
        if attack == "file":
            (source / "b").unlink()
            (source / "b").symlink_to(tmp_path / "secret" / "b")
        else:
            source.rename(tmp_path / "moved")
            source.symlink_to(tmp_path / "secret")

    step = 0
    while True:
        for name in ("a", "b"):
            (source / name).write_bytes(b"ours, as long as the other one"[: len(SECRET)])
        files, struck = _read(handle, wanted(source, "a", "b"), step, swap)
        for file in files:
            assert file is None or (SECRET not in file.data and SECRET not in repr(file.attributes).encode())
        if attack == "folder" and struck:
            source.unlink()
            (tmp_path / "moved").rename(source)
        (source / "b").unlink()
        if not struck:
            break
        step += 1
    assert step >= 10, "the steps were not those of the reading"
    assert all(file is not None for file in files)


def _read(
    handle: int, asked: list[FileToRead], step: int, swap: Callable[[], None]
) -> tuple[list[Told | None], bool]:
    """A reading with a swap right before its call number `step`; whether it came so far."""
    count, struck = 0, False

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count, struck
            count += 1
            if count == step + 1 and not struck:
                struck = True
                with suppress(OSError):
                    swap()
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, around(getattr(os, name)))
        files = read_here([handle], asked)
    return files, struck


def test_handles_that_travelled_are_closed(folder: tuple[Path, int], reader: ReaderProcess) -> None:
    source, handle = folder
    names = fill(source)
    ask(reader, [handle], wanted(source, *names))
    reader.answer()
    before = len(os.listdir(f"/proc/{reader._process.pid}/fd"))
    for _ in range(20):
        ask(reader, [handle] * 5, wanted(source, *names))
        reader.answer()
    ask(reader, [handle], wanted(source, *names))
    reader.answer()
    assert len(os.listdir(f"/proc/{reader._process.pid}/fd")) <= before + 5  # those of the last but one


def test_its_end_is_told(folder: tuple[Path, int], reader: ReaderProcess) -> None:
    source, handle = folder
    reader._process.kill()
    reader._process.wait()
    with pytest.raises(WorkerGoneError):  # noqa: PT012  one of both notices
        ask(reader, [handle], wanted(source, *fill(source)))
        reader.answer()
