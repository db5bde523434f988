"""A vault that two servers share, as 0978a4ca left it, and the program of today on top of them.

Server `web` was rebuilt three times; `web-before` is its state directory from before the last rebuild. The
trees that they back up lie at the fixed place of `installed.py`. The clock stands still where a test put it.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner
from msgspec import Struct

from backup.cli import main
from backup.format.keys import RecoveryKey, parse_key_file
from tests.support.command_line import CliAt
from tests.support.doubles import ManualClock
from tests.support.trees import extract_tar
from tests.upgrade.installed import HERE, SOURCE, contents_of
from tests.upgrade.padding import put_back

NAME = "0978a4ca"
JOBS = {"web": ("docs", "mail", "notes"), "db": ("data",)}
SERVERS = ("web", "web-before", "db")
KEYS = ("old.key", "new.key")
SEALED_FOR = {"web": KEYS, "db": KEYS[:1]}
VAULT = "shared"


class Snapshot(Struct, frozen=True):
    """A snapshot: its id, and of each file's path the SHA-256."""

    id: str
    files: Mapping[str, str]


class LostCatalog(Struct, frozen=True):
    """The catalog that was taken out of the vault, as its description said."""

    archive: str
    inventory: str
    job: str
    number: int


class Expected(Struct, frozen=True):
    """What the maker wrote down.

    `inventories`: of each server, oldest first; `before`: that of `web-before`. `snapshots` by server and
    job, oldest first, without those of `forgotten`. `condemned`: archives' ids. `now`: of the last night.
    """

    inventories: Mapping[str, list[str]]
    before: str
    snapshots: Mapping[str, Mapping[str, list[Snapshot]]]
    forgotten: Mapping[str, list[Snapshot]]
    condemned: list[str]
    lost_catalog: LostCatalog
    now: datetime


class SharingServer(Struct, frozen=True):
    """One of the servers in `folder`, by its name; its config seals for the keys `sealed_for`.

    What each job backs up lies in the folder of its name below `source`. `place` has the lines of the config
    that say where the vault is, if not in the folder `vault`; `more` is for its environment.
    """

    folder: Path
    name: str
    clock: ManualClock
    jobs: tuple[str, ...] = ()
    sealed_for: tuple[str, ...] = ()
    source: Path = SOURCE
    place: str = ""
    more: Mapping[str, str] = {}

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "states" / self.name

    def run(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        """What the program prints; an exit code that is not allowed fails with all that it said."""
        code, printed, told = self.told(*words)
        assert code in allowed, f"{self.name}: {words}: {code}\n{printed}\n{told}"
        return printed

    def told(self, *words: str) -> tuple[int, str, str]:
        """Exit code and both outputs of a command."""
        config = self.folder / f"{self.name}.toml"
        config.write_text(self._config())
        return self.called(["--config", str(config), *words])

    def called(self, words: list[str]) -> tuple[int, str, str]:
        """Exit code and both outputs of the program with these words."""
        given = {"HOME": str(self.folder), **self.more}
        done = CliRunner().invoke(main, words, obj=CliAt(self.clock), env=given)
        return done.exit_code, done.stdout, done.stderr

    def document(self, *words: str, allowed: tuple[int, ...] = (0,)) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.run("--json", *words, allowed=allowed))

    def ids(self, job: str) -> list[str]:
        """The ids of a job's snapshots, oldest first."""
        return [snapshot["id"] for snapshot in self.document("snapshots", "--job", job)]

    def restored(self, job: str, snapshot: str, *keys: str) -> dict[str, str]:
        """The files of a snapshot, restored with these keys."""
        target = self.folder / "restored"
        shutil.rmtree(target, ignore_errors=True)
        words = ("--target", str(target), *self.keys(*keys), "--wait")
        self.run("restore", f"{snapshot}:{self.source / job}", *words)
        return contents_of(target)

    def keys(self, *names: str) -> tuple[str, ...]:
        """Options that give these keys, or both, today's first."""
        return tuple(word for name in names or ("new.key", "old.key") for word in ("--key", self.key(name)))

    def key(self, name: str) -> str:
        """The path of a recovery key."""
        return str(self.folder / name)

    def _config(self) -> str:
        recipients = [recovery_key(self.folder, name).recipient.to_text() for name in self.sealed_for]
        encryption = f"[encryption]\nrecipients = {json.dumps(recipients)}\n" if recipients else ""
        jobs = "".join(
            f'\n[[job]]\nname = "{job}"\nvault = "{VAULT}"\nsources = ["{self.source / job}"]\n'
            for job in self.jobs
        )
        place = self.place or f'kind = "directory"\npath = "{self.folder / "vault"}"'
        return f'[state]\ndir = "{self.state}"\n{encryption}[[vault]]\nname = "{VAULT}"\n{place}\n{jobs}'


class Shared(Struct, frozen=True):
    """The fixture, fresh, in `folder`; the clock of all its servers."""

    folder: Path
    clock: ManualClock

    def server(self, name: str) -> SharingServer:
        """A server as it was left, with its jobs."""
        kind = name.partition("-")[0]
        return SharingServer(self.folder, name, self.clock, JOBS[kind], SEALED_FOR[kind])

    def bare(self, *, jobs: tuple[str, ...] = ()) -> SharingServer:
        """A new machine: an empty state directory, and a config that names the vault."""
        machine = SharingServer(self.folder, "bare", self.clock, jobs)
        shutil.rmtree(machine.state, ignore_errors=True)
        return machine


def unpacked(folder: Path, clock: ManualClock) -> Shared:
    """The fixture in `folder`, with the padding of its packs."""
    with tarfile.open(HERE / f"{NAME}.tar.xz") as tar:
        extract_tar(tar, folder)
    for name in SERVERS:
        os.chmod(folder / "states" / name, 0o700)
    put_back(folder, partial(archive_path, folder))
    return Shared(folder, clock)


def recovery_key(folder: Path, name: str) -> RecoveryKey:
    """One of the two recovery keys."""
    return parse_key_file((folder / name).read_bytes())


def archive_path(folder: Path, archive: str) -> Path:
    """Where the vault keeps an archive."""
    return folder / "vault" / "archives" / archive[:2] / archive


@cache
def expected() -> Expected:
    """What the maker wrote down."""
    return msgspec.json.decode((HERE / f"{NAME}.json").read_bytes(), type=Expected)
