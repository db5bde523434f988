"""`nightvault serve-files`: clients of WebDAV see what was saved, nobody else does, and it ends by itself."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from backup.app.base.clock import SystemClock
from tests.served.crashing import assert_no_core, crashing
from tests.support.fuse_mounts import require_fuse
from tests.support.random_trees import RandomTree, loosen
from tests.support.servers import Server, directory_server
from tests.support.webdav_clients import Files, serving

pytestmark = pytest.mark.slow
IMPATIENT = """\
import backup.cli.looking.serve_files as serving
serving.IDLE = 1.0
from backup.cli import main
main()
"""
HOSTILE = (b"a b", b"100%25", b"<&\"'>", b"\xff\xfe", b"new\nline", b"\x01", "grüße".encode(), b"#?;:", b"\\")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one snapshot over every kind of entry."""
    made = directory_server(tmp_path_factory.mktemp("webdav"), clock=SystemClock())
    made.init()
    tree = RandomTree(made.source, random.Random(7))
    for _ in range(60):
        tree.day()
    (made.source / "hostile").mkdir()
    for name in HOSTILE:
        Path(os.fsdecode(os.fsencode(made.source / "hostile") + b"/" + name)).write_bytes(name)
    (made.source / "large").write_bytes(random.Random(1).randbytes(9_000_000))
    (made.source / "sparse").write_bytes(b"")
    os.truncate(made.source / "sparse", 20_000_000)
    (made.source / "program").touch(0o755)
    made.backup()
    yield made
    loosen(os.fsencode(made.source))


@pytest.fixture(scope="module")
def files(server: Server) -> Iterator[Files]:
    with serving(server) as running:
        yield running


def link(server: Server, name: bytes = b"") -> str:
    """The link of a saved entry, by the newest snapshot."""
    return quote_from_bytes(b"/snapshots/latest/main" + os.fsencode(server.source) + b"/" + name, safe=b"/")


def below(folder: Path, *, longest: int = 255) -> dict[bytes, bytes | None]:
    """The files and folders in a folder, but for those whose names are longer."""
    found: dict[bytes, bytes | None] = {}
    top = os.fsencode(folder)
    for at, folders, names in os.walk(top):
        for name in folders + names:
            path = os.path.join(at, name)
            if len(name) > longest:
                continue
            kind = os.lstat(path).st_mode
            if stat.S_ISDIR(kind):
                found[os.path.relpath(path, top)] = None
            elif stat.S_ISREG(kind):
                found[os.path.relpath(path, top)] = Path(os.fsdecode(path)).read_bytes()
    return found


def test_everything_is_there_as_it_was_saved(server: Server, files: Files) -> None:
    assert files.tree(link(server)) == below(server.source)
    names = [href for href, _ in files.below("/")]
    assert names == ["/snapshots/", "/versions/"]
    ((_, program),) = [(href, has) for href, has in files.below(link(server)) if href.endswith("/program")]
    assert program["executable"] == "T"


def test_parts_of_a_file(server: Server, files: Files) -> None:
    content, large = (server.source / "large").read_bytes(), link(server, b"large")
    whole = files.ask("GET", large)
    assert (whole.status, whole.body) == (200, content)
    tag = str(whole.headers["ETag"])
    for asked, start, end in (
        ("bytes=5-9", 5, 10),
        ("bytes=8999999-", 8_999_999, 9_000_000),
        ("bytes=-7", 8_999_993, 9_000_000),
        ("bytes=3000000-99999999", 3_000_000, 9_000_000),
    ):
        part = files.ask("GET", large, Range=asked)
        assert (part.status, part.body) == (206, content[start:end])
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/9000000"
        assert files.ask("GET", large, Range=asked, If_Range='"another"').status == 200
    assert files.ask("GET", large, Range="bytes=9000000-").status == 416
    assert files.ask("GET", large, If_None_Match=tag).status == 304
    head = files.ask("HEAD", large)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "9000000")


def test_eight_readers_at_once(server: Server, files: Files) -> None:
    content = (server.source / "large").read_bytes()
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: files.ask("GET", link(server, b"large")).body, range(16))
        assert all(answer == content for answer in answers)


def test_nobody_gets_in_without_the_password(server: Server, files: Files) -> None:
    for user in ("nightvault:", f"root:{files.password}", f"nightvault:{files.password[:-1]}"):
        for method in ("GET", "PROPFIND", "OPTIONS", "PUT"):
            answer = files.ask(method, link(server, b"large"), user=user)
            assert (answer.status, answer.body) == (401, b"")
    with serving(server) as other:
        assert other.password != files.password
    for listen in ("0.0.0.0:0", "192.0.2.1:80"):
        assert "in clear" in server.fails(2, "serve-files", "--listen", listen, "--key", server.key_file)


def test_nothing_can_be_changed(server: Server, files: Files) -> None:
    for method in ("PUT", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK", "POST"):
        for path in (link(server, b"large"), link(server, b"new"), "/.nightvault/README"):
            assert files.ask(method, path, b"x").status == 405
    assert files.ask("OPTIONS", "/").headers["DAV"] == "1"


def test_what_is_asked_wrongly(server: Server, files: Files) -> None:
    top = link(server)
    for body in (
        b"<propfind",
        b"<other/>",
        b'<D:propfind xmlns:D="DAV:"/>',
        b'<D:propfind xmlns:D="DAV:"><D:prop><b:foo xmlns:b=""/></D:prop></D:propfind>',
        b'<!DOCTYPE x [<!ENTITY a "b">]><D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>',
        b'<?xml version="1.0" encoding="nonsense"?><D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>',
    ):
        assert files.ask("PROPFIND", top, body, Depth="0").status == 400
    assert files.ask("PROPFIND", top, b" " * 70_000, Depth="0").status == 413
    assert files.ask("PROPFIND", top).status == 403  # of infinite depth
    for path in (b"/none", b"/..", b"/snapshots/../versions", b"/snapshots/\0", os.fsencode(server.source)):
        assert files.ask("GET", path).status == 404
    unknown = files.ask(
        "PROPFIND",
        top,
        b'<propfind xmlns="DAV:"><prop><x xmlns="urn:a&quot;&lt;b"/><y xmlns=""/></prop></propfind>',
        Depth="0",
    )
    assert (unknown.status, unknown.body.count(b"404 Not Found")) == (207, 1)


def test_what_was_saved_is_never_shown_as_a_page(server: Server, files: Files) -> None:
    headers = files.ask("GET", link(server, b"large")).headers
    assert headers["Content-Disposition"] == "attachment"
    assert headers["Content-Type"] == "application/octet-stream"
    assert "sandbox" in str(headers["Content-Security-Policy"])


def test_one_snapshot_alone_on_a_socket_of_its_own(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "files.sock"
    words = ("--listen", f"unix:{path}", "--snapshot", f"latest:{server.source}")
    with serving(server, *words) as running:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        done = subprocess.run(
            ["curl", "-sf", "--unix-socket", path, "-u", f"nightvault:{running.password}", "http://x/large"],
            capture_output=True,
            check=True,
        )
        assert done.stdout == (server.source / "large").read_bytes()
    assert not path.exists()


def test_it_ends_when_nobody_asks(server: Server) -> None:
    with serving(server, program=(sys.executable, "-c", IMPATIENT)) as running:
        assert running.process.wait(20) == 0
        assert running.process.stderr is not None
        assert "it ends" in running.process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(server: Server, number: int) -> None:
    with serving(server) as running:
        assert running.ask("OPTIONS", "/").status == 200
        running.process.send_signal(number)
        assert running.process.wait(20) == 0
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.1", int(running.url.rpartition(":")[2])))


def test_a_crash_leaves_no_core_file_and_no_key_lies_on_disk(server: Server, tmp_path: Path) -> None:
    secret, cores = server.key_file.read_bytes().strip().splitlines()[-1], tmp_path / "cores"
    with serving(server, program=crashing(cores)) as running:
        assert running.ask("OPTIONS", "/").status == 200
        for file in server.state.rglob("*"):
            assert not file.is_file() or secret not in file.read_bytes()
        assert_no_core(running.process, cores)


def test_a_kill_leaves_nothing_to_repair(server: Server, tmp_path: Path) -> None:
    """The socket that is left is taken by the next one."""
    path = tmp_path / "files.sock"
    for _ in range(2):
        with serving(server, "--listen", f"unix:{path}") as running:
            running.process.kill()
            running.process.wait(20)
            assert path.is_socket()
    server.backup()


def test_json_has_address_and_password(server: Server) -> None:
    with server.process("--json", "serve-files", "--key", server.key_file) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
    assert (set(said), said["user"]) == ({"url", "user", "password"}, "nightvault")


@pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone is not installed")
def test_rclone_finds_no_difference(server: Server, files: Files, tmp_path: Path) -> None:
    """Names apart that have control characters, which it asks for under others."""
    remote = files.rclone_remote(f"snapshots/latest/main{server.source}")
    done = subprocess.run(
        [
            *("rclone", "--config", tmp_path / "none", "check", "--download", "--exclude", "*{\n,\1,␊,␁}*"),
            *(server.source, remote),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"0 differences found" in done.stderr


@pytest.mark.skipif(shutil.which("mount.davfs") is None, reason="davfs2 is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting by davfs2 wants root")
def test_davfs2_shows_the_same(server: Server, files: Files, tmp_path: Path) -> None:
    """Names apart that are too long for its cache, which appends to them."""
    require_fuse()
    folder = tmp_path / "m"
    folder.mkdir()
    (tmp_path / "davfs2.conf").write_text("use_locks 0\nbuf_size 1024\n")
    words = ["mount.davfs", files.url, str(folder), "-o", f"ro,conf={tmp_path / 'davfs2.conf'}"]
    given = f"{files.user}\n{files.password}\n"
    done = subprocess.run(words, input=given, text=True, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    try:
        there = Path(f"{folder}/snapshots/latest/main{server.source}")
        assert below(there, longest=240) == below(server.source, longest=240)
    finally:
        # Its own helper says for a while that it is busy.
        subprocess.run(["umount", "--internal-only", "--lazy", folder], check=True)
