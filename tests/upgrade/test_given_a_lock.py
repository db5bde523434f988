"""A bucket that 0.1.0 or 0.2.0 stored in is given object lock: old packs are taken up, and nothing stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.locked_servers import destroyed, give_lock
from tests.support.s3_clients import client
from tests.upgrade.installed import BUCKET, SOURCE, STANDING, Installed, contents_of, the_place, unpacked

JOB = "in-bucket"
LOCK = f'bucket = "{BUCKET}"\nlock = "governance"\n'

pytestmark = pytest.mark.slow


@pytest.fixture(params=["0.1.0", "0.2.0"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installed]:
    """The server as the release left it, its newest night on the disk; its bucket can lock from now on."""
    with the_place(), unpacked(tmp_path, request.param, speed=STANDING) as made:
        give_lock(client(made.emulator.s3_url), BUCKET)
        config = made.folder / "config.toml"
        config.write_text(config.read_text().replace(f'bucket = "{BUCKET}"\n', LOCK))
        made.run("restore", made.ids("on-disk")[-1], "--in-place", "--yes", "--key", str(made.key))
        yield made


def extended(site: Installed) -> Any:
    """The report of a renewal in which nothing is wrong, and what it says of the job."""
    done = site.document("object-lock", "extend")
    (date,) = done["dates"]
    assert (date["job"], done["missing"], done["covered"]) == (JOB, [], [])
    return done, date


def test_it_goes_on_with_old_packs_locked(site: Installed) -> None:
    s3 = client(site.emulator.s3_url)
    before = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    assert {line["VersionId"] for line in before} == {"null"}
    plan = site.document("object-lock", "extend", "--dry-run")
    assert plan["due"] == plan["objects"] == len(before)
    (SOURCE / "since.bin").write_bytes(os.urandom(5000))
    (report,) = site.document("backup", JOB)
    assert (report["outcome"], report["bytes_new"] < 6000) == ("done", True), report
    done, date = extended(site)
    there = s3.list_object_versions(Bucket=BUCKET)["Versions"]  # 0.1.0 left no identity: that night did
    assert (done["extended"], done["objects"]) == (len(before), len(there))
    assert date["until"] is None, "one file of a night was lost, before there were locks"
    site.run("forget", site.known["ids"][JOB][site.known["lost"]["snapshot"] - 1])
    done, date = extended(site)
    assert date["until"] == done["ends"]
    assert date["nights"] == len(site.ids(JOB))
    (told,) = [job for job in site.document("status", allowed=(0, 1))["jobs"] if job["job"] == JOB]
    assert datetime.fromisoformat(told["locks"]["until"]) == datetime.fromisoformat(date["until"])
    site.finished("prune", "--vault", "bucket")
    destroyed(s3, BUCKET)
    left = {line["Key"] for line in s3.list_object_versions(Bucket=BUCKET)["Versions"]}
    assert {line["Key"] for line in before} <= left
    target = site.folder / "restored"
    words = ("--target", str(target), "--key", str(site.key))
    site.finished("restore", f"{site.ids(JOB)[-1]}:{SOURCE}", *words)
    assert contents_of(target) == contents_of(SOURCE)
