"""Runs the emulator in a process of its own, for any test that needs an AWS to talk to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import fields

from tests.support import without_coverage
from tests.support.program_forks import Fork
from tests.support.temporary_files import remove

ACCOUNT_ID = "123456789012"
ACCESS_KEY_ID = "AKIATESTTESTTESTTEST"
SECRET_ACCESS_KEY = "test/secret+access/key/of/the/emulator00"
REGION = "eu-central-1"
START_SECONDS = 20.0
STOP_SECONDS = 10.0
REPOSITORY = Path(__file__).resolve().parents[2]


class StaticKey(Struct, frozen=True):
    """A key for the accounts file; with a token a temporary one, `expires_at` as RFC 3339 text.

    It is the root's, or that of a `user` with a `policy`.
    """

    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY
    session_token: str | None = None
    expires_at: str | None = None
    user: str | None = None
    policy: str | None = None


TEST_KEY = StaticKey()


def write_accounts(
    path: Path,
    *,
    account_id: str = ACCOUNT_ID,
    keys: Iterable[StaticKey] = (TEST_KEY,),
    trust_anchors: Iterable[Mapping[str, object]] = (),
    profiles: Iterable[Mapping[str, object]] = (),
    roles: Iterable[Mapping[str, object]] = (),
    others: Mapping[str, StaticKey] | None = None,
) -> Path:
    """Write an accounts file and give its path; `others` are further accounts with a key each.

    The mappings have the keys of the file (`arn`, `certificates`, ...); a `trust_policy` or `policy` may be a
    dict, written as JSON. The file is replaced whole, so that a running emulator never reads half of it.
    """
    lines = ["[[account]]", f"id = {_toml(account_id)}"]
    for key in keys:
        lines += _table("key", {field.name: getattr(key, field.name) for field in fields(key)})
    for name, tables in (("trust_anchor", trust_anchors), ("profile", profiles), ("role", roles)):
        for table in tables:
            lines += _table(name, table)
    for other, key in (others or {}).items():
        lines += ["", "[[account]]", f"id = {_toml(other)}"]
        lines += _table("key", {field.name: getattr(key, field.name) for field in fields(key)})
    half = path.with_name(path.name + ".new")
    half.write_text("\n".join(lines) + "\n")
    half.replace(path)
    return path


def _table(name: str, values: Mapping[str, object]) -> list[str]:
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    return ["", f"[[account.{name}]]", *lines]


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(json.dumps(value))
    if isinstance(value, Path):
        return json.dumps(str(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    return json.dumps(value)


class RunningEmulator:
    """A context manager around one emulator process; its URLs stay the same over a restart.

    Its coverage is kept only if it is `measured`, and ends by `stop`.
    """

    def __init__(
        self,
        state: Path,
        accounts: Path,
        *,
        speed: float = 1.0,
        options: Sequence[str] = (),
        port: int = 0,
        measured: bool = False,
    ) -> None:
        self._state = state
        self._accounts = accounts
        self._speed = speed
        self._options = tuple(options)
        self._port = port
        self._environment = without_coverage.measured() if measured else without_coverage.unmeasured()
        self._measured = measured
        self._process: subprocess.Popen[str] | Fork | None = None
        self._s3_port = 0
        self.glacier_url = ""
        self.s3_url = ""
        self.rolesanywhere_url = ""
        self.admin_url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and wait until it listens."""
        ports = ("--port", str(self._port), "--s3-port", str(self._s3_port))
        where = (*ports, "--state", str(self._state), "--accounts", str(self._accounts))
        self._process = self._begin([*where, "--speed", str(self._speed), *self._options])
        urls = json.loads(self._first_line(self._process))
        self.glacier_url = urls["glacier"]
        self.rolesanywhere_url = urls["rolesanywhere"]
        self.admin_url = urls["admin"]
        self.s3_url = urls["s3"]
        self._port = urlsplit(self.glacier_url).port or 0
        self._s3_port = urlsplit(self.s3_url).port or 0

    def _begin(self, words: Sequence[str]) -> subprocess.Popen[str] | Fork:
        if not self._measured:
            return Fork(words, self._environment)
        return subprocess.Popen(
            [sys.executable, "-m", "backup.emulator", *words],
            cwd=REPOSITORY,
            env={**self._environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def _first_line(self, process: subprocess.Popen[str] | Fork) -> str:
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            self.kill()
            raise RuntimeError("the emulator did not start; its reason is on stderr")
        return line

    @property
    def state(self) -> Path:
        """The state directory."""
        return self._state

    @property
    def accounts(self) -> Path:
        """The accounts file."""
        return self._accounts

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """End the process at once (SIGKILL); nothing happens if it does not run."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End the process in order (SIGTERM) and give its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def restart(self) -> None:
        """Stop, if it runs, and start again with the same state on the same port."""
        self.stop()
        self.start()

    def forget(self) -> None:
        """Begin again with an empty state, on the same ports; nobody must be in need of what is there."""
        self.stop()
        remove(self._state)
        self.start()

    def advance(self, seconds: float) -> str:
        """Step the emulator's clock; its new time."""
        return str(self._admin("clock", {"advance_seconds": seconds})["now"])

    def now(self) -> str:
        """The emulator's time."""
        return str(self._admin("clock")["now"])

    def make_inventories(self) -> list[str]:
        """Make the inventory of every vault that changed or never had one; their ARNs."""
        return list(self._admin("inventories", {})["inventories"])

    def set_faults(self, faults: Sequence[Mapping[str, object]]) -> None:
        """Replace all planned faults."""
        self._admin("faults", list(faults))

    def faults(self) -> list[dict[str, Any]]:
        """The planned faults, each with `met`, how often it was met."""
        return list(self._admin("faults")["faults"])

    def asked(self) -> list[dict[str, Any]]:
        """The actions that policies were asked for: `principal`, `action`, how often allowed and refused."""
        return list(self._admin("asked")["asked"])

    def bill(self, since: str = "") -> dict[str, Any]:
        """What each account is billed until now, by month and vault or bucket; from the month `since` on."""
        return self._admin(f"bill?from={since}" if since else "bill")

    def change_settings(self, **settings: object) -> dict[str, Any]:
        """Replace some of the emulator's settings; all of them."""
        return self._admin("settings", settings)

    def _admin(self, what: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.admin_url}/_admin/{what}", data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            answered: dict[str, Any] = json.load(answer)
            return answered


def strange_names(folder: Path) -> list[str]:
    """What lies in the folder of an emulator whose state is in `state`, and is not the emulator's own."""
    own = ("emulator.sqlite", "emulator.sqlite-wal", "emulator.sqlite-shm", "lock", "files")
    found = [path.name for path in folder.iterdir()]
    found += [path.name for path in (folder / "state").iterdir() if path.name not in own]
    files = (folder / "state" / "files").iterdir()
    return sorted(found + [path.name for path in files if len(path.name) != 32 or not path.is_file()])
