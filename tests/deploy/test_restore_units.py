"""Restores that the daemon goes on with, under the settings of the units that we ship."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from tests.deploy.units import Unit, can_sandbox
from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.trees import assert_same_tree, snapshot_of
from tests.support.without_coverage import unmeasured

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_sandbox(), reason="needs root, mount namespaces, unshare and setpriv"),
    pytest.mark.skipif(SCRIPT.startswith("/tmp/"), reason="the program lies in the /tmp that a unit hides"),
]
NOBODY = 65534
_PATIENCE = 60.0


@dataclass
class Machine:
    """A server with one open restore, and what its units may see."""

    folder: Path
    server: Server
    target: Path

    @property
    def links(self) -> Path:
        return self.folder / "run" / "nightvault-restores"

    @property
    def restore(self) -> str:
        """The id of the restore."""
        return str(self.told()["id"])

    def told(self) -> dict[str, object]:
        """What `restores` says of it."""
        (told,) = self.server.json("restores", "--all")
        return dict(told)

    def unit(self, name: str, instance: str = "") -> Unit:
        places = {
            "/var/lib/nightvault": str(self.server.state),
            "/run/nightvault-restores": str(self.links),
            "/usr/local/bin/nightvault": SCRIPT,
        }
        return Unit.read(name, places, instance)

    def words_of(self, unit: Unit) -> list[str]:
        """The command of a unit, with our config."""
        return [SCRIPT, "--config", str(self.server.config), *unit.command[1:]]

    def run_restore_unit(self) -> subprocess.CompletedProcess[str]:
        """As systemd would, when the daemon has it start the unit."""
        unit = self.unit("nightvault-restore@.service", self.restore)
        return subprocess.run(
            unit.sandboxed(self.words_of(unit)),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=unmeasured(),
        )

    def run_daemon(self, until: Callable[[str], bool], **environ: str) -> str:
        """The daemon in the sandbox of its unit until its log says so; the log."""
        unit = self.unit("nightvault.service")
        log = self.folder / "daemon.log"
        environment = {"PATH": os.environ["PATH"], "HOME": "/root", "INVOCATION_ID": "0" * 32, **environ}
        with log.open("wb") as file:
            process = subprocess.Popen(unit.sandboxed(self.words_of(unit)), env=environment, stderr=file)
        deadline = time.monotonic() + _PATIENCE
        try:
            while not until(log.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        return log.read_text()


@pytest.fixture(params=["below /tmp", "elsewhere"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A restore was begun by a command that ended then: its target is marked, and all is still to be done."""
    with (
        tempfile.TemporaryDirectory(prefix="nightvault-test-", dir="/var/lib") as folder,
        tempfile.TemporaryDirectory(prefix="nightvault-test-", dir="/tmp") as other,
    ):
        server = directory_server(Path(folder), clock=SystemClock())
        target = Path(other if request.param == "below /tmp" else folder) / "out"
        made = Machine(Path(folder), server, target)
        made.links.mkdir(parents=True)
        begin(made, monkeypatch)
        yield made


def begin(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back up, and begin a restore that is cut before it asks for anything."""
    server = machine.server
    plant(server.source)
    server.init()
    server.backup()

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.restore.advance", cut)
        words = ("restore", f"latest:{server.source}", "--key", server.key_file, "--target", machine.target)
        assert server.run(*words).exit_code == 130


def plant(source: Path) -> None:
    """What needs the rights of root."""
    (source / "theirs").write_text("of somebody else")
    os.chown(source / "theirs", NOBODY, NOBODY)
    (source / "theirs").chmod(0o4755)
    (source / "group").mkdir()
    os.chown(source / "group", NOBODY, 4321)
    (source / "group").chmod(0o2770)
    (source / "group" / "deep").write_text("inside")
    os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    may_listen = bytes.fromhex("0100000200040000") + bytes(12)  # cap_net_bind_service=ep
    os.setxattr(source / "group" / "deep", "security.capability", may_listen)


def only_marked(target: Path) -> bool:
    """Whether nothing but the mark is there."""
    return [path.name.partition("-restore-")[0] for path in target.iterdir()] == [".nightvault"]


def fake_systemctl(machine: Machine, code: int = 0, says: str = "") -> str:
    """A folder with a program that notes what it is asked for; an environment's PATH with it."""
    folder = machine.folder / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    log = machine.server.state / "systemctl.log"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\necho "{says}" >&2\nexit {code}\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_daemon_writes_nothing_where_nobody_would_find_it(machine: Machine) -> None:
    """A unit's own /tmp goes with it: nothing is written there and then called restored."""
    said = machine.run_daemon(lambda log: "does not go on unattended" in log)
    assert "restore resume" in said
    assert "done" not in said
    told = machine.told()
    assert told["state"] == "open"
    assert machine.restore in str(told["held"])
    assert told["next"] == f"as the user that began it: `nightvault restore resume {machine.restore} --wait`"
    assert only_marked(machine.target)
    machine.server.done("restore", "resume", machine.restore)
    assert_same_tree(machine.server.source, machine.target)
    assert machine.told()["held"] is None


def test_a_restore_that_the_daemon_goes_on_with_has_a_unit_of_its_own(machine: Machine) -> None:
    """With the capabilities for owners and modes, and no other place to write to."""
    asked = machine.server.state / "systemctl.log"
    machine.run_daemon(
        lambda _: asked.exists() and asked.read_text().endswith("\n"),
        PATH=fake_systemctl(machine),
        RUNTIME_DIRECTORY=f"/run/other:{machine.links}",
    )
    unit = f"nightvault-restore@{machine.restore}.service"
    assert asked.read_text() == f"start --no-ask-password {unit}\n"
    assert (machine.links / machine.restore).readlink() == machine.target
    assert only_marked(machine.target)
    done = machine.run_restore_unit()
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_tree(machine.server.source, machine.target)
    assert (machine.target / "theirs").stat().st_uid == NOBODY
    assert machine.told()["state"] == "done"


def test_its_unit_may_write_to_the_target_and_the_state_alone(machine: Machine, tmp_path: Path) -> None:
    (machine.links / machine.restore).symlink_to(machine.target)
    unit = machine.unit("nightvault-restore@.service", machine.restore)
    (machine.folder / "beside").mkdir()
    places = {
        machine.target: True,
        machine.server.state: True,
        machine.folder / "beside": False,
        machine.target.parent: False,
        machine.links: False,
        tmp_path: False,
        Path("/tmp"): False,
        Path("/etc"): False,
        Path("/"): False,
    }
    tries = (f"(> {place}/probe) 2>/dev/null && rm {place}/probe && echo {place}" for place in places)
    script = "; ".join(tries)
    done = subprocess.run(
        unit.sandboxed(["sh", "-c", f"{script}; true"]), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(place) for place, may in places.items() if may]


def test_a_unit_that_cannot_be_started_is_told(machine: Machine) -> None:
    """`restores` says why it is not gone on with, and how to go on."""
    said = machine.run_daemon(
        lambda log: "cannot be started" in log,
        PATH=fake_systemctl(machine, 5, "Failed to start: Unit not found."),
        RUNTIME_DIRECTORY=str(machine.links),
    )
    assert "Unit not found" in said
    assert "Unit not found" in str(machine.told()["held"])
    shown = machine.server.done("restores")
    assert "cannot be started: Failed to start: Unit not found." in shown.stderr
    assert f"next: `nightvault restore resume {machine.restore} --wait`" in shown.stderr


def test_a_unit_that_meets_another_place_writes_nothing(machine: Machine) -> None:
    """A disk that was mounted there is not any more."""
    before = snapshot_of(machine.target)
    machine.target.rename(machine.target.with_name("unmounted"))
    machine.target.mkdir()
    (machine.links / machine.restore).symlink_to(machine.target)
    done = machine.run_restore_unit()
    assert done.returncode == 1
    assert "another directory is in its place" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(machine.target.iterdir()) == []
    assert "another directory is in its place" in str(machine.told()["held"])
    machine.target.rmdir()
    machine.target.with_name("unmounted").rename(machine.target)
    assert snapshot_of(machine.target) == before
    assert machine.run_restore_unit().returncode == 0
    assert_same_tree(machine.server.source, machine.target)
