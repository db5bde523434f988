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
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result
from msgspec import Struct

from backup.app.base.clock import SystemClock
from backup.cli import main
from backup.protocols import Clock
from tests.support.command_line import CliAt
from tests.support.doubles import ManualClock
from tests.support.emulated import (
    ACCESS_KEY_ID,
    ACCOUNT_ID,
    REGION,
    SECRET_ACCESS_KEY,
    RunningEmulator,
    write_accounts,
)
from tests.support.trees import extract_tar
from tests.upgrade.padding import PADDINGS, put_back

HERE = Path(__file__).parent
PLACE = Path("/var/tmp/nightvault-upgrade-fixture")
SOURCE = PLACE / "source"
BUCKET = "fixture-bucket"
GLACIER_VAULT = "fixture-vault"
JOBS = {"on-disk": "disk", "in-glacier": "cold", "in-bucket": "bucket"}
BACK = PLACE / "back"
"""The targets of open restores: each is below it, by its job."""
PARTS = ("state", "vault", "emulator", "back", "recovery.key", PADDINGS)
SPEED = 20_000  # a retrieval of four hours takes under a second
WAITS = 17
"""The exit code of a command that waits for a vault."""
STANDING = 1e-9
"""The speed of an emulator whose time passes by `pass_time` alone."""
DRILLS = """
[[drill]]
name = "of-disk"
jobs = ["on-disk"]
sample = "3 files"

[[drill]]
name = "of-cold"
jobs = ["in-glacier"]
sample = "2 files"
"""


class Installed(Struct, frozen=True):
    """A server in `folder`: state, directory vault, emulator with the other two vaults, recovery key.

    Its clock is the system's, next to an emulator that runs fast, or goes by `pass_time` alone, with the
    emulator's.
    """

    folder: Path
    emulator: RunningEmulator
    clock: Clock
    version: str = ""

    @property
    def known(self) -> Mapping[str, Any]:
        """The notes of the maker about this version's fixture."""
        return expected(self.version)

    @property
    def key(self) -> Path:
        """The recovery key's file."""
        return self.folder / "recovery.key"

    def run(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        """What the program prints; an exit code that is not allowed fails with all that it said."""
        return self._done(words, allowed).stdout

    def document(self, *words: str, allowed: tuple[int, ...] = (0,)) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.run("--json", *words, allowed=allowed))

    def finished(self, *words: str, allowed: tuple[int, ...] = (0,)) -> Any:
        """The same of a command that waits for a vault, and is given again every five hours until it ends."""
        done = self._done(("--json", *words), (*allowed, WAITS))
        while done.exit_code == WAITS:
            self.pass_time(hours=5)
            done = self._done(("--json", *words), (*allowed, WAITS))
        return json.loads(done.stdout)

    def _done(self, words: Sequence[str], allowed: tuple[int, ...]) -> Result:
        texts = ["--config", str(self.folder / "config.toml"), *words]
        others = dict.fromkeys(name for name in os.environ if name.startswith("AWS_"))
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
        given = {**others, **keys, "HOME": str(self.folder)}
        done = CliRunner().invoke(main, texts, obj=CliAt(self.clock), env=given)
        assert done.exit_code in allowed, f"{words}: {done.exit_code}\n{done.stdout}\n{done.stderr}"
        return done

    def ids(self, job: str) -> list[str]:
        """The ids of a job's snapshots, oldest first."""
        return [snapshot["id"] for snapshot in self.document("snapshots", "--job", job)]

    def pass_time(self, hours: float) -> None:
        """Let hours pass, here and in the emulator, whose Glacier vaults make their lists."""
        assert isinstance(self.clock, ManualClock)
        self.emulator.advance(hours * 3600)
        self.emulator.make_inventories()
        self.clock.advance(timedelta(hours=hours))


@contextmanager
def running(folder: Path, version: str = "", *, speed: float = STANDING) -> Iterator[Installed]:
    """The server in `folder` as this version left it, its emulator, and a config that names today's ports."""
    accounts = write_accounts(folder / "accounts.toml")
    with RunningEmulator(folder / "emulator", accounts, speed=speed) as emulator:
        stands = speed == STANDING
        (folder / "config.toml").write_text(_config(folder, emulator) + DRILLS * stands)
        now = datetime.fromisoformat(emulator.now())
        yield Installed(folder, emulator, ManualClock(now) if stands else SystemClock(), version)


@contextmanager
def unpacked(folder: Path, version: str = "0.1.0", *, speed: float = SPEED) -> Iterator[Installed]:
    """The fixture of a version, fresh, in `folder`; the targets of its open restores are in the place.

    `speed` is of 0.1.0's emulator; that of others stands.
    """
    with tarfile.open(HERE / f"v{version}.tar.xz") as tar:
        extract_tar(tar, folder)
    os.chmod(folder / "state", 0o700)
    if version == "0.1.0":
        with running(folder, version, speed=speed) as site:
            yield site
        return
    put_back(folder, folder.joinpath)
    shutil.move(folder / "back", BACK)
    _lead_to_targets(folder / "state" / "inventory.sqlite")
    with running(folder, version) as site:
        yield site


def _lead_to_targets(inventory: Path) -> None:
    """Write the targets' inodes into the inventory, which are others than when the restores began."""
    with closing(sqlite3.connect(inventory)) as db, db:
        rows = db.execute("SELECT number, progress FROM restores WHERE state = 'open'").fetchall()
        for number, text in rows:
            progress = msgspec.msgpack.decode(text)
            found = os.stat(progress["place"][0])
            progress["place"][1:] = [found.st_dev, found.st_ino]
            known = (msgspec.msgpack.encode(progress), number)
            db.execute("UPDATE restores SET progress = ? WHERE number = ?", known)


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


@cache
def expected(version: str = "0.1.0") -> Mapping[str, Any]:
    """What the maker wrote down: the files of each snapshot, the snapshots' ids by job, the lost file, …"""
    return dict(json.loads((HERE / f"v{version}.json").read_text()))


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
