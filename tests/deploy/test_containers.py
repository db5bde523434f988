"""The container files: their steps, as far as they run without a container engine.

Not run here: the base image, and what is fetched (tests/systemd/test_container_files.py does that in a root
of Debian). What is built is the same wheel, from the same context. The daemon and its health check run with
the capability and the read-only root of docs/containers.md.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.deploy.units import UNITS, Unit, can_sandbox
from tests.support.command_line import parsed, run
from tests.support.container_files import copy_context, instructions_of, words_of
from tests.support.emulated import REPOSITORY
from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.without_coverage import unmeasured

FILES = sorted((REPOSITORY / "deploy").glob("*.Containerfile"))
DAEMON = REPOSITORY / "deploy" / "daemon.Containerfile"
KNOWN = {
    *("ARG", "FROM", "LABEL", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE"),
    *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_steps_are_well_formed(path: Path) -> None:
    steps = instructions_of(path)
    assert {name for name, _ in steps} <= KNOWN
    for name, argument in steps:
        if name == "RUN":
            subprocess.run(["sh", "-n", "-c", argument], check=True)
    words = [*words_of(dict(steps)["ENTRYPOINT"]), *words_of(dict(steps).get("CMD", "[]"))]
    assert words[0] == "nightvault"
    parsed(words[1:])
    user, _, group = dict(steps)["USER"].partition(":")
    assert (user.isdecimal(), int(user) > 0, group) == (True, True, user), (
        "no root, by a number that all know"
    )
    assert dict(steps)["ENV"] == f"TMPDIR={dict(steps)['VOLUME']}", "the root can be read-only"
    assert words_of(dict(steps)["HEALTHCHECK"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_base_and_packages_are_pinned(path: Path) -> None:
    """The base by a digest that the builder has to name; each library by its hash."""
    steps = instructions_of(path)
    assert steps[:3] == [("ARG", "BASE"), ("FROM", "${BASE} AS build"), ("ARG", "BASE")], "and no default"
    assert [argument for name, argument in steps if name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    look, build, *rest = (argument for name, argument in steps if name == "RUN")
    for base, code in (("python:3.13-slim", 1), ("", 1), (f"python:3.13-slim@sha256:{'ab' * 32}", 0)):
        done = subprocess.run(["sh", "-c", look], env={"BASE": base}, capture_output=True, check=False)
        assert done.returncode == code, base
    download, _, install = (words.strip() for words in build.split("&&"))
    assert download.startswith("pip download ")
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(download.split())
    assert download.endswith("-d /wheels -r /src/constraints.txt")
    found = re.fullmatch(r'.*/pip install .*--no-index --find-links /wheels "/src\[(\w+)\]"', install)
    assert found is not None
    assert found[1] in EXTRAS
    assert not [step for step in rest if "pip" in step]


def test_the_build_context_has_all_that_a_wheel_needs(tmp_path: Path) -> None:
    """`.dockerignore` leaves out neither migrations nor units; and no secret of a demo goes into an image."""
    copy_context(REPOSITORY, tmp_path / "src")
    assert not (tmp_path / "src" / ".git").exists()
    assert not (tmp_path / "src" / ".venv").exists()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tmp_path / "src",
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"backup/systemd/nightvault.service", "backup/migrations/env.py"} <= set(names)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="nightvault-test-", dir="/var/lib") as folder:
        made = directory_server(Path(folder))
        made.config.write_text(made.config.read_text().replace(f"{folder}/vault", f"{made.state}/vault"))
        made.source.joinpath("a.txt").chmod(0)
        made.init()
        yield made


def contained(server: Server) -> Unit:
    """The container of the page: one capability, a root that is read-only but for the state."""
    settings = {
        "ProtectSystem": ["strict"],
        "NoNewPrivileges": ["true"],
        "ReadWritePaths": [str(server.state)],
        "CapabilityBoundingSet": ["CAP_DAC_READ_SEARCH"],
    }
    return Unit(UNITS / "nightvault.service", settings, {})


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not can_sandbox(), reason="needs root, mount namespaces, unshare and setpriv")
@pytest.mark.skipif(SCRIPT.startswith("/tmp/"), reason="the program lies in /tmp")
def test_the_daemon_runs_is_healthy_and_stops_as_the_file_says(server: Server) -> None:
    steps = dict(instructions_of(DAEMON))
    variable, _, place = steps["ENV"].partition("=")
    assert place == steps["VOLUME"]
    environ = {**unmeasured(), variable: str(server.state), "NIGHTVAULT_CONFIG": str(server.config)}
    entry = [SCRIPT, *words_of(steps["ENTRYPOINT"])[1:], *words_of(steps["CMD"])]
    box, log = contained(server), server.folder / "log"

    def check() -> tuple[int, str]:
        words = box.sandboxed([SCRIPT, *words_of(steps["HEALTHCHECK"])[1:]])
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, cwd="/")
        return done.returncode, done.stdout

    with log.open("wb") as file:
        process = subprocess.Popen(box.sandboxed(entry), env=environ, stderr=file, cwd="/")
    try:
        deadline = time.monotonic() + 60
        while [document["outcome"] for document in server.json("runs")] != ["done"]:  # the first backup
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        assert run("--config", server.config, "status", now=datetime.now(UTC)).exit_code == 0
        assert check() == (0, "")
    finally:
        began = time.monotonic()
        process.send_signal(getattr(signal, steps["STOPSIGNAL"]))
        assert process.wait(60) == 0
    assert time.monotonic() - began < 10
    (made,) = server.json("runs")
    assert (made["kind"], made["outcome"]) == ("backup", "done"), log.read_text()  # a file of mode 0, too
    code, told = check()
    assert code == 1
    assert "the daemon does not run" in told


def test_the_time_zone_of_the_environment_is_that_of_schedules() -> None:
    """In an image without /etc/localtime."""
    job = 'JobSettings(name="a", vault="b")'
    told = f"from backup.config import JobSettings; print({job}.zone)"
    environ = {"PATH": os.environ["PATH"], "TZ": "America/New_York"}
    done = subprocess.run(
        [sys.executable, "-c", told], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "America/New_York\n"
