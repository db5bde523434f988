"""`nightvault mount`: programs see what was saved, and nothing is left of it, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.cli.looking import mount
from backup.errors import ConfigError, UsageError
from tests.served.crashing import assert_no_core, crashing
from tests.support.fuse_mounts import await_state, is_mounted, mounted, require_fuse
from tests.support.random_trees import RandomTree, loosen
from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.trees import snapshot_of
from tests.support.users import AS_NOBODY

pytestmark = pytest.mark.slow
FORGETFUL = """\
import backup.served.session as session
session._MOST_GIVEN = 10
from backup.cli import main
main()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one snapshot over every kind of entry."""
    require_fuse()
    made = directory_server(tmp_path_factory.mktemp("mount"), clock=SystemClock())
    made.init()
    tree = RandomTree(made.source, random.Random(7))
    for _ in range(60):
        tree.day()
    (made.source / "large").write_bytes(random.Random(1).randbytes(9_000_000))
    (made.source / "sparse").write_bytes(b"")
    os.truncate(made.source / "sparse", 200_000_000)
    made.backup()
    yield made
    loosen(os.fsencode(made.source))


def saved(server: Server, folder: Path) -> Path:
    """The source as its latest snapshot has it."""
    return Path(f"{folder}/snapshots/latest/main{server.source}")


def test_everything_is_there_as_it_was_saved(server: Server, tmp_path: Path) -> None:
    with mounted(server, tmp_path / "m"):
        there = snapshot_of(saved(server, tmp_path / "m"))
        assert there == {path: seen._replace(flags=0) for path, seen in snapshot_of(server.source).items()}
        with pytest.raises(OSError, match="Read-only") as caught:
            (saved(server, tmp_path / "m") / "new").write_text("x")
        assert caught.value.errno == errno.EROFS


def test_what_the_kernel_is_told_to_forget_is_there_all_the_same(server: Server, tmp_path: Path) -> None:
    """After ten statuses, in place of 100,000; whoever is in a folder or has a file open goes on."""
    with mounted(server, tmp_path / "m", program=(sys.executable, "-c", FORGETFUL)):
        inside = saved(server, tmp_path / "m")
        with contextlib.chdir(inside), (inside / "large").open("rb") as file:
            for _ in range(3):
                here = snapshot_of(Path())
                assert here == {
                    path: seen._replace(flags=0) for path, seen in snapshot_of(server.source).items()
                }
                assert Path.cwd() == inside.resolve()
            assert file.read() == (server.source / "large").read_bytes()


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_finds_no_difference(server: Server, tmp_path: Path) -> None:
    with mounted(server, tmp_path / "m"):
        done = subprocess.run(
            [
                "rsync",
                "-n",
                "-aHAXc",
                "--delete",
                "--itemize-changes",
                f"{saved(server, tmp_path / 'm')}/",
                server.source,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == ""


def test_one_snapshot_alone_is_the_whole_mount(server: Server, tmp_path: Path) -> None:
    with mounted(server, tmp_path / "m", "--snapshot", f"latest:{server.source}", "--numeric-owner"):
        done = subprocess.run(
            ["diff", "-r", "--no-dereference", tmp_path / "m", server.source],
            capture_output=True,
            check=False,
        )
        told = [line for line in done.stdout.splitlines() if line.startswith(b"Only in") or b"differ" in line]
        assert told == []
        assert ".nightvault" not in os.listdir(tmp_path / "m")
        assert set(os.listdir(tmp_path / "m" / ".nightvault")) == {"README", "refused", "request"}


def test_others_get_in_as_far_as_closed_directories_let_them(
    server: Server, tmp_path: Path, nobody: int
) -> None:
    """The folders that gather files by their paths show them without those directories: they are closed."""
    closed = server.source / "closed"
    closed.mkdir(mode=0o700)
    (closed / "open").write_text("secret")
    (closed / "open").chmod(0o644)
    server.source.chmod(0o755)
    server.backup()
    m = tmp_path / "m"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)

    def seen_by_others(path: object) -> str:
        done = subprocess.run(
            [*AS_NOBODY, "ls", str(path)], capture_output=True, text=True, check=False, cwd="/"
        )
        return done.stdout + done.stderr

    with mounted(server, m, "--allow-other"):
        assert "versions" in seen_by_others(m)
        assert "by-time" in seen_by_others(m / "snapshots")
        for path in (saved(server, m) / "closed", m / "versions", f"{m}/versions{closed}/open"):
            assert "Permission denied" in seen_by_others(path)
        assert os.listdir(f"{m}/versions{closed}/open")
        assert [(m / "versions").stat().st_uid, (m / "versions").stat().st_mode & 0o777] == [0, 0o700]
    os.chown(server.source, nobody, nobody)
    server.backup()
    os.chown(server.source, 0, 0)
    with mounted(server, m, "--allow-other", "--snapshot", f"latest:{server.source}", "--numeric-owner"):
        assert m.stat().st_uid == nobody
        for path in (m / ".nightvault", *(m / ".nightvault").iterdir()):
            assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o077) == (0, 0, 0)
        assert "Permission denied" in seen_by_others(m / ".nightvault")


def test_a_saved_name_that_begins_like_the_control_folder_keeps_its_attributes(
    server: Server, tmp_path: Path
) -> None:
    file = server.source / ".nightvaultrc"
    file.touch()
    os.setxattr(file, "user.kept", b"yes")
    server.backup()
    with mounted(server, tmp_path / "m", "--snapshot", f"latest:{server.source}"):
        assert os.getxattr(tmp_path / "m" / ".nightvaultrc", "user.kept") == b"yes"
        assert os.listxattr(tmp_path / "m" / ".nightvault") == []


def test_eight_readers_at_once(server: Server, tmp_path: Path) -> None:
    content = (server.source / "large").read_bytes()
    with mounted(server, tmp_path / "m"), ThreadPoolExecutor(8) as pool:
        path = saved(server, tmp_path / "m") / "large"
        assert all(pool.map(lambda _: path.read_bytes() == content, range(16)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_it_can_be_mounted_again(server: Server, tmp_path: Path, number: int) -> None:
    for _ in range(2):
        with mounted(server, tmp_path / "m") as process:
            process.send_signal(number)
            assert process.wait(20) == 0
            assert await_state(tmp_path / "m", mounted=False)


def test_a_signal_that_is_ignored_ends_nothing(server: Server, tmp_path: Path) -> None:
    """As in a shell's background; whoever is in the mount does not keep it from ending."""
    program = ("sh", "-c", 'trap "" INT; exec "$0" "$@"', SCRIPT)
    with mounted(server, tmp_path / "m", program=program) as process:
        inside = os.open(saved(server, tmp_path / "m"), os.O_RDONLY)
        process.send_signal(signal.SIGINT)
        assert os.listdir(tmp_path / "m")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        os.close(inside)
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[1:] == []


def test_systemd_is_told_when_it_is_there(server: Server, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(tmp_path / "notify"))
        with mounted(server, tmp_path / "m", program=("env", f"NOTIFY_SOCKET={tmp_path}/notify", SCRIPT)):
            assert manager.recv(100) == b"READY=1"


def test_unmounting_ends_the_command(server: Server, tmp_path: Path) -> None:
    with mounted(server, tmp_path / "m") as process:
        subprocess.run(["fusermount3", "-u", tmp_path / "m"], check=True)
        assert process.wait(20) == 0


def test_a_kill_leaves_nothing_to_repair(server: Server, tmp_path: Path) -> None:
    """What is left at the directory, if anything is, the next mount takes away."""
    for _ in range(2):
        with mounted(server, tmp_path / "m") as process:
            process.kill()
            process.wait(20)
    with mounted(server, tmp_path / "m"):
        assert os.listdir(tmp_path / "m") == ["snapshots", "versions"]
    server.backup()


def test_a_crash_leaves_no_core_file_and_no_key_lies_on_disk(server: Server, tmp_path: Path) -> None:
    secret, cores = server.key_file.read_bytes().strip().splitlines()[-1], tmp_path / "cores"
    with mounted(server, tmp_path / "m", program=crashing(cores)) as process:
        for file in server.state.rglob("*"):
            assert not file.is_file() or secret not in file.read_bytes()
        assert_no_core(process, cores)


def test_others_of_its_user_cannot_read_its_memory(nobody: int) -> None:
    script = (
        "import os; from backup.served.opened import keep_memory_private as close;"
        "print(os.stat('/proc/self/mem').st_uid, close(), os.stat('/proc/self/mem').st_uid)"
    )
    words = [*AS_NOBODY, sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == f"{nobody} None 0\n"


def test_a_directory_that_is_not_empty_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "is not empty" in server.fails(2, "mount", tmp_path / "full", "--key", server.key_file)
    assert "No such file" in server.fails(2, "mount", tmp_path / "none", "--key", server.key_file)
    assert not is_mounted(tmp_path / "full")


def test_what_cannot_be_unmounted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fusermount3 is not there, or may not take away a dead mount, as one of another user."""
    (tmp_path / "fusermount3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "fusermount3").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    def dead(_: str) -> list[str]:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr("os.listdir", dead)
    with pytest.raises(UsageError, match="dead mount") as caught:
        mount.require_mount_point("/mnt/two nights")
    assert caught.value.advice == "as root: umount -l '/mnt/two nights'"
    (tmp_path / "fusermount3").unlink()
    with pytest.raises(ConfigError, match="fusermount3") as missing:
        mount.require_fuse()
    assert "apt install fuse3" in str(missing.value.advice)
