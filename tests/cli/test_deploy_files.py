"""The files in `deploy/` for other programs: systemd and botocore understand them, and we the commands."""

from __future__ import annotations

import configparser
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


def commands(line: str) -> None:
    """A command line of a file: a command of ours with flags that it knows."""
    program, name, *words = shlex.split(line)
    assert program == "/usr/local/bin/nightvault"
    command = COMMANDS[name].load()
    command.make_context(name, words, main.make_context("nightvault", [name], obj=Cli()))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_start_commands_that_are_there(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(path.read_text())
    commands(unit["Service"]["ExecStart"])
    assert unit["Service"]["NoNewPrivileges"] == "true"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_them(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("/usr/local/bin/nightvault", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert path.name not in done.stderr, done.stderr


def test_the_aws_config_is_read_by_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(DEPLOY / "aws-config.example"))
    profiles = botocore.session.Session().full_config["profiles"]
    assert set(profiles) == {"backup", "reports"}
    for profile in profiles.values():
        commands(profile["credential_process"])
