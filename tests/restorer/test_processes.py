"""Restores in processes of their own: as an ordinary user, killed, with many files, with a very large one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.model import MIB, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.emulated import REPOSITORY
from tests.support.trees import assert_same_tree, snapshot_of
from tests.support.users import NOBODY

pytestmark = pytest.mark.slow


@dataclass
class Place:
    """A folder that an ordinary user may reach, with an installation on a directory vault."""

    folder: Path
    site: Site

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def command(self, *more: str) -> list[str]:
        places = [str(self.folder / name) for name in ("site", "vault", "source", "out")]
        return [sys.executable, "-m", "tests.support.restores", *places, *more]

    def restore(self, *more: str) -> dict[str, Any]:
        done = subprocess.run(
            self.command(*more), cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=120
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def give_to(self, uid: int) -> None:
        """Let somebody else own installation and vault."""
        for name in ("site", "vault"):
            for place, directories, files in os.walk(self.folder / name):
                for file in ("", *directories, *files):
                    os.chown(os.path.join(place, file), uid, uid)


@pytest.fixture
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
    folder.chmod(0o1777)
    (folder / "source").mkdir()
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    site = Site.create(folder / "site", vault, [folder / "source"], clock=clock)
    yield Place(folder, site)
    site.close()
    shutil.rmtree(folder)


def test_many_small_files(place: Place) -> None:
    """Seconds, and memory by the kilobyte each: 20,000 took 5 s and 102 MB when this was written."""
    count = 3_000
    for number in range(count):
        folder = place.source / f"d{number % 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_bytes(b"%d\n" % number * (number % 50))
    place.site.backup()
    told = place.restore()
    assert (told["outcome"], told["files"]) == ("done", count)
    assert told["seconds"] < 60
    assert told["peak"] < 200 * 1024
    assert_same_tree(place.source, place.out)


@pytest.mark.large
def test_a_very_large_file_in_little_memory(place: Place) -> None:
    """Half a GiB, of which most is zeros: the memory that it takes does not depend on its size."""
    place.site = replace(place.site, job=replace(place.site.job, pack_size=64 * MIB, part_size=16 * MIB))
    content = random.Random(11)
    with open(place.source / "large", "wb") as file:
        for _ in range(4):
            file.write(content.randbytes(4 * MIB))
            file.writelines([bytes(4 * MIB)] * 31)  # written, so that they are no holes
    place.site.backup()
    expected = sha256_of(place.source / "large")
    (place.source / "large").unlink()  # room for what comes back
    told = place.restore()
    assert told["outcome"] == "done"
    assert told["peak"] < 300 * 1024
    assert sha256_of(place.out / "large") == expected


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.usefixtures("nobody")
def test_as_an_ordinary_user(place: Place) -> None:
    """All content, modes and times; owners that it may not give are named, and no setuid bit is lent."""
    source = place.source
    for name, mode, owner in (
        ("mine", 0o640, NOBODY),
        ("roots", 0o600, 0),
        ("program", 0o4755, 0),
        ("my-program", 0o2755, NOBODY),
    ):
        (source / name).write_text(name)
        os.chown(source / name, owner, owner)
        (source / name).chmod(mode)
    (source / "locked").mkdir()
    (source / "locked" / "below").mkdir()
    (source / "locked" / "below" / "file").write_text("content")
    (source / "link").symlink_to("roots")
    os.mkfifo(source / "fifo")
    for path in (*source.rglob("*"), source):
        if path.name not in {"roots", "program"}:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    (source / "my-program").chmod(0o2755)
    (source / "locked" / "below").chmod(0o555)
    (source / "locked").chmod(0o111)
    place.site.backup()
    place.site.close()
    place.give_to(NOBODY)
    expected = snapshot_of(source)
    expected[b"roots"] = expected[b"roots"]._replace(uid=NOBODY, gid=NOBODY)
    expected[b"program"] = expected[b"program"]._replace(uid=NOBODY, gid=NOBODY, mode=0o755)
    for _ in range(2):  # the second time over the first, where directories may not be written
        told = place.restore(str(NOBODY))
        assert told["outcome"] == "partial"
        assert {(path, detail.partition(":")[0]) for path, _, detail in told["problems"]} == {
            ("roots", "owner and group"),
            ("program", "owner and group"),
            ("program", "mode"),
        }
        assert {kind for _, kind, _ in told["problems"]} == {"not-set"}
        assert_same_tree(expected, place.out)


@pytest.mark.usefixtures("nobody")
def test_a_target_that_somebody_else_owns(place: Place) -> None:
    (place.source / "file").write_text("content")
    place.site.backup()
    place.site.close()
    place.give_to(NOBODY)
    place.out.mkdir()
    told = place.restore(str(NOBODY))
    assert (told["outcome"], told["files"]) == ("partial", 0)
    assert told["problems"] == [["file", "not-set", "not restored: Permission denied"]]


def test_killed_at_any_moment(place: Place) -> None:
    """`kill -9`, again and again: no file is there in part, and the last run leaves nothing of the others."""
    content = random.Random(13)
    for number in range(30):
        folder = place.source / f"d{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_bytes(content.randbytes(300_000))
    place.site.backup()
    place.site.close()
    whole = snapshot_of(place.source)
    killed = 0
    for attempt in range(6):
        process = subprocess.Popen(place.command(), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        wait_for_the_first_file(place.out, process, attempt)
        time.sleep(0.006 * attempt)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        for path, seen in snapshot_of(place.out).items() if place.out.exists() else ():
            if seen.kind == stat.S_IFREG and not os.path.basename(path).startswith(b".nightvault-"):
                assert seen == whole[path]
    assert killed
    assert place.restore()["outcome"] == "done"
    assert_same_tree(place.source, place.out)
    assert os.listdir(place.folder / "site" / "restores") == []


def wait_for_the_first_file(out: Path, process: subprocess.Popen[bytes], attempt: int) -> None:
    """Until the restore has begun to write, or (every fourth time) not even that."""
    deadline = time.monotonic() + 20
    before = out.stat().st_mtime_ns if out.exists() else 0
    while attempt % 4 and process.poll() is None and time.monotonic() < deadline:
        if out.exists() and out.stat().st_mtime_ns != before:
            return
        time.sleep(0.001)
