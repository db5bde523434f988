"""Small files are read whole and as the scan saw them, or not at all."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.source import read_small as reading
from backup.source.attributes import Attributes, read_attributes
from backup.source.read_small import TOGETHER, OpenedAhead, read_small
from backup.source.small import LARGEST, SmallRead, buffer_size, is_plain, is_small, seen
from tests.source.smalls import CHUNK_KEY, CONTENT_KEY, FileToRead, Told, read_here


@pytest.fixture(params=["together", "one by one"], scope="module", autouse=True)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Each test reads both ways, also where the file system cannot tell what is in memory."""
    path = tmp_path_factory.mktemp("way") / "file"
    path.write_bytes(b"A")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "one by one":
            patch.setattr(reading, "IN_GROUPS", False)
        elif not can_tell(path):
            whole = os.preadv
            patch.setattr(os, "preadv", lambda handle, rooms, at, _=0: whole(handle, rooms, at))
        yield request.param


def can_tell(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            return error.errno != errno.EOPNOTSUPP
    return True


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


def test_large_attributes_end_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ATTRIBUTES", 5000)
    wanted = []
    for number in range(4 * TOGETHER):
        path = tmp_path / str(number)
        path.write_bytes(b"short")
        os.setxattr(path, "user.long", b"x" * 100)
        wanted.append(FileToRead(0, b"%d" % number, seen(os.stat(path))))
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        answers = read_here([folder], wanted)
    finally:
        os.close(folder)
    taken = [answer for answer in answers if answer]
    assert 50 <= len(taken) <= 50 + TOGETHER, "a group is read whole"
    assert taken == answers[: len(taken)]
    assert all(answer.attributes.xattrs == ((b"user.long", b"x" * 100),) for answer in taken)


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


@pytest.mark.parametrize(("room", "fits"), [(2 * 3000, False), (2 * 3001, True)])
def test_a_byte_more_than_the_file_has_must_fit(tmp_path: Path, room: int, fits: bool) -> None:
    (tmp_path / "file").write_bytes(bytes(3000))
    wanted = [FileToRead(0, b"file", seen(os.stat(tmp_path / "file")))]
    assert list(read_into(tmp_path, wanted, room).loose) == ([0] if fits else [])


def test_dense_files_find_no_more_room_than_theirs(tmp_path: Path) -> None:
    wanted = []
    for number in range(3):
        (tmp_path / str(number)).write_bytes(random.Random(number).randbytes(3000))
        wanted.append(FileToRead(0, b"%d" % number, seen(os.stat(tmp_path / str(number)))))
    assert list(read_into(tmp_path, wanted, 2 * 5002).dense) == [0]


def read_into(folder: Path, wanted: Sequence[FileToRead], room: int) -> SmallRead:
    handle = os.open(folder, os.O_RDONLY)
    try:
        buffer = memoryview(bytearray(room))
        return read_small([handle], wanted, buffer, chunk_key=CHUNK_KEY, content_key=CONTENT_KEY)
    finally:
        os.close(handle)


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

    listed = os.listxattr

    def meanwhile(handle: int) -> list[str]:
        with open(path, "r+b") as file:
            file.write(b"B")
        return listed(handle)

    monkeypatch.setattr(os, "listxattr", meanwhile)
    assert read(path) is None


def make(folder: Path, chance: random.Random) -> None:
    """A file of some kind."""
    size = chance.choice((0, 1, 45, 46, 300, 5000))
    text = chance.random() < 0.5
    path = folder / f"{chance.randrange(10**9)}"
    path.write_bytes((b"text " * 1000)[:size] if text else chance.randbytes(size))
    if chance.random() < 0.02:
        os.setxattr(path, b"user.note", b"rare")


def all_read(folders: Sequence[Path], wanted: Sequence[FileToRead]) -> list[Told | None]:
    handles = [os.open(folder, os.O_RDONLY) for folder in folders]
    try:
        return read_here(handles, wanted)
    finally:
        for handle in handles:
            os.close(handle)


@given(seed=st.integers(0, 2**32), changed=st.sets(st.integers(0, 199), max_size=3))
@settings(max_examples=20)
def test_files_of_all_kinds_are_read_as_they_are(
    seed: int, changed: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    changes: list[Callable[[Path], None]] = [grown, replaced, Path.unlink]
    folders = [tmp_path_factory.mktemp("small") for _ in range(3)]
    for number in range(200):
        make(folders[number // 90], chance)
    files = [(at, path) for at, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    wanted = [FileToRead(at, os.fsencode(path.name), seen(os.stat(path))) for at, path in files]
    for number in changed:
        chance.choice(changes)(files[number][1])
    told = all_read(folders, wanted)
    for number, ((_, path), file) in enumerate(zip(files, told, strict=True)):
        if number in changed:
            assert file is None
        else:
            assert file == Told(path.read_bytes(), attributes_of(path))
    for folder in folders:
        shutil.rmtree(folder)


def attributes_of(path: Path) -> Attributes:
    with open(path, "rb") as file:
        return read_attributes(file.fileno())


@pytest.mark.parametrize("refused", [{20, 30, 100}, {20, 30, 40}, {0}], ids=["few", "more", "at first"])
def test_few_files_that_are_not_in_memory_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, refused: set[int]
) -> None:
    for number in range(2 * TOGETHER):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    wanted = [
        FileToRead(0, b"%d" % number, seen(os.stat(tmp_path / f"{number}"))) for number in range(2 * TOGETHER)
    ]
    whole, told = os.preadv, list[int]()

    def read_once(handle: int, rooms: Sequence[memoryview], at: int, flags: int = 0) -> int:
        if flags and int(Path(os.readlink(f"/proc/self/fd/{handle}")).name) in refused:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return whole(handle, rooms, at)

    monkeypatch.setattr(os, "preadv", read_once)
    monkeypatch.setattr(os, "posix_fadvise", lambda handle, *_: told.append(handle))
    assert all_read([tmp_path], wanted) == [Told(b"%d" % n, Attributes()) for n in range(2 * TOGETHER)]
    waits = way == "together" and 100 in refused
    assert len(told) == (0 if waits else 2 * TOGETHER - 1 - min(refused)), "the others are announced"


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


def test_of_many_of_which_one_is_gone_no_handle_stays_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02}" for number in range(40)]
    for path in paths:
        path.write_bytes(path.name.encode())
    wanted = [FileToRead(0, os.fsencode(path.name), seen(os.stat(path))) for path in paths]
    paths[30].unlink()
    before = len(os.listdir("/proc/self/fd"))
    told = all_read([tmp_path], wanted)
    assert len(os.listdir("/proc/self/fd")) == before
    assert [place for place, content in enumerate(told) if content is None] == [30]


def test_what_is_in_memory_is_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    chance = random.Random(3)
    for folder in folders:
        folder.mkdir()
        for _ in range(90):
            make(folder, chance)
    files = [(at, path) for at, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    wanted = [FileToRead(at, os.fsencode(path.name), seen(os.stat(path))) for at, path in files]
    alone = list[int]()

    def watched(directories: Sequence[int], some: Sequence[tuple[int, bytes, Any]]) -> Any:
        alone.append(len(some))
        return OpenedAhead(directories, some)

    monkeypatch.setattr(reading, "OpenedAhead", watched)
    whole = os.preadv  # the kernel now and then refuses a file that is in memory
    monkeypatch.setattr(os, "preadv", lambda handle, rooms, at, _=0: whole(handle, rooms, at))
    assert None not in all_read(folders, wanted)
    assert sum(alone) == (0 if way == "together" else len(wanted))
    alone.clear()
    grown(files[100][1])
    assert all_read(folders, wanted)[100] is None
    assert sum(alone) == (TOGETHER if way == "together" else len(wanted)), "its own group"
    for place in (20, 200):
        files[place][1].unlink()
    alone.clear()
    assert all_read(folders, wanted).count(None) == 3
    assert sum(alone) == len(wanted) - (1 if way == "together" else 0), "after two such groups all"


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"A")
    os.utime(path, ns=(1, 10**18))
    assert read(path) is not None
    assert os.stat(path).st_atime_ns == 1


def test_attributes_that_cannot_be_had_are_for_the_long_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    wanted = [FileToRead(0, name.encode(), seen(os.stat(tmp_path / name))) for name in ("a", "b", "c")]
    listed, refused = os.listxattr, os.stat(tmp_path / "b").st_ino

    def refuse_one(handle: int) -> list[str]:
        if os.fstat(handle).st_ino == refused:
            raise OSError(errno.EIO, "Input/output error")
        return listed(handle)

    monkeypatch.setattr(os, "listxattr", refuse_one)
    assert [content and content.data for content in all_read([tmp_path], wanted)] == [b"a", None, b"c"]


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
