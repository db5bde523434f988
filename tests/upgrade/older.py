"""Programs of earlier versions, taken out of this repository's history, and servers that run them.

    program = program_of(commit, folder)        # skips the test where the history is not there
    OlderServer(..., program=program).run("check")

    world = told(World(...))                    # what the servers did that all tests begin with
    site = copied(world, tmp_path)              # for one test

They run with today's interpreter and packages, in a process of their own, by the clock of a test.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.support.doubles import ManualClock
from tests.support.emulated import REPOSITORY
from tests.support.trees import extract_tar
from tests.upgrade.installed import contents_of
from tests.upgrade.shared import SharingServer, Snapshot

RELEASE = "08fa9948"
"""0.1.0, see tests/upgrade/test_older_programs.py."""
LATER = "0978a4ca"
"""The last commit that knew no lineages: what its servers left is in `0978a4ca.tar.xz`."""
KEY = "old.key"
BEGIN = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
_PARTS = ("backup", "migrations", "pyproject.toml")
_HOMES = {RELEASE: "backup.cli.context", LATER: "backup.cli.support.context"}
_START = """\
import sys
from datetime import datetime
from importlib import import_module
from backup.app.clock import SystemClock
from backup.cli import main
home, moment, *words = sys.argv[1:]
class Still(SystemClock):
    def now(self):
        return datetime.fromisoformat(moment)
class Cli(import_module(home).Cli):
    clock = Still()
main(words, obj=Cli())
"""


class OlderServer(SharingServer, Struct, frozen=True, kw_only=True):
    """A server whose commands are those of the program in the folder `program`; it has the same clock."""

    program: Path

    def called(self, words: list[str]) -> tuple[int, str, str]:
        """Exit code and both outputs of that program."""
        home = str(self.folder)
        given = [_HOMES[self.program.name], self.clock.now().isoformat(), *words]
        done = subprocess.run(  # noqa: PLW1510 (the caller says which codes are right)
            [sys.executable, "-P", "-c", _START, *given],
            env={"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(self.program), **self.more},
            cwd="/",
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr


def program_of(commit: str, folder: Path) -> Path:
    """The program of a commit, unpacked into a new folder below `folder`."""
    words = ["git", "-C", str(REPOSITORY), "archive", commit, *_PARTS]
    try:
        packed = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"commit {commit} is not here: this needs a clone with its whole history, and git")
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        extract_tar(tar, folder / commit)
    return folder / commit


class World(Struct):
    """Servers that share a vault, and what was seen of their snapshots, oldest first, by job.

    `at`: where the vault is, and the environment for it, as in `SharingServer`. `ids`: inventories, by names.
    `pause`: from night to night.
    """

    folder: Path
    source: Path
    programs: Mapping[str, Path]
    clock: ManualClock
    at: Mapping[str, Any] = {}
    seen: dict[str, list[Snapshot]] = {}
    ids: dict[str, str] = {}
    nights: int = 0
    pause: timedelta = timedelta(days=1)

    def server(self, name: str, *jobs: str, by: str = "") -> SharingServer:
        """A server with these jobs, of today's program or that of the commit `by`."""
        where = (self.folder, name, self.clock, jobs, (KEY,), self.source)
        if by:
            return OlderServer(*where, **self.at, program=self.programs[by])
        return SharingServer(*where, **self.at)

    @property
    def key(self) -> tuple[str, str]:
        """The option that gives the recovery key."""
        return "--key", str(self.folder / KEY)

    def night(self, *servers: SharingServer, code: int = 0) -> None:
        """All files of their jobs but one have changed since the last night, and are backed up."""
        self.nights += 1
        self.clock.advance(self.pause)
        for server in servers:
            for job in server.jobs:
                _change(self.source / job, self.nights)
            made = server.document("backup", allowed=(code,))
            for job, report in zip(server.jobs, made if isinstance(made, list) else [made], strict=True):
                kept = Snapshot(report["snapshot"], contents_of(self.source / job))
                self.seen.setdefault(job, []).append(kept)

    def enrol(self, server: SharingServer) -> None:
        """Have the recovery key vouch for it."""
        request, enrolment = self.folder / "request", self.folder / "enrolment"
        request.write_text(server.run("key", "request"))
        yes = () if isinstance(server, OlderServer) else ("--yes",)
        enrolment.write_text(server.run("key", "enroll", str(request), *self.key, *yes))
        server.run("key", "accept", str(enrolment))

    def rebuild(self, server: SharingServer, name: str, heir: str = "", *, code: int = 0) -> dict[str, Any]:
        """Rebuild it from the inventory `name`, and call the new one `heir`; what it says."""
        words = ("rebuild", "--set-aside", "--inventory", self.ids[name], *self.key)
        made = dict(server.document(*words, allowed=(code,)))
        self.ids[heir] = made["inventory"]
        return made

    def note(self, name: str, server: SharingServer) -> None:
        """Keep the id of the server's inventory as `name`."""
        self.ids[name] = server.document("key", "status")["inventory"]

    def check_snapshots(self, server: SharingServer, *jobs: str) -> None:
        """All snapshots of these jobs are listed, and the newest comes back byte for byte.

        So does the oldest, where that is no process of its own. The newest takes a file from the first night.
        """
        for job in jobs:
            snapshots = self.seen[job]
            assert server.ids(job) == [snapshot.id for snapshot in snapshots]
            for snapshot in (
                snapshots[-1:] if isinstance(server, OlderServer) else (snapshots[0], snapshots[-1])
            ):
                assert server.restored(job, snapshot.id, KEY) == snapshot.files


def told(world: World) -> World:
    """A (`web`), rebuilt to its heir H, and B (`db`), by today's program."""
    folder = world.folder
    (folder / "states").mkdir()
    SharingServer(folder, "machine-of-the-key", world.clock).run("key", "generate", "--out", world.key[1])
    web, db = world.server("web", "docs", "mail"), world.server("db", "data")
    web.run("init", "--non-interactive")
    db.run("init", "--non-interactive", "--new-history")
    for server in (web, db):
        world.enrol(server)
    world.note("B", db)
    for _ in range(2):
        world.night(web, db)
    world.note("A", web)
    world.rebuild(web, "A", "H")
    for _ in range(2):
        world.night(web, db)
    return world


def joined(world: World) -> World:
    """The same with C: a new server `old` in the same vault, whose program is that of 0978a4ca."""
    old = world.server("old", "notes", by=LATER)
    old.run("init", "--non-interactive", "--new-history")
    world.enrol(old)
    world.note("C", old)
    for _ in range(2):
        world.night(old)
    return world


def copied(world: World, folder: Path) -> World:
    """The same world in another folder, which must not be there; the sources stay where they are."""
    shutil.copytree(world.folder, folder, ignore=shutil.ignore_patterns("source"))
    seen = {job: list(snapshots) for job, snapshots in world.seen.items()}
    clock = ManualClock(world.clock.now())
    where = (folder, world.source, world.programs, clock, world.at)
    return World(*where, seen=seen, ids=dict(world.ids), nights=world.nights)


def _change(folder: Path, night: int) -> None:
    dice = random.Random(f"{folder.name} {night}")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "stays").exists():
        (folder / "stays").write_bytes(dice.randbytes(2000))
    (folder / "log").write_bytes(b"a line of a log\n" * night)
    (folder / "now").write_bytes(dice.randbytes(3000))
