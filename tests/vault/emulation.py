"""The emulator as its own process, with one account, a clock to push and faults to plan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG"

_ACCOUNTS = f"""
[[account]]
id = "{ACCOUNT}"
[[account.key]]
access_key_id = "{ACCESS_KEY}"
secret_access_key = "{SECRET_KEY}"
"""


class Emulation:
    """A running emulator; `url` is its endpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        accounts = self._folder / "accounts.toml"
        accounts.write_text(_ACCOUNTS)
        arguments = ["--state", str(self._folder / "state"), "--accounts", str(accounts)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "backup.emulator", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout
        self.url: str = json.loads(self._process.stdout.readline())["glacier"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def _admin(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}/_admin/{path}", data), timeout=20) as answer:
            return json.loads(answer.read())

    def advance(self, *, hours: float) -> None:
        """Let time pass."""
        self._admin("clock", {"advance_seconds": hours * 3600})

    def make_inventories(self) -> None:
        """Let every vault have its daily listing now."""
        self._admin("inventories", {})

    def plan(self, *faults: dict[str, Any]) -> None:
        """Replace all planned faults."""
        self._admin("faults", list(faults))

    def met(self) -> list[int]:
        """How often each planned fault was met."""
        return [fault["met"] for fault in self._admin("faults")["faults"]]
