"""The demo's AWS: an emulator in a process of its own, and the account that it serves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from backup.errors import NightvaultError, UsageError
from backup.installed import how_to_add
from backup.workers.process import isolated_words, without_python

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ADMIN_KEY, ADMIN_SECRET = "AKIADEMONSTRATION000", "of-the-demo-alone"
_LIBRARIES = ("cryptography", "starlette", "uvicorn", "h11")


def require_emulator() -> None:
    """Raise `UsageError` where the libraries of the emulator are not installed."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise UsageError(
            f"the emulator's libraries are not installed: {', '.join(missing)}", advice=how_to_add("emulator")
        )


def write_accounts(path: str) -> None:
    """Write the emulator's accounts file: one account with an admin's keys and nothing else."""
    lines = (
        "[[account]]",
        f'id = "{ACCOUNT}"',
        "[[account.key]]",
        f'access_key_id = "{ADMIN_KEY}"',
        f'secret_access_key = "{ADMIN_SECRET}"',
    )
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def environment(urls: Mapping[str, str], *, admin: bool) -> dict[str, str]:
    """Return variables that point boto3 and nightvault to the emulator; with `admin` also an admin's keys."""
    found = {f"AWS_ENDPOINT_URL_{name.upper()}": url for name, url in urls.items() if name != "admin"}
    keys = {"AWS_ACCESS_KEY_ID": ADMIN_KEY, "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET}
    return found | (keys if admin else {})


@contextmanager
def running_emulator(state: str, accounts: str, log: str, speed: int = 7200) -> Iterator[Mapping[str, str]]:
    """Run the emulator while the body runs, and give its URLs; its process is always ended."""
    words = ("--port", "0", "--state", state, "--accounts", accounts, "--speed", str(speed))
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            isolated_words("backup.emulator", *words, libraries=_LIBRARIES),
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=without_python(os.environ),
        )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise NightvaultError("the emulator did not start", advice=f"its reason is in {log}")
        yield json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


SERVICES = {"glacier": "Glacier", "s3": "S3", "locked": "S3"}
"""The service that each kind of a demo's vault is of."""

_VAULTS = {
    "glacier": 'vault = "nightvault-demo"',
    "s3": 'storage_class = "DEEP_ARCHIVE"\npath_style = true',
    "locked": 'storage_class = "GLACIER_IR"\npath_style = true\nlock = "governance"\nlock_for = "60d"',
}


def write_config(path: str, *, kind: str, endpoint: str, identity: str, source: str) -> None:
    """Write the demo's config before the AWS set-up: without role, trust anchor and profile."""
    text = f"""\
# Made by `nightvault demo`. On a real server endpoint and path_style go; the rest `setup aws` fills in.
[state]
dir = {json.dumps(os.path.join(os.path.dirname(path), "state"))}

[identity]
certificate = {json.dumps(os.path.join(identity, "demo-server.pem"))}
private_key = {json.dumps(os.path.join(identity, "demo-server.key"))}

[[vault]]
name = "cold"
kind = "{SERVICES[kind].lower()}"
region = "{REGION}"
account_id = "{ACCOUNT}"
{_VAULTS[kind]}
endpoint = "{endpoint}"

[[job]]
name = "demo"
vault = "cold"
sources = [{json.dumps(source)}]
schedule = "daily at 02:30"
"""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
