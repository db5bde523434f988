"""Makes the fixture of a version: its inventory, and its three kinds of vaults, after five nights.

    python -m tests.upgrade.make_fixture VERSION

It needs libfaketime, as the nights lie a day apart. It was run once with the code of 0.1.0, and what it made
is never made again. A later version that changes what is on the disk gets a fixture of its own, by the same
steps.

The nights: 1 the tree is new; 2 files are changed and added; 3 one of the new ones is deleted. Then the
archives with the data of night 2 are taken away from every vault, and `check` marks them lost. 4 what of
them still lies on the disk is stored again; 5 nothing changes. So the second snapshot of each job lacks one
file for good.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from tests.support.emulated import ACCESS_KEY_ID, ACCOUNT_ID, REGION, SECRET_ACCESS_KEY
from tests.upgrade.installed import (
    BUCKET,
    GLACIER_VAULT,
    HERE,
    JOBS,
    PARTS,
    SOURCE,
    Installed,
    contents_of,
    running,
    the_place,
)

LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
LOST_FILE = "added/deleted-later.bin"


def main() -> None:
    """Make `vVERSION.tar.xz` and `vVERSION.json` beside this file."""
    version = sys.argv[1]
    with tempfile.TemporaryDirectory() as name, the_place():
        work = Path(name)
        (work / "emulator").mkdir()
        expected = _nights(work)
        (HERE / f"v{version}.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
        with tarfile.open(HERE / f"v{version}.tar.xz", "w:xz") as tar:
            for part in PARTS:
                tar.add(work / part, part)


def _nights(work: Path) -> dict[str, object]:
    seen: list[dict[str, str]] = []
    with _day(work, 1) as site:
        site.run("init", "--key-file", str(site.key), "--non-interactive")
    for day, night in enumerate((_first_night, _second_night, _third_night), 1):
        with _day(work, day) as site:
            night()
            site.run("backup")
            seen.append(contents_of(SOURCE))
    with _day(work, 4) as site:
        _lose(site)
    for day in (5, 6):
        with _day(work, day) as site:
            site.run("backup")
            seen.append(contents_of(SOURCE))
            ids = {job: [one["id"] for one in _snapshots(site, job)] for job in JOBS}
    return {"snapshots": seen, "ids": ids, "lost": {"snapshot": 2, "path": LOST_FILE}}


@contextmanager
def _day(work: Path, day: int) -> Iterator[Installed]:
    """The server on a day of the week before last: every process is told that it is that day."""
    faked = {"LD_PRELOAD": LIBRARY, "FAKETIME": f"{day - 14}d", "NO_FAKE_STAT": "1"}
    faked["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    os.environ.update(faked)
    try:
        with running(work, speed=1.0, environment=faked) as site:
            yield site
    finally:
        for name in faked:
            del os.environ[name]


def _snapshots(site: Installed, job: str) -> list[dict[str, Any]]:
    return list(site.document("snapshots", "--job", job))


def _write(path: str, data: bytes) -> None:
    file = SOURCE / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def _first_night() -> None:
    dice = random.Random("first")
    _write("etc/hosts", b"127.0.0.1 localhost\n" * 40)
    _write("etc/empty", b"")
    _write("srv/stays.bin", dice.randbytes(20_000))
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
    _write("added/kept.bin", dice.randbytes(9000))
    _write(LOST_FILE, dice.randbytes(11_000))


def _third_night() -> None:
    (SOURCE / LOST_FILE).unlink()
    os.chmod(SOURCE / "etc/hosts", 0o600)


def _lose(site: Installed) -> None:
    """Take the data archives of the second night away, and let each vault's list tell."""
    for vault in JOBS.values():
        data = [one for one in site.document("archives", "--vault", vault) if one["kind"] == "data"]
        lost = data[1]["archive_id"]
        if vault == "disk":
            (site.folder / "vault" / "archives" / lost[:2] / lost).unlink()
        else:  # a process of its own, whose requests are signed on the faked day
            url = site.emulator.glacier_url if vault == "cold" else site.emulator.s3_url
            command = [sys.executable, "-m", "tests.upgrade.make_fixture", "delete", vault, url, lost]
            subprocess.run(command, check=True)
    site.make_listings()
    for vault in JOBS.values():
        site.run("check", "--vault", vault, allowed=(0, 1, 17))
    site.advance(hours=6)
    site.run("check", "--vault", "cold", allowed=(1,))


def _delete(vault: str, url: str, archive_id: str) -> None:
    keys = {"aws_access_key_id": ACCESS_KEY_ID, "aws_secret_access_key": SECRET_ACCESS_KEY}
    service = "glacier" if vault == "cold" else "s3"
    client: Any = boto3.client(service, endpoint_url=url, region_name=REGION, **keys)
    if vault == "cold":
        client.delete_archive(accountId=ACCOUNT_ID, vaultName=GLACIER_VAULT, archiveId=archive_id)
    else:
        client.delete_object(Bucket=BUCKET, Key=archive_id)


if __name__ == "__main__":
    if sys.argv[1] == "delete":
        _delete(*sys.argv[2:])
    else:
        main()
