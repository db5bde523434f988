"""Makes the fixture of a version: its inventory, and its three kinds of vaults, after seven nights.

    python -m tests.upgrade.make_fixture VERSION

It is run once with the code of a version, and what it made is never made again. That of 0.1.0 was made by
fewer steps; that of 0.2.0 by the code of commit b2a49f3c, with the files of this folder beside it. A day
passes from night to night, by the emulator's clock. Packs are kept without their padding (`padding.py`).

The nights: 1 the tree is new; 2 files are changed and added; 3 one of the new ones is deleted. Then the
archives with the data of night 2 are taken away from every vault, and `check` marks them lost. 4 what of
them still lies on the disk is stored again, so the second snapshot of each job lacks one file for good; 5 a
file is added; 6 it is gone. Then the fifth snapshots are forgotten, and a prune condemns what only they
needed. 7 nothing changes; then the third snapshots are forgotten, of which no prune knows yet.

At last one drill has ended and one waits, and so do two restores: of the first snapshot from the Glacier
vault, and of the newest from the bucket. What they need is asked for, and not ready.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3

from backup.errors import FormatError
from backup.format.header import parse_header
from backup.format.keys import parse_key_file
from tests.support.emulated import ACCESS_KEY_ID, ACCOUNT_ID, REGION, SECRET_ACCESS_KEY
from tests.upgrade.installed import (
    BACK,
    BUCKET,
    GLACIER_VAULT,
    HERE,
    JOBS,
    PARTS,
    SOURCE,
    WAITS,
    Installed,
    contents_of,
    running,
    the_place,
)
from tests.upgrade.padding import leave_out

LOST_FILE = "added/deleted-later.bin"
PASSING_FILE = "added/of-one-night.bin"


def main() -> None:
    """Make `vVERSION.tar.xz` and `vVERSION.json` beside this file."""
    version = sys.argv[1]
    with tempfile.TemporaryDirectory() as name, the_place():
        work = Path(name)
        (work / "emulator").mkdir()
        with running(work) as site:
            known = Story(site).tell()
            site.emulator.stop()  # in order: what it knows is in one file
        shutil.copytree(BACK, work / "back")
        leave_out(work, _packs(work), [parse_key_file(site.key.read_bytes())])
        (HERE / f"v{version}.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        with tarfile.open(HERE / f"v{version}.tar.xz", "w:xz", preset=9) as tar:
            for part in PARTS:
                tar.add(work / part, part)


class Story:
    """The server; the ids of the snapshots by job, and the files of each."""

    def __init__(self, site: Installed) -> None:
        self.site = site
        self.ids: dict[str, list[str]] = {job: [] for job in JOBS}
        self.seen: list[Mapping[str, str]] = []

    def tell(self) -> Mapping[str, object]:
        """All that happens, and what is expected of it."""
        site = self.site
        site.run("init", "--key-file", str(site.key), "--non-interactive")
        for change in (_first_night, _second_night, _third_night):
            change()
            self._night()
        _lose(site)
        self._night()
        _write(PASSING_FILE, random.Random("fifth").randbytes(2000))
        self._night()
        (SOURCE / PASSING_FILE).unlink()
        self._night()
        self._forget(5)
        site.finished("prune")
        self._night()
        self._forget(3)
        site.run("drill", "run", "of-disk", "--key", str(site.key))
        site.run("drill", "run", "of-cold", allowed=(WAITS,))
        return {
            "snapshots": self.seen,
            "ids": self.ids,
            "lost": {"snapshot": 2, "path": LOST_FILE},
            "forgotten": {"condemned": 5, "undoable": 3},
            "condemned": {vault: _condemned(site, vault) for vault in JOBS.values()},
            "restores": {
                job: self._ask_for(job, number) for job, number in (("in-glacier", 1), ("in-bucket", 7))
            },
        }

    def _night(self) -> None:
        """A day later all jobs are backed up."""
        self.site.pass_time(hours=23)
        for job in JOBS:
            (report,) = self.site.document("backup", job)
            assert report["outcome"] == "done", report
            self.ids[job].append(report["snapshot"])
        self.seen.append(contents_of(SOURCE))
        self.site.pass_time(hours=1)

    def _forget(self, number: int) -> None:
        self.site.run("forget", *(ids[number - 1] for ids in self.ids.values()))

    def _ask_for(self, job: str, number: int) -> dict[str, object]:
        """Begin a restore; its id, and the snapshot's number."""
        site = self.site
        words = ("--target", str(BACK / job), "--key", str(site.key))
        site.run("restore", f"{self.ids[job][number - 1]}:{SOURCE}", *words, allowed=(WAITS,))
        (found,) = (restore for restore in site.document("restores") if restore["vault"] == JOBS[job])
        assert (found["stage"], found["fetched"]) == ("waiting", 0), found
        return {"id": found["id"], "snapshot": number}


def _write(path: str, data: bytes) -> None:
    file = SOURCE / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def _first_night() -> None:
    dice = random.Random("first")
    _write("etc/hosts", b"127.0.0.1 localhost\n" * 40)
    _write("etc/empty", b"")
    _write("srv/stays.bin", dice.randbytes(5000))
    _write("srv/grows.log", b"a line of a log\n" * 2000)
    _write(os.fsdecode(b"srv/not-utf8-\xff\xfe"), b"a name that is no text")
    _write("srv/größe/naïve ☃.txt", "süß\n".encode() * 100)
    os.symlink("../etc/hosts", SOURCE / "srv/link")
    os.link(SOURCE / "srv/stays.bin", SOURCE / "srv/second-name.bin")
    os.chmod(SOURCE / "etc/hosts", 0o640)
    with open(SOURCE / "srv/sparse.img", "wb") as file:
        file.truncate(300_000)
        file.seek(200_000)
        file.write(dice.randbytes(4096))


def _second_night() -> None:
    dice = random.Random("second")
    with open(SOURCE / "srv/grows.log", "ab") as file:
        file.write(b"another line\n" * 500)
    _write("added/kept.bin", dice.randbytes(3000))
    _write(LOST_FILE, dice.randbytes(3500))


def _third_night() -> None:
    (SOURCE / LOST_FILE).unlink()
    os.chmod(SOURCE / "etc/hosts", 0o600)


def _lose(site: Installed) -> None:
    """Take the data archives of the second night away, and let each vault's list tell."""
    keys = {"aws_access_key_id": ACCESS_KEY_ID, "aws_secret_access_key": SECRET_ACCESS_KEY}
    for vault in JOBS.values():
        data = [
            archive for archive in site.document("archives", "--vault", vault) if archive["kind"] == "data"
        ]
        lost = data[1]["archive_id"]
        if vault == "disk":
            (site.folder / "vault" / "archives" / lost[:2] / lost).unlink()
        elif vault == "cold":
            cold: Any = boto3.client(
                "glacier", endpoint_url=site.emulator.glacier_url, region_name=REGION, **keys
            )
            cold.delete_archive(accountId=ACCOUNT_ID, vaultName=GLACIER_VAULT, archiveId=lost)
        else:
            s3: Any = boto3.client("s3", endpoint_url=site.emulator.s3_url, region_name=REGION, **keys)
            s3.delete_object(Bucket=BUCKET, Key=lost)
    site.pass_time(hours=1)
    for vault in JOBS.values():
        assert _findings(site, vault) == ["missing"]
    site.pass_time(hours=25)  # a Glacier vault's next list says so for good
    for vault in JOBS.values():
        assert _findings(site, vault) == ["lost"]


def _findings(site: Installed, vault: str) -> list[str]:
    found = site.finished("check", "--vault", vault, allowed=(1,))["findings"]
    return [finding["kind"] for finding in found]


def _condemned(site: Installed, vault: str) -> list[str]:
    found = site.document("archives", "--vault", vault)
    condemned = [archive["archive_id"] for archive in found if archive["state"] == "condemned"]
    assert condemned, found
    return condemned


def _packs(work: Path) -> dict[str, Path]:
    """The packs in the vault's folder and in the emulator's, by their paths."""
    found = {}
    for folder in (work / "vault", work / "emulator" / "files"):
        for path in folder.rglob("*"):
            if path.is_file():
                with suppress(FormatError):
                    parse_header(path.read_bytes())
                    found[str(path.relative_to(work))] = path
    return found


if __name__ == "__main__":
    main()
