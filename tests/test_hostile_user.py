"""A hostile local user gets nothing and gets in nowhere: state, spool, copies, socket, metrics, log.

Everything is made by processes whose umask takes nothing away, while a backup and the daemon run. Another
user then tries all there is, also where an admin opened the state directory by mistake.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.without_coverage import unmeasured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]
STALLS = "head -c 30000000 /dev/urandom; sleep 60"  # so much that a pack is begun
SECRET = "the content of a file that others may not read"
LISTED = "a-name-that-others-may-not-see"
BECOME_SOMEBODY_ELSE = """
import json, os, socket, stat, sys

os.setgroups([]); os.setgid(65534); os.setuid(65534); os.umask(0)
"""
TRIES = """
found = []

def attempt(what, path, act):
    try:
        act()
    except OSError:
        return
    found.append(f"{what} {path}")

def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))

for path in json.load(sys.stdin):
    mode = os.lstat(path).st_mode if os.access(os.path.dirname(path), os.X_OK) else 0
    attempt("listed", path, lambda: os.listdir(path))
    attempt("read", path, lambda: open(path, "rb").close() if not stat.S_ISDIR(mode) else os.listdir(path))
    attempt("written", path, lambda: write(path))
    attempt("made below", path, lambda: os.mkdir(path + "/planted"))
    attempt("renamed", path, lambda: os.rename(path, path + ".taken"))
    attempt("removed", path, lambda: os.unlink(path))
    attempt("replaced", path, lambda: os.symlink("/etc/passwd", path + ".new"))
    attempt("asked", path, lambda: socket.socket(socket.AF_UNIX).connect(path))
print(json.dumps(found))
"""


def try_all(paths: list[Path]) -> list[str]:
    """What another user succeeds with."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BECOME_SOMEBODY_ELSE + TRIES],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    """In a place that everybody may pass through."""
    with tempfile.TemporaryDirectory(prefix="nightvault-test-", dir="/var/lib") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = directory_server(folder)
        (made.source / LISTED).write_text(SECRET * 50_000)
        (made.source / LISTED).chmod(0o600)
        (folder / "metrics").mkdir()
        made.config.write_text(
            f'[monitoring]\nmetrics_file = "{folder}/metrics/nightvault.prom"\n{made.config.read_text()}'
        )
        made.config.chmod(0o600)
        yield made


def words(server: Server, *more: object) -> list[str]:
    """A command whose umask takes nothing away."""
    return ["sh", "-c", 'umask 0; exec "$@"', "sh", SCRIPT, "--config", str(server.config), *map(str, more)]


def done(server: Server, *more: object) -> str:
    ended = subprocess.run(
        words(server, *more), capture_output=True, text=True, check=True, env=unmeasured(), timeout=60
    )
    return ended.stdout + ended.stderr


def everything(server: Server) -> list[Path]:
    return [server.state, *sorted(server.state.rglob("*")), server.config, server.key_file]


def test_whatever_lies_in_the_state_is_for_its_owner_alone(server: Server) -> None:
    said = done(server, "init", "--non-interactive", "--key-file", server.key_file)
    said += done(server, "backup") + done(server, "inventory", "backup")
    with server.config.open("a") as config:
        config.write(f'[[job.command]]\nname = "slow"\nrun = ["/bin/sh", "-c", "{STALLS}"]\n')
    log = server.folder / "log"
    with log.open("wb") as file:
        backup = subprocess.Popen(words(server, "backup"), stderr=file, env=unmeasured())
        daemon = subprocess.Popen(words(server, "daemon"), stderr=file, env=unmeasured())
        try:
            deadline = time.monotonic() + 60
            while not (list((server.state / "spool").iterdir()) and list(server.state.glob("*.sock*"))):
                assert time.monotonic() < deadline, (log.read_text(), everything(server))
                time.sleep(0.1)
            there = everything(server)
            names = {path.name for path in there}
            assert {"inventory.sqlite", "inventory.sqlite-wal", "signer", "chunk-secret", "copies"} <= names
            for path in there:
                assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
            assert try_all(there) == []
            server.state.chmod(0o755)  # an admin's mistake: names are seen, and nothing else
            assert try_all(there) == [f"{what} {server.state}" for what in ("listed", "read")]
            assert [path for path in everything(server) if path.name.endswith((".taken", ".new"))] == []
        finally:
            backup.terminate()
            daemon.terminate()
            backup.wait(30)
            daemon.wait(30)
    said += log.read_text()
    key = server.key_file.read_text()
    for secret in (SECRET, *(line for line in key.splitlines() if line.startswith("NVK1"))):
        assert secret not in said
    for name in ("signer", "chunk-secret"):
        raw = (server.state / "keys" / name).read_bytes()
        assert raw.hex() not in said
        assert raw.decode("latin-1").strip() not in said


def test_the_metrics_are_for_all_and_say_nothing_of_files(server: Server) -> None:
    done(server, "init", "--non-interactive", "--key-file", server.key_file)
    done(server, "backup")
    path = server.folder / "metrics" / "nightvault.prom"
    assert try_all([path]) == [f"read {path}"]
    text = path.read_text()
    assert "nightvault_last_success_timestamp_seconds" in text
    for told in (LISTED, str(server.source), str(server.folder), "NVK1", "nvr1"):
        assert told not in text


def test_in_a_directory_of_everybody_nothing_that_was_planted_is_followed(server: Server) -> None:
    done(server, "init", "--non-interactive", "--key-file", server.key_file)
    place, victim = server.folder / "metrics", server.folder / "victim"
    victim.write_text("untouched")
    place.chmod(0o1777)
    path = place / "nightvault.prom"
    for plant in (f"os.symlink({str(victim)!r}, path)", "os.mkfifo(path, 0o666)", "os.mkdir(path)"):
        script = f"{BECOME_SOMEBODY_ELSE}path = sys.argv[1]\n{plant}"
        subprocess.run([sys.executable, "-I", "-c", script, path], check=True)
        said = done(server, "backup")  # it is neither held up nor failed
        assert "the metrics file" in said
        assert victim.read_text() == "untouched"
        (path.rmdir if path.is_dir() else path.unlink)()
    done(server, "backup")
    assert "nightvault_archives" in path.read_text()
    assert path.stat().st_uid == 0
