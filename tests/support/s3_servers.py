"""S3 servers that are not ours, to judge the S3 vault: SeaweedFS and MiniStack, each in a venv of its own.

SeaweedFS checks signatures, digests, CRCs and conditional writes; MiniStack knows restores of frozen objects,
which take it two seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.support.emulated import ACCESS_KEY_ID, REPOSITORY, SECRET_ACCESS_KEY
from tests.support.own_venvs import make_venv

SERVERS = ("seaweedfs", "ministack")
REQUIRED = "NIGHTVAULT_S3_SERVERS"
"""The environment's list of servers (`seaweedfs,ministack`) whose tests must run: else one may be skipped."""

_START_SECONDS = 60
_PLACE = Path(os.environ.get("NIGHTVAULT_S3_SERVERS_DIR", REPOSITORY / ".venv" / "s3-servers"))


class S3Server(Struct, frozen=True):
    """A server that listens at `url` and knows the tests' key."""

    name: str
    url: str


def required(name: str) -> Path:
    """The venv of a server, made if need be; where it cannot, the test is skipped, or fails if required."""
    try:
        return _environment(name)
    except (OSError, subprocess.SubprocessError) as error:
        why = f"the venv of {name} cannot be made: {error}"
        if name in os.environ.get(REQUIRED, "").split(","):
            pytest.fail(f"{REQUIRED} wants {name}: {why}", pytrace=False)
        pytest.skip(why)


@cache
def _environment(name: str) -> Path:
    """A venv with the pinned packages of a server; made once, whoever of several processes comes first."""
    pins = REPOSITORY / "tests" / f"constraints-{name}.txt"
    made_of = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = _PLACE / f"{name}-{made_of}"
    _PLACE.mkdir(parents=True, exist_ok=True)
    with (_PLACE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            make_venv(place, "--no-deps", "--require-hashes", "-r", pins)
            (place / "complete").touch()
    return place


@contextmanager
def running_seaweedfs(place: Path, folder: Path) -> Iterator[S3Server]:
    """SeaweedFS with all that it consists of in one process, on free ports of loopback."""
    ports = _free_ports(4)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    words = [
        *("-logdir", folder, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={ports[0]}", f"-volume.port={ports[1]}", f"-filer.port={ports[2]}"),
        *("-filer", "-s3", f"-s3.port={ports[3]}", f"-s3.config={config}", "-s3.autoCreateBucket=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=100", "-master.volumeSizeLimitMB=64"),
    ]
    try:
        with _process([place / "bin" / "weed", *words], folder, ports[3]):
            yield S3Server("seaweedfs", f"http://127.0.0.1:{ports[3]}")
    finally:
        # It leaves its sockets.
        for part, port in zip(("master", "volume", "filer", "s3"), ports, strict=True):
            for name in (f"{part}-{port}", f"{part}-grpc-{port + 10_000}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)


@contextmanager
def running_ministack(place: Path, folder: Path) -> Iterator[S3Server]:
    """MiniStack; it listens everywhere unless it is told otherwise."""
    (port,) = _free_ports(1)
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    with _process([place / "bin" / "ministack"], folder, port, **settings):
        yield S3Server("ministack", f"http://127.0.0.1:{port}")


@contextmanager
def _process(words: Sequence[object], folder: Path, port: int, **environment: str) -> Iterator[None]:
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(word) for word in words],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the server does not listen: {log.read_text(errors='replace')[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as those 10,000 above them are, where SeaweedFS talks to itself."""
    found: list[int] = []
    with ExitStack() as held:
        for _ in range(200):
            try:
                one = held.enter_context(socket.create_server(("127.0.0.1", 0)))
                port = one.getsockname()[1]
                held.enter_context(socket.create_server(("127.0.0.1", port + 10_000)))
            except (OSError, OverflowError):
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


@contextmanager
def running(name: str) -> Iterator[S3Server]:
    """The server of that name, with a folder of its own that goes with it."""
    place = required(name)
    start = {"seaweedfs": running_seaweedfs, "ministack": running_ministack}[name]
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder, start(place, Path(folder)) as server:
        yield server


def tell_how_many_ran(terminalreporter: Any) -> None:
    """Say how many tests asked an S3 server that is not ours; `tests/conftest.py` hands it on."""
    for name in SERVERS:
        counts = {
            outcome: sum(name in stat.nodeid for stat in terminalreporter.stats.get(outcome, []))
            for outcome in ("passed", "failed", "skipped")
        }
        if any(counts.values()):
            told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)
            terminalreporter.write_line(f"S3 server {name}: {told}")
