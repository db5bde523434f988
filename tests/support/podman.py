"""Podman as Debian has it, for real tests: its API service as root, with a store and an image of its own.

with podman_service(tmp_path) as podman:
    podman.run("db", "shop:/data", labels={"nightvault.stop": "true"})
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.database_servers import has

IMAGE = "localhost/busybox:1"
_BUSYBOX = Path("/bin/busybox")
needs_podman = pytest.mark.skipif(
    os.geteuid() != 0 or not has("podman", "runc") or not _BUSYBOX.exists(),
    reason="Podman, runc and busybox-static are not installed, or this is not root",
)
# Ends at once when it is asked to, as a server does: the first process of a container ignores SIGTERM else.
SERVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Podman:
    """A service with its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "podman.sock"
        self.words = [
            *("podman", "--root", str(folder / "store"), "--runroot", str(folder / "run")),
            *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"),
            *("--runtime", "runc"),
        ]

        self.environment = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}

    @property
    def address(self) -> str:
        """As the config names it."""
        return f"unix://{self.socket}"

    def done(self, *words: str) -> str:
        """What a command prints that must end well."""
        ended = subprocess.run(
            [*self.words, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def volume(self, name: str, **labels: str) -> Path:
        """Make a volume; where its files are."""
        self.done("volume", "create", *_labels(labels), name)
        return Path(self.done("volume", "inspect", "--format", "{{.Mountpoint}}", name))

    def run(
        self, name: str, *volumes: str, labels: Mapping[str, str] | None = None, more: Sequence[str] = ()
    ) -> None:
        """Run a container in the background, with volumes as NAME:PATH."""
        mounts = [word for volume in volumes for word in ("--volume", volume)]
        told = [
            "run",
            "--detach",
            "--network",
            "none",
            "--name",
            name,
            *mounts,
            *_labels(labels or {}),
            *more,
        ]
        self.done(*told, IMAGE, "sh", "-c", SERVER)

    def run_postgresql(
        self, name: str, volume: str, programs: Path | None, labels: Mapping[str, str] | None = None
    ) -> None:
        """Run this machine's PostgreSQL in a container, its files in a volume; it trusts who is in it."""
        user = str(pwd.getpwnam("nobody").pw_uid)
        host = ["/usr:/usr:ro", "/etc:/etc:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro"]
        mounts = [word for mount in (f"{volume}:/data:U", *host) for word in ("--volume", mount)]
        clients = ["--env", f"PATH={programs}:/usr/bin:/bin", "--env", "PGHOST=/tmp"]
        server = (
            f"[ -e /data/db ] || {programs}/initdb -D /data/db -U postgres --auth trust >/dev/null; "
            f"exec {programs}/postgres -D /data/db -k /tmp -h ''"
        )
        words = ["run", "--detach", "--network", "none", "--name", name, "--user", user, *mounts, *clients]
        self.done(*words, *_labels(labels or {}), IMAGE, "sh", "-c", server)
        self.wait_for(["exec", name, f"{programs}/psql", "-h", "/tmp", "-U", "postgres", "-Atc"])

    def wait_for(self, sql: Sequence[str]) -> None:
        """Wait until a server answers to SQL that is given by these words."""
        ends, words = time.monotonic() + 60, [*self.words, *sql, "SELECT 1"]
        while subprocess.run(words, env=self.environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < ends, "the server does not answer"
            time.sleep(0.2)

    def running(self) -> set[str]:
        """The names of those that run."""
        return set(self.done("ps", "--format", "{{.Names}}").split())

    def started_at(self, name: str) -> str:
        """When a container began to run, as the engine says it."""
        return self.done("inspect", "--format", "{{.State.StartedAt}}", name)

    def make_image(self) -> None:
        """An image with one program."""
        root = self.folder / "image"
        (root / "bin").mkdir(parents=True)
        (root / "tmp").mkdir()
        (root / "tmp").chmod(0o1777)
        (root / "bin" / "busybox").write_bytes(_BUSYBOX.read_bytes())
        (root / "bin" / "busybox").chmod(0o755)
        for name in ("sh", "sleep", "test", "cat", "touch"):
            (root / "bin" / name).symlink_to("busybox")
        archive = self.folder / "image.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        self.done("import", str(archive), IMAGE)


@contextmanager
def podman_service(folder: Path) -> Iterator[Podman]:
    """A service that runs; its containers are removed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    podman = Podman(folder)
    podman.make_image()
    words = [*podman.words, "system", "service", "--time", "0", podman.address]
    with subprocess.Popen(words, env=podman.environment, stderr=subprocess.DEVNULL) as service:
        try:
            ends = time.monotonic() + 30
            while not podman.socket.exists():
                assert service.poll() is None
                assert time.monotonic() < ends, "the service does not listen"
                time.sleep(0.05)
            yield podman
        finally:
            podman.done("rm", "--all", "--force", "--time", "0")
            service.terminate()
            _end_watchers(folder)


def _end_watchers(folder: Path) -> None:
    """End what waits for five minutes whether somebody asks how a command in a container has ended."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            words = (process / "cmdline").read_bytes() if process.name.isdecimal() else b""
            if os.fsencode(folder) in words and b"conmon" in (process / "comm").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _labels(labels: Mapping[str, str]) -> list[str]:
    return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
