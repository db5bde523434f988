"""The files in `deploy/` for other programs: systemd and botocore understand them, and we the commands."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import botocore.session
import pytest

from backup.cli import COMMANDS, main
from backup.cli.support.context import Cli

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
MOST_EXPOSED = {
    "nightvault-unprivileged.service": 2.0,
    "nightvault-update@.service": 2.0,
    "nightvault-web.service": 2.0,
}
"""Of 10, by `systemd-analyze security`. Others run as root; one of them may set owners and make devices."""


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """What systemd itself says."""
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, check=False
    )


def commands(line: str) -> None:
    """A command line of a file: a command of ours with flags that it knows."""
    program, *words = shlex.split(line)
    assert program == "/usr/local/bin/nightvault"
    name, *words = [word for word in words if word != "--quiet"]
    command = COMMANDS[name].load()
    command.make_context(name, words, main.make_context("nightvault", [name], obj=Cli()))


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_units_start_commands_that_are_there(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(path.read_text())
    commands(unit["Service"]["ExecStart"])
    is_of_jobs = any(f"nightvault {word}" in unit["Service"]["ExecStart"] for word in ("daemon", "backup"))
    assert ("ExecStopPost" in unit["Service"]) == is_of_jobs  # what a killed run has left stopped is started
    if is_of_jobs:
        commands(unit["Service"]["ExecStopPost"].removeprefix("-"))
    assert unit["Service"]["NoNewPrivileges"] == "true"


@needs_systemd
def test_systemd_understands_them(tmp_path: Path) -> None:
    """With each other: a timer needs its service."""
    for path in UNITS:
        text = path.read_text()
        (tmp_path / path.name).write_text(text.replace("/usr/local/bin/nightvault", "/bin/true"))
    done = analyze("verify", "--man=no", *map(str, sorted(tmp_path.iterdir())))
    told = [line for line in done.stderr.splitlines() if "nightvault" in line]
    assert (done.returncode, told) == (0, []), done.stderr


@needs_systemd
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_they_expose_little(path: Path) -> None:
    done = analyze("security", "--offline=true", str(path))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED.get(path.name, 3.4)


def test_the_aws_config_is_read_by_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(DEPLOY / "aws-config.example"))
    profiles = botocore.session.Session().full_config["profiles"]
    assert set(profiles) == {"backup", "reports"}
    for profile in profiles.values():
        commands(profile["credential_process"])
