"""Other people's clients as they are installed, and keys for the emulator in their environment."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.emulator import script_forks
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

KEYS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_SECONDS = 60.0


def of_debian(name: str) -> str:
    """The path of a program, as Debian's package of that name installs it; else the test is skipped."""
    path = f"/usr/bin/{name}"
    if not os.access(path, os.X_OK):
        pytest.skip(f"{path} is not installed")
    return path


def run(command: list[str], home: Path, environment: Mapping[str, str]) -> str:
    """What a command prints; it must end well."""
    output, errors = home / "output of a client", home / "errors of a client"
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"} | dict(environment)
    if os.path.basename(command[0]) == "aws":
        code = _run_aws(command, clean, home, output, errors)
    else:
        with output.open("w") as out, errors.open("w") as err:
            code = subprocess.run(
                command, check=False, env=clean, cwd=home, stdout=out, stderr=err, timeout=_SECONDS
            ).returncode
    said = output.read_text(), errors.read_text()
    assert code == 0, (command, *said)
    return "".join(said)


def _run_aws(
    command: list[str], environment: dict[str, str], folder: Path, output: Path, errors: Path
) -> int:
    """Its exit code. It is not started anew for each command: half a second of its 0.6 are its imports."""
    forking = _aws_forks(command[0], os.getpid())
    assert forking.stdin is not None
    assert forking.stdout is not None
    asked = {"words": command[1:], "environment": environment, "folder": str(folder)}
    json.dump(asked | {"output": str(output), "errors": str(errors)}, forking.stdin)
    forking.stdin.write("\n")
    forking.stdin.flush()
    if not select.select([forking.stdout], [], [], _SECONDS)[0]:
        forking.kill()
        raise subprocess.TimeoutExpired(command, _SECONDS)
    return int(forking.stdout.readline())


@functools.cache
def _aws_forks(program: str, _owner: int) -> subprocess.Popen[str]:
    """The process whose forks are an AWS CLI, one for each process of tests."""
    with open(program) as script:
        interpreter = script.readline().removeprefix("#!").strip()
    words = [interpreter, "-I", script_forks.__file__, program, "awscli.clidriver"]
    forking = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"LANG": "C.UTF-8"}
    )
    atexit.register(forking.communicate)
    return forking
