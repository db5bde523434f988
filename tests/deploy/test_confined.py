"""nightvault does nothing that its units forbid: real work under their filters of system calls."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.confined import allowed
from tests.deploy.units import UNITS, can_confine
from tests.support.servers import SCRIPT, Server, replace, running_cloud
from tests.support.trees import assert_same_tree
from tests.support.without_coverage import unmeasured

pytestmark = [
    pytest.mark.skipif(not can_confine(), reason="needs systemd-analyze and libseccomp"),
    pytest.mark.slow,
    pytest.mark.real,
]
TRIES = """\
import mmap, os, socket
tries = {
    "executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "netlink": lambda: socket.socket(socket.AF_NETLINK),
    "root": lambda: os.chroot("/"),
    "internet": lambda: socket.socket(socket.AF_INET6),
}
for name, attempt in tries.items():
    try:
        attempt()
    except PermissionError:
        print(name)
"""
CONFINED = str(Path(__file__).with_name("confined.py"))


def under(unit: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A command under the filters of a unit."""
    return subprocess.run(
        [sys.executable, CONFINED, str(UNITS / unit), "--", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=unmeasured(),
    )


def json_under(unit: str, server: Server, *words: object) -> Any:
    done = under(unit, SCRIPT, "--json", "--config", server.config, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a certificate and a bucket that is read at once."""
    folder = tmp_path_factory.mktemp("confined")
    with running_cloud(folder) as cloud:
        made = cloud.server(folder / "web1", vault="confined", kind="s3")
        replace(made, 'storage_class = "GLACIER"', 'storage_class = "STANDARD"')
        replace(made, 'schedule = "every 6h"\n', 'nice = 15\nionice = "idle"\n')
        for number in range(2_100):  # so many that the second process reads some
            (made.source / str(number)).write_text(f"{number}")
        made.init()
        yield made


@pytest.mark.parametrize("unit", ["nightvault-unprivileged.service", "nightvault.service"])
def test_a_backup_reads_signs_seals_and_sends(unit: str, server: Server) -> None:
    (server.source / unit).write_text(unit)
    (report,) = json_under(unit, server, "backup", "main")
    assert (report["outcome"], report["problems"], report["warnings"]) == ("done", [], [])
    assert report["bytes_uploaded"] > 0


def test_a_restore_makes_files_and_owners(server: Server, tmp_path: Path) -> None:
    """After the backups above, or one of its own."""
    server.backup()
    unit = "nightvault-restore@.service"
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file, "--wait")
    report = json_under(unit, server, *words)
    assert (report["outcome"], report["problems"]) == ("done", [])
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)


def test_it_is_asked_whether_a_job_is_overdue(server: Server) -> None:
    server.backup()
    done = under(
        "nightvault-overdue.service", SCRIPT, "--config", server.config, "--quiet", "status", "--overdue"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", sorted(UNITS.glob("*.service")), ids=lambda path: path.name)
def test_each_unit_has_a_filter_that_refuses(path: Path) -> None:
    """The sandbox of these tests is none of air: what it should refuse is refused."""
    calls = allowed(path.read_text())
    assert {"read", "openat", "connect"} <= calls
    assert not {"mount", "ptrace", "init_module", "reboot", "bpf", "kexec_load", "settimeofday"} & calls
    done = under(path.name, sys.executable, "-c", TRIES)
    assert done.stdout.split() == ["executable", "netlink", "root"], done.stdout + done.stderr
