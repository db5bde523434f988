"""Small files that get their name when they are whole: as wanted, or in the other way; never half of one."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.errors import TargetError, TargetFullError
from backup.format.naming import chunk_id
from backup.model import FURTHEST_NS, Owner
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.writer.making import Made
from backup.restorer.writer.tmpfile import UnnamedFiles
from tests.restorer.bench import MINE, MTIME, Bench, as_root, columns_of, wanted

KEY = b"k" * 32
CALLS = ("open", "write", "utime", "fstat", "link", "close")

pytestmark = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without names are Linux's")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A writer whose directory `d` is known to lend nothing to its files: it has made one there."""
    bench = Bench(tmp_path / "out")
    bench.writer.directory(wanted(b"d"))
    assert make(bench, b"d/first", b"1") == Made.WHOLE
    yield bench
    bench.writer.abandon()
    bench.target.close()


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names that files got when they were whole."""
    names: list[bytes] = []
    real = os.link

    def link(source: bytes, name: bytes, **more: int) -> None:
        names.append(name)
        real(source, name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", link)
    return names


def make(bench: Bench, path: bytes, content: bytes, **more: object) -> Made:
    """Have a plain file of one chunk made."""
    entry = wanted(path, size=len(content), **more)  # type: ignore[arg-type]
    return make_of(bench, entry, content, chunk_id(KEY, content) if content else b"")


def make_of(bench: Bench, entry: RestoreEntry, content: bytes, chunk: bytes) -> Made:
    """Have an entry made that is to have this chunk."""
    made = bytearray()
    bench.writer.make_small(columns_of([entry], [chunk]), memoryview(content), KEY, made)
    return Made(made[0])


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666, 0o777, 0o000, 0o4755, 0o2711, 0o1644])
@pytest.mark.parametrize("content", [b"", b"content", b"x" * 100_000])
def test_it_is_as_wanted(bench: Bench, linked: list[bytes], mode: int, content: bytes) -> None:
    assert make(bench, b"d/a", content, mode=mode) == Made.WHOLE
    assert linked == [b"a"]
    found = (bench.place / "d" / "a").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns, found.st_nlink) == (mode, MTIME, 1)
    assert (found.st_uid, found.st_gid) == (MINE.uid, MINE.gid)
    assert (bench.place / "d" / "a").read_bytes() == content
    assert (bench.writer.files, bench.writer.bytes, bench.problems) == (2, 1 + len(content), [])


def test_a_time_that_is_not_the_file_s_own_is_told_in_the_other_way(
    bench: Bench, linked: list[bytes]
) -> None:
    assert make(bench, b"d/a", b"content", mtime_ns=FURTHEST_NS) == Made.WHOLE
    assert linked == []
    assert ["after 2262-04-11" in problem.detail for problem in bench.problems] == [True]
    make(bench, b"d/b", b"content")
    assert linked == [b"b"]


@as_root
def test_owners_and_their_rights_are_given(bench: Bench, linked: list[bytes]) -> None:
    make(bench, b"d/a", b"content", mode=0o6755, owner=Owner(1234, 4321))
    found = (bench.place / "d" / "a").stat()
    assert linked == [b"a"]
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o6755)


def test_the_first_of_a_directory_is_made_in_the_other_way(bench: Bench, linked: list[bytes]) -> None:
    """It shows whether files inherit flags or ACLs there."""
    bench.writer.directory(wanted(b"e"))
    make(bench, b"e/a", b"content")
    assert linked == []
    make(bench, b"e/b", b"content")
    assert linked == [b"b"]


def test_a_wrong_chunk_makes_nothing(bench: Bench) -> None:
    entry = wanted(b"d/a", size=3)
    assert make_of(bench, entry, b"abc", bytes(32)) == Made.DAMAGED
    assert bench.names() == ["d", "d/first"]


def test_what_is_there_is_replaced_in_the_other_way(bench: Bench) -> None:
    (bench.place / "d" / "a").write_text("old")
    assert make(bench, b"d/a", b"content") == Made.WHOLE
    assert (bench.place / "d" / "a").read_bytes() == b"content"
    assert bench.names() == ["d", "d/a", "d/first"]
    assert not bench.problems


def test_what_is_there_is_kept_if_nothing_may_be_replaced(bench: Bench) -> None:
    bench.target.replaces = False
    (bench.place / "d" / "a").write_text("old")
    assert make(bench, b"d/a", b"content") == Made.NOT
    assert (bench.place / "d" / "a").read_text() == "old"
    assert make(bench, b"d/b", b"content") == Made.WHOLE
    assert bench.names() == ["d", "d/a", "d/b", "d/first"]


def test_a_symlink_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (bench.place / "d" / "a").symlink_to(tmp_path / "victim")
    assert make(bench, b"d/a", b"content") == Made.WHOLE
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (bench.place / "d" / "a").is_symlink()


def test_no_name_leads_out(bench: Bench) -> None:
    entry = wanted(b"d/x", size=3)._replace(name=b"../a")
    with pytest.raises(TargetError):
        make_of(bench, entry, b"abc", chunk_id(KEY, b"abc"))
    assert not (bench.place / "a").exists()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOENT, errno.EPERM, errno.EINVAL])
def test_where_it_is_impossible_the_other_way_is_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """The first call of a kind fails, whatever the file system says: the file is made all the same."""
    before = len(os.listdir("/proc/self/fd"))
    failed = fail_once(monkeypatch, call, number)
    assert make(bench, b"d/a", b"content") == Made.WHOLE
    assert failed == [call]
    assert make(bench, b"d/b", b"content") == Made.WHOLE
    assert {name: (bench.place / name).read_bytes() for name in ("d/a", "d/b")} == {
        "d/a": b"content",
        "d/b": b"content",
    }
    assert bench.names() == ["d", "d/a", "d/b", "d/first"]
    assert not bench.problems
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_stops_the_restore(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TargetFullError):
        make(bench, b"d/a", b"content")
    bench.writer.abandon()
    assert bench.names() == ["d", "d/first"]


@pytest.mark.parametrize("call", CALLS)
def test_a_cut_leaves_the_whole_file_or_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Before and after each call: no name is there that is not whole, nor any other."""
    place = bench.place / "d"
    for after in (False, True):
        name = b"d/" + call.encode() + str(after).encode()
        with monkeypatch.context() as patched:
            cut(patched, call, after=after)
            with pytest.raises(_CutError):
                make(bench, name, b"content")
        found = place.parent / os.fsdecode(name)
        assert [file for file in os.listdir(place) if file.startswith(".")] == []
        if found.exists():
            status = found.stat()
            assert found.read_bytes() == b"content"
            assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, MTIME)


def test_nobody_ever_sees_half_a_file(bench: Bench) -> None:
    """Names are read all the time while files are made: each is whole from the first moment."""
    place, seen, is_over = bench.place / "d", set[tuple[int, int, int]](), threading.Event()

    def look() -> None:
        while not is_over.is_set():
            for entry in os.scandir(place):
                if entry.name != "first":
                    found = entry.stat()
                    seen.add((found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime_ns))

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(300):
        make(bench, b"d/%d" % number, b"content")
    is_over.set()
    looker.join()
    assert seen <= {(7, 0o640, MTIME)}


def test_a_file_system_that_sets_something_else_is_not_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.utime
    monkeypatch.setattr(os, "utime", lambda file, ns: real(file, ns=(ns[0] + 1_000, ns[1] + 1_000)))
    handle = bench.target.handle(b"d")
    asked = (MINE.uid, MINE.gid, 0o640, MTIME)
    assert not UnnamedFiles().make(handle, b"d", b"a", memoryview(b"abc"), asked)
    assert bench.names() == ["d", "d/first"]


class _CutError(BaseException):
    """The process ends here."""


def cut(patched: pytest.MonkeyPatch, call: str, *, after: bool) -> None:
    """End the process at the first such call, before or after it is carried out."""
    real: Callable[..., object] = getattr(os, call)

    def cutting(*arguments: object, **more: object) -> object:
        if after:
            real(*arguments, **more)
        raise _CutError

    patched.setattr(os, call, cutting)


def fail_once(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> list[str]:
    """Have the first such call fail with an error; returns the calls that did."""
    real: Callable[..., object] = getattr(os, call)
    failed: list[str] = []

    def failing(*arguments: object, **more: object) -> object:
        if failed:
            return real(*arguments, **more)
        failed.append(call)
        if call == "close":  # the descriptor is gone all the same
            real(*arguments, **more)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, failing)
    return failed
