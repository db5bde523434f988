"""Cold contents: refused at once, asked for by nothing but a confirmed request, read once they came."""

from __future__ import annotations

import errno
import os
import re
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.cli.support.keyfiles import read_key
from backup.config import load_config
from backup.errors import UnreachableError
from backup.operations.restores import continue_restores
from backup.served.control import REQUEST
from backup.served.look import CONTROL
from backup.served.opened import ServedTree, served_tree
from tests.support.doubles import Silent
from tests.support.fuse_mounts import mounted
from tests.support.servers import PRICES, Cloud, Server, running_cloud
from tests.support.webdav_clients import serving

HOURS = 3600.0
THUMBNAILERS = {
    "gdk-pixbuf-thumbnailer": ("-s", "64", "{picture}", "{made}"),
    "ffmpegthumbnailer": ("-s", "64", "-i", "{picture}", "-o", "{made}"),
}


def png(side: int) -> bytes:
    """A grey picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x80" * side) * side)
    head = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


PICTURE = png(200)


class ColdServer:
    """A server whose vault is a Glacier vault of the emulator's, and its tree."""

    def __init__(self, cloud: Cloud, server: Server) -> None:
        self.cloud = cloud
        self.server = server
        self.config = load_config(str(server.config))
        self.inventory = opened(self.config)

    def jobs(self) -> list[dict[str, Any]]:
        """Every retrieval that the vault was ever asked for."""
        found = self.cloud.admin("glacier").list_jobs(accountId="-", vaultName="tree")["JobList"]
        return [job for job in found if job["Action"] == "ArchiveRetrieval"]

    def asked(self) -> set[str]:
        """The ids of those."""
        return {job["JobId"] for job in self.jobs()}

    def tick(self) -> None:
        """What the daemon does with open restores."""
        assert list(continue_restores(self.config, clock=self.server.clock, stop=threading.Event())) == []

    def key_files(self) -> list[Path]:
        """The files of keys of archives."""
        return [*(self.server.state / "restores").glob("*.keys")]

    def tree(self, stack: ExitStack, limit: str | None) -> ServedTree:
        """The tree, with a limit of cost."""
        at = RunContext(
            config=self.config, inventory=self.inventory, clock=self.server.clock, progress=Silent()
        )
        keys = [read_key(str(self.server.key_file), None)]
        amount = None if limit is None else Decimal(limit)
        return stack.enter_context(served_tree(at, keys, max_cost=amount))

    def place(self, name: str) -> bytes:
        """A saved file, by the symlink to the newest snapshot."""
        return b"/snapshots/latest/main" + os.fsencode(self.server.source / name)


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ColdServer]:
    with cold_server(tmp_path_factory.mktemp("cold")) as made:
        yield made


@pytest.fixture
def later(tmp_path: Path) -> Iterator[ColdServer]:
    """One of a test's own: days pass in its vault."""
    with cold_server(tmp_path) as made:
        yield made


@contextmanager
def cold_server(folder: Path) -> Iterator[ColdServer]:
    """A server with one backup."""
    with running_cloud(folder) as cloud:
        server = cloud.server(folder / "web1", vault="tree")
        (folder / "prices.toml").write_text(PRICES)
        with server.config.open("a") as file:
            file.write(f'\n[prices]\nfile = "{folder / "prices.toml"}"\n')
        server.init()
        (server.source / "picture.png").write_bytes(PICTURE)
        server.backup()
        made = ColdServer(cloud, server)
        with closing(made.inventory):
            yield made


def refused(served: ServedTree, words: str) -> str:
    """What is answered to a request that is refused."""
    with pytest.raises(OSError, match="not permitted") as caught:
        served.control.write(REQUEST, words.encode())
    assert caught.value.errno == errno.EPERM
    return served.control.read(REQUEST).decode()


def below(served: ServedTree, path: bytes) -> Iterator[bytes]:
    """Everything below a directory."""
    for name, node in served.look.entries(path):
        yield (place := path.rstrip(b"/") + b"/" + name)
        if node.is_directory:
            yield from below(served, place)


def test_nothing_is_asked_for_by_whoever_walks_and_reads(cold: ColdServer) -> None:
    with ExitStack() as stack:
        served = cold.tree(stack, "10")
        files = 0
        for path in below(served, b"/"):
            node = served.look.node(path)
            served.look.status(node)
            served.look.xattrs(path)
            if node.entry and node.size and not node.target:
                with pytest.raises(OSError, match="No data") as caught:
                    served.look.open(path)
                assert caught.value.errno == errno.ENODATA
                files += 1
        assert files >= 6
        assert b"a.txt" in served.control.read(CONTROL + b"/refused")
    assert cold.jobs() == []


def test_programs_that_walk_and_read_are_refused_at_once(cold: ColdServer, tmp_path: Path) -> None:
    """By the mount and over WebDAV: an indexer, a search, a copy, a thumbnailer, a comparison."""
    asked, m = cold.jobs(), tmp_path / "m"
    with mounted(cold.server, m), serving(cold.server) as files:
        top = f"{m}/snapshots/latest/main{cold.server.source}"
        for line, says in (
            (f"du -sa {m}", ""),
            (f"find {m} -printf %s", ""),
            (f"grep -r gamma {top}", "No data available"),
            (f"cat {top}/a.txt", "No data available"),
            (f"cp -a {top} {tmp_path}/copy", "No data available"),
            (f"tar -cf {tmp_path}/copy.tar {top}", "No data available"),
            (f"file {top}/a.txt", ""),
            (f"updatedb -l 0 -U {m} -o {tmp_path}/db --prunefs none --prunepaths /none", ""),
        ):
            words = line.split()
            if shutil.which(words[0]):
                done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
                assert says in done.stderr
        for href, properties in files.below(quote_from_bytes(cold.place("")) + "/"):
            if href.endswith("a.txt"):
                answer = files.ask("GET", href)
                assert (answer.status, answer.body[:10]) == (403, b"it is cold")
                assert files.ask("HEAD", href).headers["Content-Length"] == properties["getcontentlength"]
        if shutil.which("rclone"):
            remote = files.rclone_remote(f"snapshots/latest/main{cold.server.source}")
            words = ["rclone", "check", "--download", str(cold.server.source), remote]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert "403" in done.stderr
    assert cold.jobs() == asked


@pytest.mark.parametrize("program", THUMBNAILERS)
def test_a_thumbnailer_makes_none_of_what_is_cold(cold: ColdServer, tmp_path: Path, program: str) -> None:
    """It makes one of the file that was saved, and is refused over the mount."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    asked, m, made = cold.jobs(), tmp_path / "m", tmp_path / "made.png"

    def thumbnail_of(picture: str) -> bool:
        words = [word.format(picture=picture, made=made) for word in THUMBNAILERS[program]]
        done = subprocess.run([program, *words], capture_output=True, timeout=60, check=False)
        return done.returncode == 0 and made.exists()

    with mounted(cold.server, m):
        assert not thumbnail_of(f"{m}/snapshots/latest/main{cold.server.source}/picture.png")
        assert "picture.png" in (m / ".nightvault" / "refused").read_text()
    assert thumbnail_of(f"{cold.server.source}/picture.png")
    assert cold.jobs() == asked


def test_a_request_over_webdav_is_quoted_as_in_a_mount(cold: ColdServer) -> None:
    asked = cold.jobs()
    with serving(cold.server) as files:
        assert files.ask("PUT", REQUEST, b"snapshots/nowhere\n").status == 403
        assert b"is in no snapshot" in files.ask("GET", REQUEST).body
        assert files.ask("PUT", REQUEST, cold.place("deep")[1:] + b"\n").status == 204
        assert re.search(rb"standard: \d+ retrievals? from .* EUR, 3 to 5", files.ask("GET", REQUEST).body)
        assert files.ask("PUT", REQUEST, b"x" * 20_000).status == 413
        assert [href for href, _ in files.below("/.nightvault/")] == [
            f"/.nightvault/{name}" for name in ("README", "refused", "request")
        ]
    assert cold.jobs() == asked


def test_a_request_is_quoted_confirmed_and_held_to_the_limit(cold: ColdServer) -> None:
    path = cold.place("deep")
    words = path[1:].decode()
    with ExitStack() as stack:
        served = cold.tree(stack, None)
        assert "is in no snapshot" in refused(served, "snapshots/nowhere")
        served.control.write(REQUEST, path[1:])
        answer = served.control.read(REQUEST).decode()
        assert "2 files" in answer
        assert re.search(r"standard: \d+ retrievals? from .* EUR, 3 to 5 hours", answer)
        (word,) = re.findall(r"confirm ([0-9a-f]{8})", answer)
        assert "confirms nothing" in refused(served, "confirm 00000000")
        assert "no limit of cost" in refused(served, f"confirm {word}")
        served = cold.tree(stack, "0.01")
        served.control.write(REQUEST, words.encode())
        assert "would cost" in refused(served, f"confirm {word}")
        assert cold.jobs() == []
        served = cold.tree(stack, "10")
        assert "confirms nothing" in refused(served, f"confirm {word}")  # it did not quote it
        served.control.write(REQUEST, words.encode())
        served.control.write(REQUEST, f"confirm {word}\n".encode())
        asked = len(cold.jobs())
        assert asked > 0
        assert "waits for the vault" in served.control.read(REQUEST).decode()
        file = served.look.tree.plain(cold.place("deep/er/c.txt"))
        with pytest.raises(OSError, match="No data"):
            served.look.open(file)
        cold.cloud.emulator.advance(6 * HOURS)
        assert "has come" in served.control.read(REQUEST).decode()
        content = served.look.read(file, served.look.open(file), 0, 10_000)
        assert content == b"gamma\n" * 1000
        assert served.thawing.close() == []
        assert not cold.key_files()
        served.control.write(REQUEST, words.encode())
    assert len(cold.jobs()) == asked


def confirmed(served: ServedTree, path: bytes) -> str:
    """The answer to a confirmed request."""
    served.control.write(REQUEST, path[1:])
    (word,) = re.findall(r"confirm ([0-9a-f]{8})", served.control.read(REQUEST).decode())
    served.control.write(REQUEST, f"confirm {word}".encode())
    return served.control.read(REQUEST).decode()


def test_once_the_mount_is_gone_the_daemon_ends_what_has_come(later: ColdServer) -> None:
    """A dump's own command, though, finds what it has asked for."""
    with ExitStack() as stack:
        assert "asked for" in confirmed(later.tree(stack, "10"), later.place("a.txt"))
    asked = later.asked()
    assert asked
    later.tick()
    (request,) = later.server.json("restores")
    assert (request["stage"], request["target"]) == ("waiting", {"path": "/.nightvault/request"})
    words = ("dump", f"latest:{later.server.source}/deep/b.bin", "--key", later.server.key_file)
    assert later.server.run(*words).exit_code == 17
    asked = later.asked()
    for _ in range(2):
        later.cloud.emulator.advance(6 * HOURS)
        later.tick()
        (dump,) = later.server.json("restores")
        assert (dump["stage"], dump["target"]) == ("ready", {"path": "/dev/stdout"})
    assert [file.name for file in later.key_files()] == [f"{dump['id']}.keys"]
    assert later.asked() == asked


def test_a_request_goes_to_the_copy_while_the_disk_is_away(tmp_path: Path) -> None:
    """As long as it is there it is read, and nothing is asked for."""
    disk = tmp_path / "disk"
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "web1", vault="copies")
        text = server.config.read_text().replace('vault = "cold"\nsources', 'vault = "disk"\nsources')
        text += '[[job.copy]]\nvault = "cold"\n'
        text += f'[[vault]]\nname = "disk"\nkind = "directory"\npath = "{disk}"\n'
        (tmp_path / "prices.toml").write_text(PRICES)
        server.config.write_text(f'{text}[prices]\nfile = "{tmp_path / "prices.toml"}"\n')
        server.init()
        server.backup()
        server.done("copy")
        made = ColdServer(cloud, server)
        with closing(made.inventory), ExitStack() as stack:
            served, path = made.tree(stack, "10"), made.place("deep/er/c.txt")
            served.control.write(REQUEST, path[1:])
            assert "can be read now" in served.control.read(REQUEST).decode()
            disk.rename(tmp_path / "away")
            served = made.tree(stack, "10")
            assert "asked for" in confirmed(served, path)
            cloud.emulator.advance(6 * HOURS)
            assert "has come" in served.control.read(REQUEST).decode()
            file = served.look.tree.plain(path)
            assert served.look.read(file, served.look.open(file), 0, 10_000) == b"gamma\n" * 1000


def test_a_vault_that_does_not_answer_at_once(later: ColdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is recorded, and is not called refused: it is asked for later, unless somebody ends it."""

    def silent(*_: object) -> None:
        raise UnreachableError("the vault does not answer")

    with ExitStack() as stack:
        served = later.tree(stack, "10")
        with monkeypatch.context() as patch:
            patch.setattr("backup.served.thawing.ask_once", silent)
            served.control.write(REQUEST, later.place("a.txt")[1:])
            (word,) = re.findall(r"confirm ([0-9a-f]{8})", served.control.read(REQUEST).decode())
            served.control.write(REQUEST, f"confirm {word}".encode())
            said = served.thawing._said
        (name,) = re.findall("recorded as ([0-9a-f]+); not asked yet: the vault does not answer", said)
        assert f"`nightvault restore cancel {name}` ends it" in said
        assert served.thawing._looks.is_alive()
        assert not later.asked()
        later.server.done("restore", "cancel", name)
        assert "is over" in served.control.read(REQUEST).decode()
        assert served.thawing.close() == []
    assert not later.asked()
