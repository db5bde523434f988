"""`nightvault dump`: a file or a tar into a stream, never half of one without being told."""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import stat
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.servers import SCRIPT, Cloud, Server, directory_server, running_cloud
from tests.support.trees import assert_same_tree

MIB = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    source = made.source
    (source / "deep" / "b\udcff\n.txt").write_text("odd")
    os.link(source / "a.txt", source / "deep" / "a-again.txt")
    os.utime(source / "a.txt", ns=(1_600_000_000_123_456_789,) * 2)
    (source / "empty").mkdir()
    os.setxattr(source / "deep" / "b.bin", "user.odd", b"\xff\x00\n=")
    with (source / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(3 * MIB)
        file.write(b"middle")
        file.truncate(5 * MIB)
    (source / "big").write_bytes(hashlib.shake_256(b"big").digest(9 * MIB))
    (source / "big-again").write_bytes((source / "big").read_bytes()[MIB:] + b"x")
    (source / ("n" * 120)).mkdir()
    (source / ("n" * 120) / ("m" * 150)).write_text("long")
    made.init()
    made.backup()
    return made


def dumped(server: Server, *words: object) -> bytes:
    return server.done("dump", *words, "--key", server.key_file).stdout_bytes


def test_a_file(server: Server) -> None:
    at = f"latest:{server.source}"
    for name in ("a.txt", "deep/a-again.txt", "sparse", "big", "deep/b\udcff\n.txt"):
        assert dumped(server, f"{at}/{name}") == (server.source / name).read_bytes()
    assert server.json("restores") == []
    assert len(server.json("restores", "--all")) == 5


def test_a_closed_standard_output_is_refused(server: Server) -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh"]
    words = [SCRIPT, "--config", str(server.config), "dump", "--key", str(server.key_file)]
    done = subprocess.run(
        [*closed, *words, f"latest:{server.source}/a.txt"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr
    assert server.json("restores", "--all") == []


def test_paths_are_named_as_the_config_spells_a_source_behind_a_symlink(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(server.source.parent)
    spelled = tmp_path / "link" / server.source.name
    server.config.write_text(server.config.read_text().replace(str(server.source), str(spelled)))
    server.backup()
    assert dumped(server, f"latest:{spelled}/a.txt") == (server.source / "a.txt").read_bytes()
    listed = server.json("ls", f"latest:{spelled}/deep")
    assert listed == server.json("ls", f"latest:{server.source}/deep") != []
    server.restore(tmp_path / "out", snapshot=f"latest:{spelled}/deep")
    assert (tmp_path / "out" / "b.bin").exists()
    server.restore(tmp_path / "some", f"{spelled}/a.txt")
    assert "has no" in server.fails(2, "ls", f"latest:{spelled}/nothing")
    (tmp_path / "link").unlink()  # as on a new machine
    assert server.json("ls", f"latest:{spelled}/deep") == listed
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert server.json("ls", f"latest:{spelled}/deep") == listed
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as database, database:
        database.execute("UPDATE snapshots SET roots = NULL")  # as 0.1.0 left it
    assert "has no" in server.fails(2, "ls", f"latest:{spelled}/deep")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(server.source.parent)
    assert server.json("ls", f"latest:{spelled}/deep") == listed


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_or_device_is_written_to_and_stays(server: Server, tmp_path: Path, linked: bool) -> None:
    """`dump -o /dev/null` by root put a file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    target = tmp_path / "link" if linked else pipe
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(pipe.read_bytes)
        server.done("dump", f"latest:{server.source}/a.txt", "-o", target, "--key", server.key_file)
        assert read.result(20) == (server.source / "a.txt").read_bytes()
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a pipe away")
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_pipe_of_another_user_gets_nothing(server: Server, tmp_path: Path, force: tuple[str, ...]) -> None:
    """It may have been put there by whoever wants to read the file, in /tmp say."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    os.chown(pipe, 4242, 4242)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    words = ("dump", f"latest:{server.source}/a.txt", "-o", pipe, *force, "--key", server.key_file)
    assert "a pipe or a device of 4242 is there" in server.fails(2, *words)
    assert os.read(reader, 10) == b""
    os.close(reader)
    assert pipe.is_fifo()


def test_a_tar_for_gnu_tar(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    data = dumped(server, f"latest:{server.source}", "--tar")
    words = ("tar", "--xattrs", "-C", str(out), "-xpf", "-")
    done = subprocess.run(words, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    out.chmod(server.source.stat().st_mode)
    times = server.source.stat()
    os.utime(out, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert_same_tree(out, server.source)
    assert (out / "sparse").stat().st_blocks * 512 < MIB
    assert (out / "a.txt").stat().st_ino == (out / "deep" / "a-again.txt").stat().st_ino
    assert os.getxattr(out / "deep" / "b.bin", "user.odd") == b"\xff\x00\n="


def test_a_tar_for_python_and_some_of_it(server: Server) -> None:
    at = f"latest:{server.source}"
    words = ("--tar", "deep", "sparse", "--exclude", "*.bin")
    with tarfile.open(fileobj=io.BytesIO(dumped(server, at, *words))) as tar:
        names = tar.getnames()
        sparse = tar.extractfile("sparse")
        assert sparse is not None
        assert sparse.read() == (server.source / "sparse").read_bytes()
    assert names == ["deep", "deep/a-again.txt", "deep/b\udcff\n.txt", "deep/er", "deep/er/c.txt", "sparse"]


def change(server: Server, *statements: str) -> None:
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as database, database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0


def left_out(server: Server, *words: str) -> tuple[list[str], str]:
    """The members of a tar that is partial, and what was said."""
    at = f"latest:{server.source}"
    result = server.run("dump", at, "--tar", *words, "--key", server.key_file)
    assert result.exit_code == 3
    assert is_whole(result.stdout_bytes)
    with tarfile.open(fileobj=io.BytesIO(result.stdout_bytes)) as tar:
        return tar.getnames(), result.stderr


def test_nothing_is_dumped_below_what_is_no_directory(server: Server) -> None:
    """Catalogs of an intruder: who unpacks this writes where the symlink leads, before `tar` can say no."""
    moved = "UPDATE directories SET path = CAST(replace(path, '/deep', '/link') AS BLOB)"
    change(server, f"{moved} WHERE instr(path, CAST('/deep' AS BLOB)) > 0")
    names, said = left_out(server)
    assert not [name for name in names if name.startswith("link/")]
    assert {"link", "deep", "a.txt", "big"} <= set(names)
    assert "/link above it is no directory; left out" in said


def test_no_two_members_have_one_path(server: Server) -> None:
    """A directory that leads to what was chosen, and a symlink in its place."""
    columns = "directory, mode, owner, mtime_ns, size, added_in, name, kind, extra"
    change(
        server,
        "UPDATE entries SET added_in = 0 WHERE name = CAST('deep' AS BLOB)",
        f"""INSERT INTO entries ({columns}) SELECT {columns.replace("name,", "CAST('deep' AS BLOB),")}
            FROM entries WHERE name = CAST('link' AS BLOB)""",
    )
    names, said = left_out(server, "--include", "deep", "--include", "!deep/", "--include", "c.txt")
    assert names == ["deep", "deep/er", "deep/er/c.txt"]
    assert "another entry has its path; left out" in said


def test_into_a_file_with_a_report(server: Server, tmp_path: Path) -> None:
    at, key = f"latest:{server.source}", ("--key", server.key_file)
    told = server.json("dump", f"{at}/big", *key, "-o", tmp_path / "big")
    assert (told["file"], told["files"], told["bytes"]) == (f"{tmp_path}/big", 1, 9 * MIB)
    assert (tmp_path / "big").read_bytes() == (server.source / "big").read_bytes()
    assert "cannot be written" in server.fails(1, "dump", f"{at}/a.txt", *key, "-o", tmp_path / "no" / "big")
    assert not list(tmp_path.glob("big.*"))


@pytest.mark.parametrize(
    ("path", "words", "said"),
    [
        ("deep", (), "is a directory"),
        ("link", (), "is a symlink, which has no content"),
        ("bigg", (), "did you mean"),
        ("big", ("--json",), "standard output is taken"),
        ("", ("--tar", "nothing*"), "nothing in snapshot"),
    ],
)
def test_what_cannot_be_dumped(server: Server, path: str, words: tuple[str, ...], said: str) -> None:
    result = server.run("dump", f"latest:{server.source}/{path}", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def damage(server: Server) -> None:
    """Change a byte in the middle of each large archive."""
    for path in (server.folder / "vault" / "archives").rglob("*"):
        if path.is_file() and path.stat().st_size > MIB:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)


def test_a_damaged_file_is_never_given_in_part(server: Server) -> None:
    damage(server)
    at = f"latest:{server.source}"
    result = server.run("dump", f"{at}/big", "--key", server.key_file)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert "breaks off" in result.stderr
    result = server.run("dump", at, "--tar", "--key", server.key_file)
    assert result.exit_code == 3
    with tarfile.open(fileobj=io.BytesIO(result.stdout_bytes)) as tar:
        names = tar.getnames()
    assert "big" not in names
    assert {"a.txt", "deep/er/c.txt"} <= set(names)
    assert "big" in result.stderr
    assert is_whole(result.stdout_bytes)


def test_from_a_vault_that_waits(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        dump_twice(cloud, cloud.server(tmp_path / "server", vault="dumps"))


def dump_twice(cloud: Cloud, server: Server) -> None:
    """Ask, see that nothing came, let hours pass, and have it by the same words."""
    server.init()
    server.backup()
    words = ("dump", f"latest:{server.source}/deep/b.bin", "--key", server.key_file)
    result = server.run(*words)
    assert (result.exit_code, result.stdout_bytes) == (17, b"")
    assert "waits for the vault" in result.stderr
    (waiting,) = server.json("restores")
    assert waiting["target"] == {"path": "/dev/stdout"}
    assert "run the same dump command" in server.fails(2, "restore", "resume", waiting["id"])
    cloud.emulator.advance(6 * 3600)
    assert server.done(*words).stdout_bytes == (server.source / "deep" / "b.bin").read_bytes()
    assert server.json("restores") == []


def is_whole(data: bytes) -> bool:
    """Whether a tar holds all the bytes that it says it does, and an end."""
    done = subprocess.run(("tar", "-tf", "-"), input=data, capture_output=True, check=False)
    return done.returncode == 0


def test_a_large_file_that_breaks_off_ends_the_stream(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.restorer.dump.dump.FITS", MIB)
    damage(server)
    at = f"latest:{server.source}"
    result = server.run("dump", at, "--tar", "--key", server.key_file)
    assert result.exit_code == 1
    assert "breaks off within big" in result.stderr
    assert not is_whole(result.stdout_bytes)
    assert server.json("restores") == []


@pytest.mark.parametrize("reader", ["gone", "full"])
def test_a_dump_that_cannot_be_written_leaves_nothing_open(server: Server, reader: str) -> None:
    """`dump | head`, `dump > /dev/full`: nothing can go on with it, and nothing runs."""
    words = [
        SCRIPT,
        "--config",
        server.config,
        "dump",
        f"latest:{server.source}/big",
        "--key",
        server.key_file,
    ]
    command = {"gone": '"$@" | head -c 10 > /dev/null; exit "${PIPESTATUS[0]}"', "full": '"$@" > /dev/full'}
    done = subprocess.run(
        ["bash", "-c", command[reader], "bash", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert ("No space left on device" in done.stderr) == (reader == "full")
    assert server.json("restores") == []
    run = server.json("runs")[0]
    assert (run["kind"], run["outcome"]) == ("restore", "interrupted" if reader == "gone" else "failed")
    assert "runs now" not in server.run("status").stdout
