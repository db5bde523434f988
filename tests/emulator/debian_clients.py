"""Other people's clients as Debian installs them, and keys for the emulator in their environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

KEYS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def of_debian(name: str) -> str:
    """The path of a program, as Debian's package of that name installs it; else the test is skipped."""
    path = f"/usr/bin/{name}"
    if not os.access(path, os.X_OK):
        pytest.skip(f"{path} is not installed")
    return path


def run(command: list[str], home: Path, environment: Mapping[str, str]) -> str:
    """What a command prints; it must end well."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    done = subprocess.run(
        command,
        check=False,
        env=clean | dict(environment),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr
