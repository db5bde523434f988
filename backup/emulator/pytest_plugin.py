"""A pytest fixture with an emulated Glacier and S3 for any project's tests: endpoints, credentials.

def test_it(nightvault_emulator):
    glacier = boto3.client("glacier", **nightvault_emulator.client)
    s3 = boto3.client("s3", **nightvault_emulator.s3_client)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

ACCOUNT_ID = "123456789012"
ACCESS_KEY_ID = "AKIANIGHTVAULT000000"
SECRET_ACCESS_KEY = "nightvault-emulator-secret"  # noqa: S105 (it opens nothing but the emulator)
REGION = "us-east-1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
_ACCOUNTS = f"""[[account]]
id = "{ACCOUNT_ID}"

[[account.key]]
access_key_id = "{ACCESS_KEY_ID}"
secret_access_key = "{SECRET_ACCESS_KEY}"
"""


class Emulated(Struct, frozen=True):
    """A running emulator: its endpoints, a key that may do everything, and its admin calls."""

    endpoint: str
    s3_endpoint: str
    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY
    account_id: str = ACCOUNT_ID
    region: str = REGION

    @property
    def client(self) -> dict[str, str]:
        """Keyword arguments for `boto3.client("glacier", ...)`."""
        return self._client(self.endpoint)

    @property
    def s3_client(self) -> dict[str, str]:
        """Keyword arguments for `boto3.client("s3", ...)`."""
        return self._client(self.s3_endpoint)

    def _client(self, endpoint: str) -> dict[str, str]:
        return {
            "endpoint_url": endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for other programs."""
        return {
            "AWS_ENDPOINT_URL_GLACIER": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_ENDPOINT_URL_ROLESANYWHERE": self.endpoint,
            "AWS_ENDPOINT_URL_IAM": self.endpoint,
            "AWS_ENDPOINT_URL_STS": self.endpoint,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def advance(self, seconds: float) -> None:
        """Step the emulator's clock: jobs end, inventories are made, objects are restored."""
        self._admin("clock", {"advance_seconds": seconds})

    def make_inventories(self) -> None:
        """Make the inventory of every vault now."""
        self._admin("inventories", {})

    def set_faults(self, faults: Sequence[Mapping[str, object]]) -> None:
        """Replace all planned faults; docs/emulator.md lists their keys."""
        self._admin("faults", list(faults))

    def faults(self) -> list[dict[str, Any]]:
        """The planned faults, each with `met`, the number of calls that it affected."""
        return list(self._admin("faults")["faults"])

    def change_settings(self, **settings: object) -> None:
        """Change settings of the running emulator."""
        self._admin("settings", settings)

    def bill(self) -> dict[str, Any]:
        """The bill of each account until now, by month and vault or bucket."""
        return dict(self._admin("bill"))

    def _admin(self, what: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}/_admin/{what}", data=data)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (our own loopback URL)
            return json.load(answer)


@pytest.fixture(scope="session")
def nightvault_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    """One emulator process for the whole run (one for each worker of pytest-xdist)."""
    folder = tmp_path_factory.mktemp("nightvault-emulator")
    accounts = folder / "accounts.toml"
    accounts.write_text(_ACCOUNTS)
    process = _start(folder, accounts)
    try:
        urls = _urls(process)
        yield Emulated(urls["glacier"], urls["s3"])
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _start(folder: Path, accounts: Path) -> subprocess.Popen[str]:
    where = ("--state", str(folder / "state"), "--accounts", str(accounts))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "backup.emulator", *where],  # -P: nothing of the tests' own directory
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def _urls(process: subprocess.Popen[str]) -> dict[str, str]:
    """Wait until the emulator listens, and return its URLs."""
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        watchdog.cancel()
    if not line:
        process.kill()
        raise RuntimeError("The emulator did not start; its reason is on stderr.")
    return dict(json.loads(line))
