"""Files outlive a power cut: the order of system calls, the cuts between them; locks and who holds them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backup.errors import LockedError
from backup.files import (
    Draft,
    FileLock,
    are_linkable,
    create_durably,
    file_lock,
    read_small,
    sync_directory,
    write_durably,
)
from backup.safe_paths import open_special


def place(handle: int) -> str:
    """The name of what is open, without what is random in it."""
    return plain(os.readlink(f"/proc/self/fd/{handle}"))


def plain(path: str | bytes) -> str:
    return re.sub(r"\.[0-9a-f]{8}$", ".beside", os.path.basename(os.fsdecode(path)))


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The syncs and changes of names below `tmp_path`, in order."""
    found: list[str] = []
    write, fsync, rename, link, unlink = os.write, os.fsync, os.rename, os.link, os.unlink

    def note_write(handle: int, data: memoryview) -> int:
        found.append(f"write {place(handle)}")
        return write(handle, data[:4])  # as the system may

    def note_sync(handle: int) -> None:
        found.append(f"fsync {place(handle)}")
        fsync(handle)

    def noting(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def note(*paths: str, **how: Any) -> None:
            found.append(" ".join([name, *map(plain, paths)]))
            real(*paths, **how)

        return note

    monkeypatch.setattr(os, "write", note_write)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", noting("rename", rename))
    monkeypatch.setattr(os, "link", noting("link", link))
    monkeypatch.setattr(os, "unlink", noting("unlink", unlink))
    yield found
    monkeypatch.undo()


@pytest.mark.parametrize("by_handle", [False, True])
def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, steps: list[str], by_handle: bool
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    if by_handle:
        handle = os.open(tmp_path, os.O_RDONLY)
        write_durably(b"a", b"new one", dir_fd=handle)
        os.close(handle)
    else:
        write_durably(str(tmp_path / "a"), b"new one")
    writes = ["write a.beside", "write a.beside"]
    assert steps == [*writes, "fsync a.beside", "rename a.beside a", f"fsync {tmp_path.name}"]
    assert (tmp_path / "a").read_bytes() == b"new one"


def test_a_new_file_is_on_the_disk_with_its_name(tmp_path: Path, steps: list[str]) -> None:
    create_durably(str(tmp_path / "a"), b"secret")
    assert steps == ["write a", "write a", "fsync a", f"fsync {tmp_path.name}"]


def test_several_files_are_on_the_disk_before_any_is_placed(tmp_path: Path, steps: list[str]) -> None:
    with Draft(str(tmp_path / "key")) as key, Draft(str(tmp_path / "cert")) as certificate:
        for draft in (key, certificate):
            draft.write(b"x")
            draft.sync()
        key.place()
        certificate.place(replace=False)
    folder = f"fsync {tmp_path.name}"
    assert steps == [
        "write key.beside",
        "fsync key.beside",
        "write cert.beside",
        "fsync cert.beside",
        "rename key.beside key",
        folder,
        "link cert.beside cert",
        "unlink cert.beside",
        folder,
    ]


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here")
def test_the_kernel_sees_the_same_order(tmp_path: Path) -> None:
    """As above, without trust in how Python's functions are wrapped."""
    log, path = tmp_path / "log", tmp_path / "file"
    code = f"from backup.files import *; write_durably({str(path)!r}, b'bytes')"
    traced = ["strace", "-y", "-e", "trace=write,fsync,fdatasync,rename,renameat,renameat2,?openat"]
    words = [*traced, "-o", str(log), sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr
    seen = [line for line in log.read_text().splitlines() if str(tmp_path) in line]
    kinds = [line.partition("(")[0] for line in seen]
    assert kinds == ["openat", "write", "fsync", "rename", "openat", "fsync"]
    assert "O_EXCL" in seen[0]
    assert ", 0600)" in seen[0]
    assert re.search(rf"fsync\(\d+<{tmp_path}>\)", seen[-1])


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "close"])
@pytest.mark.parametrize("after", [False, True])
def test_a_cut_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    """A process that is killed at any call: no name ever shows a part of the bytes."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    child = os.fork()
    if not child:
        real = getattr(os, call)

        def cut(*given: Any, **how: Any) -> None:
            if after:
                real(*given, **how)
            os._exit(7)

        setattr(os, call, cut)
        write_durably(str(path), b"new" * 100_000)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert path.read_bytes() in {b"old", b"new" * 100_000}
    assert (path.read_bytes() == b"old") == (call in {"write", "fsync"} or (call == "rename" and not after))
    write_durably(str(path), b"next")
    assert path.read_bytes() == b"next"


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_after_an_error_nothing_is_left_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*_given: Any, **_how: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left") as told:
        write_durably(str(path), b"new")
    assert told.value.filename == str(path)
    assert os.listdir(tmp_path) == ["a"]
    assert path.read_bytes() == b"old"


def test_after_an_error_no_half_of_a_new_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "second name"
    real = os.fsync

    def fail(handle: int) -> None:
        if not left.exists():
            os.link(tmp_path / "key", left)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        create_durably(str(tmp_path / "key"), b"secret")
    assert os.listdir(tmp_path) == [left.name]
    assert left.read_bytes() == bytes(6)


def test_a_new_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for there in ("file", "symlink"):
        path.symlink_to(tmp_path / "nowhere") if there == "symlink" else path.write_bytes(b"old")
        with pytest.raises(FileExistsError):
            create_durably(str(path), b"new")
        with Draft(str(path)) as draft, pytest.raises(FileExistsError):
            draft.place(replace=False)
        path.unlink()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("taken", [False, True])
def test_where_there_are_no_links_a_name_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    def no_links(*_given: Any, **_how: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a"
    with Draft(str(path)) as draft:
        draft.file.write(b"new")
        if taken:
            path.write_bytes(b"somebody else's")
            with pytest.raises(FileExistsError):
                draft.place(replace=False)
        else:
            draft.place(replace=False)
    assert path.read_bytes() == (b"somebody else's" if taken else b"new")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_mode_is_meant_from_the_beginning(tmp_path: Path, mode: int) -> None:
    path, seen = str(tmp_path / "a"), []
    before = os.umask(0o077)
    try:
        with Draft(path, mode=mode) as draft:
            seen.append(stat.S_IMODE(os.fstat(draft.file.fileno()).st_mode))
            draft.place()
        create_durably(path + "b", b"", mode=mode)
    finally:
        os.umask(before)
    assert [*seen, *(stat.S_IMODE(os.stat(file).st_mode) for file in (path, path + "b"))] == [mode] * 3


def test_what_a_cut_left_beside_is_taken_over_where_it_has_a_fixed_name(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"not ours")
    (tmp_path / "a.new").symlink_to(other)
    write_durably(str(tmp_path / "a"), b"new", beside=str(tmp_path / "a.new"))
    assert sorted(os.listdir(tmp_path)) == ["a", "other"]
    assert other.read_bytes() == b"not ours"


def test_a_pipe_that_somebody_named_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="start the reader first"):
        open_special(str(path))
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    until = time.monotonic() + 10
    handle = None
    while handle is None and time.monotonic() < until:
        with suppress(OSError):
            handle = open_special(str(path))
    write_durably(str(path), b"bytes", special=handle)
    reader.join(10)
    assert read == [b"bytes"]
    assert path.is_fifo()
    write_durably("/dev/null", b"bytes", special=open_special("/dev/null"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("what", ["pipe", "link", "/dev/null"])
def test_a_pipe_or_device_that_nobody_handed_in_is_refused(tmp_path: Path, what: str) -> None:
    """A key went into whatever pipe lay at its path."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    path = tmp_path / what
    before = path.lstat()
    with pytest.raises(OSError, match="a pipe or a device is there, which is not replaced"):
        write_durably(str(path), b"secret")
    assert os.read(reader, 10) == b""
    os.close(reader)
    assert os.path.samestat(path.lstat(), before)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@pytest.mark.parametrize("what", ["pipe", "link to a pipe", "link to /dev/zero"])
def test_what_is_no_file_is_not_read(tmp_path: Path, what: str) -> None:
    """A pipe held up whoever read it, and /dev/zero took all memory."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    (tmp_path / "link to /dev/zero".replace("/", ":")).symlink_to("/dev/zero")
    with pytest.raises(OSError, match="it is no regular file"):
        read_small(str(tmp_path / what.replace("/", ":")), 100)


def test_a_small_file_is_read_and_so_is_what_a_shell_hands_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_small(str(tmp_path / "file"), 100) == b"x" * 100
    with pytest.raises(OSError, match="more than 99 bytes"):
        read_small(str(tmp_path / "file"), 99)
    with pytest.raises(OSError, match="more than 99 bytes"):
        read_small("/dev/zero", 99)
    reading, writing = os.pipe()

    def write_late() -> None:
        time.sleep(0.1)
        os.write(writing, b"late")
        os.close(writing)

    writer = threading.Thread(target=write_late)
    writer.start()
    assert read_small(f"/dev/fd/{reading}", 99) == b"late"
    os.close(reading)
    writer.join()
    with pytest.raises(IsADirectoryError):
        read_small(str(tmp_path), 99)


def test_standard_output_is_written_to_though_it_is_a_file(tmp_path: Path) -> None:
    code = (
        "from backup.files import *; from backup.safe_paths import *;"
        "write_durably('/dev/stdout', b'bytes', special=open_special('/dev/stdout'))"
    )
    before = os.readlink("/dev/stdout")
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"bytes"
    assert os.readlink("/dev/stdout") == before


def test_what_lies_in_a_directory_that_others_may_write_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/dev/full")
    handle = os.open(tmp_path, os.O_RDONLY)
    write_durably("a", b"new", dir_fd=handle)
    os.close(handle)
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_system_that_syncs_no_directory_is_lived_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = errno.EINVAL

    def refuse(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    sync_directory(str(tmp_path))
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        sync_directory(str(tmp_path))


def test_a_lock_is_held_by_one_or_shared_and_its_holder_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with file_lock(path), pytest.raises(LockedError, match=rf"^it is taken \({os.getpid()}\)$"):
        file_lock(path, told="it is taken")
    share = file_lock(path, shared=True)
    with share, file_lock(path, shared=True), pytest.raises(LockedError, match="has locked"):
        file_lock(path)
    file_lock(path).close()
    with file_lock(str(tmp_path)), pytest.raises(LockedError):
        file_lock(str(tmp_path))


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path, order = str(tmp_path / "lock"), []
    first = file_lock(path)

    def second() -> None:
        with file_lock(path, wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.2)
    order.append("first")
    first.close()
    thread.join(10)
    assert order == ["first", "second"]


def test_no_process_inherits_a_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = file_lock(path)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        lock.close()
        file_lock(path).close()
    finally:
        child.kill()
        child.wait()


def test_directories_that_are_not_there_are_not_linkable(tmp_path: Path) -> None:
    assert are_linkable(str(tmp_path), str(tmp_path))
    assert not are_linkable(str(tmp_path), str(tmp_path / "gone"))
    assert not are_linkable(str(tmp_path / "gone"), str(tmp_path / "gone"))
    assert not are_linkable(str(tmp_path), "/proc")


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_lock_of_a_file_that_lost_its_name_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_anew: bool
) -> None:
    """Whoever holds the lock removes its file and lets go just as the next one has opened that."""
    path, other = tmp_path / "lock", []
    first = file_lock(str(path))
    real = os.open

    def opened(*given: Any, **how: Any) -> int:
        handle = real(*given, **how)
        monkeypatch.setattr(os, "open", real)
        path.unlink()
        first.close()
        if made_anew:
            other.append(file_lock(str(path)))
        return handle

    monkeypatch.setattr(os, "open", opened)
    if made_anew:
        with pytest.raises(LockedError):
            file_lock(str(path))
        other.pop().close()
    with file_lock(str(path)) as lock:
        assert isinstance(lock, FileLock)
        with pytest.raises(LockedError):
            file_lock(str(path))
