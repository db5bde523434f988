"""The process that makes files: by a restore's own rules, told file by file, gone when nobody asks."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.errors import WorkerGoneError
from backup.format.naming import chunk_id
from backup.model import EntryKind, Owner
from backup.restorer.selection.entry import NewFiles, RestoreEntry
from backup.restorer.writer.maker import MOST_FILES, Lent, MadeFiles, MakerProcess
from backup.restorer.writer.making import Made
from backup.workers import worker
from tests.restorer.bench import columns_of
from tests.support.other_processes import start_instead

KEY = b"k" * 32
MARK = "0123456789abcdef"
MTIME = 1_000_000_000_123_456_789
ROOM = 1 << 20


@pytest.fixture(params=[True, False], ids=["replaces", "never replaces"])
def maker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakerProcess]:
    process = MakerProcess(str(tmp_path), MARK, replaces=request.param, chunk_key=KEY, buffer=ROOM)
    yield process
    process.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Lent]:
    handle = os.open(tmp_path, os.O_RDONLY)
    yield Lent(handle, b"folder", True)
    os.close(handle)


def new(maker: MakerProcess, contents: dict[bytes, bytes], *, mode: int = 0o640) -> NewFiles:
    """Files of these contents, which are put into the room."""
    joined = b"".join(contents.values())
    maker.memory[: len(joined)] = joined
    owner = Owner(os.geteuid(), os.getegid())
    entries = [
        RestoreEntry(b"folder", name, EntryKind.FILE, mode, owner, MTIME, len(content), None)
        for name, content in contents.items()
    ]
    return columns_of(entries, [chunk_id(KEY, content) if content else b"" for content in contents.values()])


def asked(maker: MakerProcess, folder: Lent, files: NewFiles) -> MadeFiles:
    maker.ask([folder], files)
    return maker.answer()


def test_files_are_made_whole(maker: MakerProcess, folder: Lent, tmp_path: Path) -> None:
    contents = {b"%03d" % number: b"content " * number for number in range(30)}
    assert asked(maker, folder, new(maker, contents)) == MadeFiles(bytes([Made.WHOLE] * 30), [])
    assert {os.fsencode(path.name): path.read_bytes() for path in tmp_path.iterdir()} == contents
    for path in tmp_path.iterdir():
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, MTIME)


def test_a_symlink_is_not_followed(maker: MakerProcess, folder: Lent, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a").symlink_to(victim)
    asked(maker, folder, new(maker, {b"a": b"content"}))
    assert victim.read_text() == "precious"


def test_each_trouble_is_told_of_its_file(maker: MakerProcess, folder: Lent, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("mine")
    files = new(maker, {b"a": b"1", b"b": b"2", b"c": b"3"})
    answer = asked(maker, folder, files._replace(chunks=[*files.chunks[:2], bytes(32)]))
    assert answer.made == bytes([Made.WHOLE, Made.NOT, Made.DAMAGED])
    ((place, detail),) = answer.troubles
    assert (place, detail.partition(":")[0]) == (1, "not restored")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_cannot_be_set_is_told_of_a_file_that_was_made(
    maker: MakerProcess, folder: Lent, tmp_path: Path
) -> None:
    files = new(maker, {b"a": b"1"})
    answer = asked(maker, folder, files._replace(owners=[(2**40, os.getegid())]))
    assert answer.made == bytes([Made.WHOLE])
    assert [place for place, _ in answer.troubles] == [0]


def test_what_would_meet_all_ends_a_question_but_not_the_process(
    maker: MakerProcess, folder: Lent, tmp_path: Path
) -> None:
    """A name that leads out of the directory, in place of a full disk."""
    files = new(maker, {b"a": b"1", b"../b": b"2", b"c": b"3"})
    assert asked(maker, folder, files) == MadeFiles(bytes([Made.WHOLE]), [])
    assert asked(maker, folder, files.some(slice(2, None))) == MadeFiles(bytes([Made.WHOLE]), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    assert not (tmp_path.parent / "b").exists()


def test_both_sides_with_full_sockets_do_not_wait_for_each_other(
    folder: Lent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is asked before an answer is taken; each answer tells of files that it could not make."""

    def narrow() -> tuple[socket.socket, socket.socket]:
        pair = whole()
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes the least of it
        return pair

    whole = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", narrow)
    names = [b"%0240d" % number for number in range(MOST_FILES)]
    for name in names:
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "mine").touch()
    process = MakerProcess(str(tmp_path), MARK, replaces=True, chunk_key=KEY, buffer=ROOM)
    try:
        files = new(process, dict.fromkeys(names, b"content"))
        for _ in range(10):
            process.ask([folder], files)
        for _ in range(10):
            assert len(process.answer().troubles) == MOST_FILES
    finally:
        process.close()


def test_it_ends_between_two_files_when_nobody_asks_any_more(folder: Lent, tmp_path: Path) -> None:
    process = MakerProcess(str(tmp_path), MARK, replaces=True, chunk_key=KEY, buffer=ROOM)
    files = new(process, {b"%03d" % number: b"content" for number in range(32)})
    for _ in range(20):
        process.ask([folder], files)
    process.close()
    assert process._process.returncode == 0
    names = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in names if name.startswith(".")]
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    time.sleep(0.05)
    assert before == {path: path.stat().st_ino for path in tmp_path.iterdir()}


def test_one_that_does_not_end_is_ended(
    folder: Lent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MakerProcess, "patience", 0.1)
    monkeypatch.setattr(worker, "start", start_instead("import time; time.sleep(60)"))
    process = MakerProcess(str(tmp_path), MARK, replaces=True, chunk_key=KEY, buffer=ROOM)
    process.close()
    assert process._process.returncode == -9


def test_a_death_is_told(maker: MakerProcess, folder: Lent) -> None:
    files = new(maker, {b"a": b"1"})
    maker._process.kill()
    maker._process.wait()
    with pytest.raises(WorkerGoneError):
        maker.ask([folder], files)
    with pytest.raises(WorkerGoneError):
        maker.answer_if_any()
    with pytest.raises(WorkerGoneError):
        maker.answer()


def test_it_is_small(maker: MakerProcess, folder: Lent) -> None:
    """No database, no cryptography, no asyncio: 26 MiB when this was written, half of it the interpreter."""
    asked(maker, folder, new(maker, {b"a": b"1"}))
    maps = Path(f"/proc/{maker._process.pid}/maps").read_text()
    heavy = ["sqlalchemy", "cryptography", "_ssl"] + ["_sqlite3"] * ("coverage" not in maps)  # which needs it
    assert not [word for word in heavy if word in maps]
