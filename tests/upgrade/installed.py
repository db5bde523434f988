"""A server that a version left behind: its state, its vaults, and the program of today on top of them.

The tree that it backs up lies at one fixed place, as its inventory and catalogs name it; whoever uses that
holds a lock meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from msgspec import Struct, field

from backup.app.base.clock import SystemClock
from backup.cli import main
from tests.support.command_line import CliAt
from tests.support.emulated import (
    ACCESS_KEY_ID,
    ACCOUNT_ID,
    REGION,
    SECRET_ACCESS_KEY,
    RunningEmulator,
    write_accounts,
)
from tests.support.trees import extract_tar

HERE = Path(__file__).parent
PLACE = Path("/var/tmp/nightvault-upgrade-fixture")
SOURCE = PLACE / "source"
BUCKET = "fixture-bucket"
GLACIER_VAULT = "fixture-vault"
JOBS = {"on-disk": "disk", "in-glacier": "cold", "in-bucket": "bucket"}
PARTS = ("state", "vault", "emulator", "recovery.key")
SPEED = 20_000  # a retrieval of four hours takes under a second


class Installed(Struct, frozen=True):
    """A server in `folder`: state, directory vault, emulator with the other two vaults, recovery key."""

    folder: Path
    emulator: RunningEmulator
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        """The recovery key's file."""
        return self.folder / "recovery.key"

    def run(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        """What the program prints; an exit code that is not allowed fails with all that it said.

        It runs in this process, or in one of its own where `environment` has something for it.
        """
        texts = ["--config", str(self.folder / "config.toml"), *words]
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
        given = {**dict.fromkeys(_names_of_aws()), **keys, "HOME": str(self.folder), **self.environment}
        code, printed, told = (_started if self.environment else _called)(texts, given)
        assert code in allowed, f"{words}: {code}\n{printed}\n{told}"
        return printed

    def document(self, *words: str, allowed: tuple[int, ...] = (0,)) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.run("--json", *words, allowed=allowed))

    def make_listings(self) -> None:
        """Let every Glacier vault make its list now."""
        self._order("inventories", b"")

    def advance(self, hours: int) -> None:
        """Let hours pass in the emulator."""
        self._order("clock", json.dumps({"advance_seconds": hours * 3600}).encode())

    def _order(self, what: str, body: bytes) -> None:
        request = urllib.request.Request(f"{self.emulator.admin_url}/_admin/{what}", method="POST", data=body)
        with urllib.request.urlopen(request, timeout=30):
            pass


def _names_of_aws() -> list[str]:
    return [name for name in os.environ if name.startswith("AWS_")]


def _called(words: list[str], given: Mapping[str, str | None]) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, words, obj=CliAt(SystemClock()), env=given)
    return done.exit_code, done.stdout, done.stderr


def _started(words: list[str], given: Mapping[str, str | None]) -> tuple[int, str, str]:
    environment = {name: value for name, value in {**os.environ, **given}.items() if value is not None}
    done = subprocess.run(  # noqa: PLW1510 (the caller says which codes are right)
        [Path(sys.executable).with_name("nightvault"), *words],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@contextmanager
def running(
    folder: Path, *, speed: float = SPEED, environment: Mapping[str, str] | None = None
) -> Iterator[Installed]:
    """The server in `folder`, with its emulator at work and a config that names today's ports."""
    accounts = write_accounts(folder / "accounts.toml")
    with RunningEmulator(folder / "emulator", accounts, speed=speed) as emulator:
        (folder / "config.toml").write_text(_config(folder, emulator))
        yield Installed(folder, emulator, environment or {})


@contextmanager
def unpacked(folder: Path) -> Iterator[Installed]:
    """The fixture of 0.1.0, fresh, in `folder`."""
    with tarfile.open(HERE / "v0.1.0.tar.xz") as tar:
        extract_tar(tar, folder)
    os.chmod(folder / "state", 0o700)
    with running(folder) as site:
        yield site


@contextmanager
def the_place() -> Iterator[Path]:
    """The fixed place of the source, for one user at a time; it is gone afterwards."""
    lock = os.open(PLACE.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(PLACE, ignore_errors=True)
        SOURCE.mkdir(parents=True)
        yield SOURCE
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)
        os.close(lock)


def contents_of(folder: Path) -> dict[str, str]:
    """Each file's path below a folder, and the SHA-256 of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def expected() -> Mapping[str, Any]:
    """What the maker wrote down: the files of each snapshot, the snapshots' ids by job, the lost file."""
    return dict(json.loads((HERE / "v0.1.0.json").read_text()))


def _config(folder: Path, emulator: RunningEmulator) -> str:
    jobs = "".join(
        f'\n[[job]]\nname = "{job}"\nvault = "{vault}"\nsources = ["{SOURCE}"]\n'
        for job, vault in JOBS.items()
    )
    return f"""\
[state]
dir = "{folder}/state"

[[vault]]
name = "disk"
kind = "directory"
path = "{folder}/vault"

[[vault]]
name = "cold"
kind = "glacier"
region = "{REGION}"
account_id = "{ACCOUNT_ID}"
vault = "{GLACIER_VAULT}"
endpoint = "{emulator.glacier_url}"

[[vault]]
name = "bucket"
kind = "s3"
region = "{REGION}"
bucket = "{BUCKET}"
endpoint = "{emulator.s3_url}"
path_style = true
{jobs}"""
