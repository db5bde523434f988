"""A file is whole or absent, metadata is as asked for or named in the report, nothing is left behind."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.errors import TargetError
from backup.model import MIB, EntryKind, Extra, Owner, Problem, ProblemKind
from backup.restorer.writer import partial_files as module
from backup.restorer.writer import special
from backup.restorer.writer.metadata import Metadata
from tests.restorer.bench import MINE, MTIME, Bench, as_root, wanted


def test_a_large_file_goes_to_the_disk_as_it_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each span twice: when it is written, and a step later, when the cache can let it go."""
    spans: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "forget", lambda _file, start=0, length=0: spans.append((start, length)))
    size = 20 * MIB
    assert bench.writer.begin(0, wanted(b"large", size=size))
    for start in range(0, size, MIB):
        assert bench.writer.write(0, start, memoryview(bytes(MIB)))
    bench.writer.end(0)
    first, second = (0, 8 * MIB), (8 * MIB, 8 * MIB)
    assert spans == [first, first, second, (0, 0)]
    bench.file(b"small", bytes(MIB))
    assert len(spans) == 4


def test_a_file_has_its_name_only_at_the_end(bench: Bench) -> None:
    assert bench.writer.begin(0, wanted(b"a", size=6))
    assert bench.writer.write(0, 3, memoryview(b"def"))
    assert [name.startswith(".nightvault-0123456789abcdef-") for name in bench.names()] == [True]
    assert bench.writer.write(0, 0, memoryview(b"abc"))
    bench.writer.end(0)
    assert bench.names() == ["a"]
    found = (bench.place / "a").stat()
    assert (bench.place / "a").read_bytes() == b"abcdef"
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, MTIME)
    assert (bench.writer.files, bench.writer.bytes, bench.problems) == (1, 6, [])


def test_an_existing_file_is_replaced_whole(bench: Bench) -> None:
    (bench.place / "a").write_text("old")
    held = os.open(bench.place / "a", os.O_RDONLY)
    bench.file(b"a", b"new")
    assert (bench.place / "a").read_bytes() == b"new"
    assert os.read(held, 9) == b"old"
    os.close(held)


@pytest.mark.parametrize("kind", [EntryKind.FILE, EntryKind.SYMLINK, EntryKind.FIFO])
def test_a_symlink_in_the_place_of_an_entry_is_replaced_not_followed(
    bench: Bench, tmp_path: Path, kind: EntryKind
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    before = victim.stat()
    (bench.place / "a").symlink_to(victim)
    if kind is EntryKind.FILE:
        bench.file(b"a", b"content", mode=0o666)
    else:
        bench.writer.special(wanted(b"a", kind, mode=0o666, extra=Extra(target=b"elsewhere")))
    assert victim.read_text() == "precious"
    after = victim.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    kinds = {EntryKind.FILE: stat.S_IFREG, EntryKind.SYMLINK: stat.S_IFLNK, EntryKind.FIFO: stat.S_IFIFO}
    assert stat.S_IFMT((bench.place / "a").lstat().st_mode) == kinds[kind]
    assert not bench.problems


def test_a_directory_in_the_place_of_a_file_is_left_alone(bench: Bench) -> None:
    (bench.place / "a").mkdir()
    bench.file(b"a", b"content")
    bench.writer.special(wanted(b"a", EntryKind.SYMLINK, extra=Extra(target=b"x")))
    assert bench.names() == ["a"]
    assert [problem.kind for problem in bench.problems] == [ProblemKind.NOT_SET] * 2
    assert all("not restored" in problem.detail for problem in bench.problems)
    assert bench.writer.files == 0


def test_symlinks_have_their_own_times(bench: Bench) -> None:
    bench.writer.special(wanted(b"link", EntryKind.SYMLINK, extra=Extra(target=b"no\xffwhere")))
    assert os.readlink(os.fsencode(bench.place / "link")) == b"no\xffwhere"
    assert (bench.place / "link").lstat().st_mtime_ns == MTIME
    assert not bench.problems


def test_a_fifo(bench: Bench) -> None:
    bench.writer.special(wanted(b"fifo", EntryKind.FIFO, mode=0o622))
    found = (bench.place / "fifo").stat()
    assert (stat.S_ISFIFO(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, 0o622)
    assert found.st_mtime_ns == MTIME


@pytest.mark.parametrize("kind", [EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE])
def test_a_device_is_made_as_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: EntryKind) -> None:
    made: list[tuple[int, int]] = []

    def mknod(name: bytes, mode: int, device: int, *, dir_fd: int) -> None:
        made.append((stat.S_IFMT(mode), device))
        os.mkfifo(name, 0o600, dir_fd=dir_fd)  # a stand-in: this machine may forbid devices

    monkeypatch.setattr(os, "mknod", mknod)
    monkeypatch.setattr(special, "is_as_asked_for", lambda *_: True)
    bench.writer.special(wanted(b"device", kind, extra=Extra(device=os.makedev(1, 3))))
    block = kind is EntryKind.BLOCK_DEVICE
    assert made == [(stat.S_IFBLK if block else stat.S_IFCHR, os.makedev(1, 3))]
    assert bench.names() == ["device"]
    assert not bench.problems


def test_a_device_that_may_not_be_made_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refuse)
    bench.writer.special(wanted(b"null", EntryKind.CHARACTER_DEVICE, extra=Extra(device=259)))
    assert bench.problems == [Problem(b"null", ProblemKind.NOT_SET, "not restored: Operation not permitted")]
    assert bench.names() == []


@as_root
def test_a_real_device_or_a_problem(bench: Bench) -> None:
    device = os.makedev(1, 3)
    bench.writer.special(wanted(b"null", EntryKind.CHARACTER_DEVICE, mode=0o666, extra=Extra(device=device)))
    if bench.problems:
        assert bench.names() == []
        return
    found = (bench.place / "null").stat()
    assert (found.st_rdev, stat.S_IMODE(found.st_mode)) == (device, 0o666)


@as_root
def test_owner_setuid_and_sticky_bits(bench: Bench) -> None:
    owner = Owner(1234, 4321)
    bench.file(b"program", b"#!", mode=0o6755, owner=owner)
    bench.writer.directory(wanted(b"tmp", EntryKind.DIRECTORY, mode=0o3777, owner=owner))
    bench.writer.special(wanted(b"pipe", EntryKind.FIFO, mode=0o600, owner=owner))
    bench.writer.special(wanted(b"link", EntryKind.SYMLINK, owner=owner, extra=Extra(target=b"x")))
    bench.writer.finish()
    assert not bench.problems
    for name, mode in (("program", 0o6755), ("tmp", 0o3777), ("pipe", 0o600), ("link", 0o777)):
        found = (bench.place / name).lstat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, mode)


@pytest.mark.parametrize("kind", [EntryKind.FILE, EntryKind.FIFO])
def test_without_the_owner_no_setuid(bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: EntryKind) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    stranger = Owner(MINE.uid + 1, MINE.gid)
    if kind is EntryKind.FILE:
        bench.file(b"a", b"content", mode=0o4755, owner=stranger)
    else:
        bench.writer.special(wanted(b"a", EntryKind.FIFO, mode=0o4755, owner=stranger))
    assert stat.S_IMODE((bench.place / "a").stat().st_mode) == 0o755
    assert [problem.detail for problem in bench.problems] == [
        "owner: Operation not permitted",
        "mode: setuid and setgid are left off, as the owner could not be set",
    ]
    assert bench.writer.files == 1


def test_numbers_that_no_system_knows_are_reported(bench: Bench) -> None:
    bench.file(b"a", b"content", owner=Owner(2**40, 0))
    bench.writer.special(wanted(b"b", EntryKind.BLOCK_DEVICE, extra=Extra(device=2**70)))
    assert (bench.place / "a").read_bytes() == b"content"
    assert [problem.path for problem in bench.problems] == [b"a", b"b"]


def test_directories_get_their_metadata_last(bench: Bench) -> None:
    for path in (b"a", b"a/b", b"a-b"):
        bench.writer.directory(wanted(path, EntryKind.DIRECTORY, mode=0o555))
    bench.file(b"a/b/file", b"content")
    assert bench.writer.directories == 3
    bench.writer.finish()
    for name in ("a", "a/b", "a-b"):
        found = (bench.place / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o555, MTIME)
    assert not bench.problems


def test_a_directory_that_vanishes_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.writer.directory(wanted(b"a", EntryKind.DIRECTORY))

    def refuse(*_args: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Metadata, "apply", refuse)
        bench.writer.finish()
    assert bench.problems == [Problem(b"a", ProblemKind.NOT_SET, "mode, owner and times: Permission denied")]


def test_given_up_files_leave_nothing(bench: Bench) -> None:
    for key in range(3):
        bench.writer.begin(key, wanted(b"f%d" % key, size=9))
        bench.writer.write(key, 0, memoryview(b"content"))
    bench.writer.give_up(1)
    assert len(bench.names()) == 2
    bench.writer.abandon()
    assert bench.names() == []


def test_what_a_killed_run_left_is_removed_by_the_next(bench: Bench, tmp_path: Path) -> None:
    bench.writer.directory(wanted(b"in", EntryKind.DIRECTORY))
    bench.writer.begin(0, wanted(b"a", size=9))
    bench.writer.begin(1, wanted(b"in/b", size=9))
    (bench.place / ".nightvault-of-another-restore").write_text("")
    again = Bench(bench.place)
    again.writer.directory(wanted(b"in", EntryKind.DIRECTORY))
    assert again.names() == [".nightvault-of-another-restore", "in"]
    again.target.close()


def test_many_files_at_once_need_few_handles(bench: Bench) -> None:
    before = len(os.listdir("/proc/self/fd"))
    count = 300
    for key in range(count):
        bench.writer.begin(key, wanted(b"d%d/f%d" % (key % 50, key), size=2))
    for part in (0, 1):
        for key in range(count):
            assert bench.writer.write(key, part, memoryview(b"x"))
    assert len(os.listdir("/proc/self/fd")) - before < 200
    for key in range(count):
        bench.writer.end(key)
    assert (bench.writer.files, bench.problems) == (count, [])


def test_a_temporary_file_that_was_replaced_is_not_written(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    bench.writer.begin(0, wanted(b"a", size=7))
    (temporary,) = bench.names()
    bench.writer.begin(1, wanted(b"b", size=7))
    (bench.place / temporary).unlink()
    (bench.place / temporary).hardlink_to(victim)
    assert not bench.writer.write(0, 0, memoryview(b"content"))
    assert victim.read_text() == "precious"
    assert [problem.path for problem in bench.problems] == [b"a"]


# What fails: one entry, or the target as a whole.

Step = Callable[[Bench], object]
STEPS: dict[str, Step] = {
    "open": lambda bench: bench.writer.begin(0, wanted(b"a")),
    "pwrite": lambda bench: bench.file(b"a", b"content"),
    "rename": lambda bench: bench.file(b"a", b"content"),
    "symlink": lambda bench: bench.writer.special(wanted(b"a", EntryKind.SYMLINK, extra=Extra(b"x"))),
    "mkdir": lambda bench: bench.writer.directory(wanted(b"a", EntryKind.DIRECTORY)),
}


def failing(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("call", STEPS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_target_that_fails_stops_the_restore(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, call, number)
        with pytest.raises(TargetError, match="a cannot be written below") as caught:
            STEPS[call](bench)
    assert "run it again" in caught.value.advice
    bench.writer.abandon()
    assert bench.names() == []
    assert not bench.problems


@pytest.mark.parametrize("call", ["open", "rename", "symlink", "mkdir"])
def test_an_entry_that_is_refused_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, call, errno.EACCES)
        STEPS[call](bench)
    assert bench.problems == [Problem(b"a", ProblemKind.NOT_SET, "not restored: Permission denied")]
    assert bench.names() == []


def test_a_file_too_large_for_the_file_system_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.writer.begin(0, wanted(b"a", size=7))
    with monkeypatch.context() as patch:
        failing(patch, "pwrite", errno.EFBIG)
        assert not bench.writer.write(0, 0, memoryview(b"content"))
    assert [problem.path for problem in bench.problems] == [b"a"]
    assert bench.names() == []


def test_short_writes_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, data[:2], offset))
    bench.file(b"a", b"content")
    assert (bench.place / "a").read_bytes() == b"content"


def test_what_took_the_place_of_a_begun_file_is_never_written_to(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    assert bench.writer.begin(0, wanted(b"a", size=6))
    (begun,) = bench.place.iterdir()
    assert bench.writer.begin(1, wanted(b"b", size=6))
    victim = bench.place / "victim"
    victim.write_text("precious")
    begun.unlink()
    os.link(victim, begun)
    assert bench.writer.read(0, 0, 6) == b""
    assert bench.writer.read(0, 0, 6) == b""
    assert not bench.writer.write(0, 0, memoryview(b"abcdef"))
    assert victim.read_text() == "precious"
