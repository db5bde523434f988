"""A full disk under the emulator is told as that, changes nothing, and is over once there is room again."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from backup.emulator.core.errors import describe_disk
from backup.emulator.core.state.store import Store
from tests.support.emulated import (
    ACCESS_KEY_ID,
    REGION,
    REPOSITORY,
    SECRET_ACCESS_KEY,
    RunningEmulator,
    write_accounts,
)

MIB = 1024 * 1024
FULL = "The emulator's disk is full"


def too_much(store: Store, made: str) -> None:
    """A transaction that makes a file and more rows than there is room for."""
    with store.transaction() as tx:
        tx.made.append(made)
        store.path(made).write_bytes(b"half")
        row = "INSERT INTO buckets (name, account_id, region, created_ms) VALUES (?, 'a', 'r', 0)"
        tx.db.executemany(row, ((str(number),) for number in range(10_000)))


def taken_back(store: Store) -> None:
    """A transaction that SQLite has ended before it fails."""
    with store.transaction() as tx:
        tx.db.execute("ROLLBACK")
        raise sqlite3.OperationalError("the first")


def fill(path: Path) -> None:
    """Take all the room that a disk has left."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_commit_that_finds_the_disk_full_is_told(tmp_path: Path) -> None:
    """'cannot rollback - no transaction is active' does not hide it."""
    store = Store(tmp_path / "state", speed=1.0)
    with store.transaction() as tx:
        pages = tx.db.execute("PRAGMA page_count").fetchone()[0]
        tx.db.execute("SELECT 1")
    store._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    made = store.new_file()
    with pytest.raises(sqlite3.OperationalError, match="full") as error:
        too_much(store, made)
    assert FULL in describe_disk(error.value)
    assert not store.path(made).exists()
    store._db.execute("PRAGMA max_page_count = 100000")
    with store.transaction() as tx:
        assert tx.db.execute("SELECT count(*) FROM buckets").fetchone()[0] == 0
    store.close()


def test_a_transaction_that_sqlite_took_back_itself(tmp_path: Path) -> None:
    """As a disk does that is full in the middle of a commit."""
    store = Store(tmp_path / "state", speed=1.0)
    with pytest.raises(sqlite3.OperationalError, match="the first"):
        taken_back(store)
    with store.unless_busy() as tx:
        assert tx is not None
    store.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=3m,mode=0700 tmpfs {disk} 2>/dev/null"):
        pytest.skip("no small disk can be mounted here: only root can, and not in every container")
    yield disk
    assert os.system(f"umount {disk}") == 0


def boto(url: str, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=url, region_name=REGION, aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY, config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


def refused(action: Any, **how: Any) -> tuple[int, str, str]:
    with pytest.raises(action.__self__.exceptions.ClientError) as error:
        action(**how)
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


@pytest.mark.slow
def test_clients_of_an_emulator_whose_disk_is_full(small: Path, tmp_path: Path) -> None:
    """500 and the truth, in the words of each service; nothing half is left, and room heals it."""
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(small / "state", accounts) as running:
        s3, glacier = boto(running.s3_url, "s3"), boto(running.glacier_url, "glacier")
        s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
        glacier.create_vault(vaultName="vault")
        s3.put_object(Bucket="bucket", Key="kept", Body=b"kept")
        files = small / "state" / "files"
        before = sorted(os.listdir(files))
        for size in (4 * MIB, 40 * MIB):
            told = refused(s3.put_object, Bucket="bucket", Key="large", Body=bytes(size))
            assert told[:2] == (500, "InternalError")
            assert FULL in told[2]
            told = refused(glacier.upload_archive, vaultName="vault", body=bytes(size))
            assert told[:2] == (500, "ServiceUnavailableException")
            assert FULL in told[2]
        assert sorted(os.listdir(files)) == before
        ballast = small / "ballast"
        with pytest.raises(OSError, match="No space left"):
            fill(ballast)
        tags = [{"Key": f"{n}", "Value": "x" * 200} for n in range(40)]
        told = refused(s3.put_bucket_tagging, Bucket="bucket", Tagging={"TagSet": tags})
        assert FULL in told[2]
        request = urllib.request.Request(f"{running.admin_url}/_admin/clock", data=b'{"advance_seconds": 1}')
        with pytest.raises(urllib.error.HTTPError) as failed:
            urllib.request.urlopen(request, timeout=10)
        assert FULL in json.load(failed.value)["message"]
        ballast.unlink()
        s3.put_bucket_tagging(Bucket="bucket", Tagging={"TagSet": tags})
        glacier.upload_archive(vaultName="vault", body=b"fits")
        assert s3.get_object(Bucket="bucket", Key="kept")["Body"].read() == b"kept"
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["kept"]


@pytest.mark.slow
def test_a_start_on_a_full_disk_is_one_sentence(small: Path, tmp_path: Path) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    with pytest.raises(OSError, match="No space left"):
        fill(small / "ballast")
    where = ("--state", str(small / "state"), "--accounts", str(accounts))
    done = subprocess.run(
        [sys.executable, "-m", "backup.emulator", *where],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert FULL in done.stderr
    assert len(done.stderr.splitlines()) == 1
