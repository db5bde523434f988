"""The mode for clients that list a vault or delete it at once, and what memory a load leaves behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backup.emulator.core.http.sink import BUFFER_BYTES, BUFFERS, KEPT, KEPT_SECONDS
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, client
from tests.support.s3_clients import client as s3_client
from tests.support.s3_clients import new_bucket

WALK = ("--set", "inventory_at_once=true")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator as docs/emulator.md starts it for such clients."""
    folder = tmp_path_factory.mktemp("quick")
    accounts = write_accounts(folder / "accounts.toml")
    with RunningEmulator(folder / "state", accounts, speed=10_000, options=WALK) as running:
        yield running


def listed(glacier: Any, vault: str) -> list[str]:
    """The descriptions in the vault's inventory, by a job that is waited for."""
    wanted = {"Type": "inventory-retrieval"}
    job = {"vaultName": vault, "jobId": glacier.initiate_job(vaultName=vault, jobParameters=wanted)["jobId"]}
    for _ in range(100):
        if glacier.describe_job(**job)["Completed"]:
            body = glacier.get_job_output(**job)["body"].read()
            return sorted(entry["ArchiveDescription"] for entry in json.loads(body)["ArchiveList"])
        time.sleep(0.2)
    raise AssertionError("the job did not end within 20 s")


def test_a_client_that_lists_and_deletes_at_once(quick: RunningEmulator) -> None:
    """Without a word to the admin."""
    glacier = client(quick.glacier_url)
    glacier.create_vault(vaultName="walk")
    assert listed(glacier, "walk") == []
    ids = {
        name: glacier.upload_archive(vaultName="walk", body=name.encode(), archiveDescription=name)[
            "archiveId"
        ]
        for name in ("a", "b")
    }
    assert glacier.describe_vault(vaultName="walk")["NumberOfArchives"] == 2
    assert listed(glacier, "walk") == ["a", "b"]
    glacier.delete_archive(vaultName="walk", archiveId=ids["a"])
    assert listed(glacier, "walk") == ["b"]
    with pytest.raises(ClientError, match="not empty"):
        glacier.delete_vault(vaultName="walk")
    glacier.delete_archive(vaultName="walk", archiveId=ids["b"])
    glacier.delete_vault(vaultName="walk")
    assert glacier.list_vaults()["VaultList"] == []


def test_without_it_an_inventory_is_of_the_day(emulator: RunningEmulator) -> None:
    """As on AWS, which stays the default."""
    glacier = client(emulator.glacier_url)
    glacier.create_vault(vaultName="of-the-day")
    glacier.upload_archive(vaultName="of-the-day", body=b"x")
    assert glacier.describe_vault(vaultName="of-the-day")["NumberOfArchives"] == 0


def resident(pid: int | None) -> int:
    """The memory of a process that is its own, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def settles(pid: int | None, most: int) -> int:
    """What a process holds once that is less than `most`: soon after it keeps no buffers any more."""
    deadline = time.monotonic() + KEPT_SECONDS + 20
    while (held := resident(pid)) >= most:
        assert time.monotonic() < deadline, f"{held - most} bytes too many are held"
        time.sleep(0.2)
    return held


@pytest.mark.slow
def test_memory_is_given_back_after_a_load(tmp_path: Path) -> None:
    """A first load leaves threads and modules, a second nothing."""
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts) as running:
        s3 = s3_client(running.s3_url, max_pool_connections=16)
        bucket, body = new_bucket(s3), os.urandom(8 * MIB)
        s3.put_object(Bucket=bucket, Key="first", Body=b"")
        before = resident(running.pid)

        def put_and_get(number: int) -> None:
            s3.put_object(Bucket=bucket, Key=str(number), Body=body)
            assert s3.get_object(Bucket=bucket, Key=str(number))["Body"].read() == body

        def load() -> None:
            with ThreadPoolExecutor(16) as threads:
                list(threads.map(put_and_get, range(32)))
            assert resident(running.pid) - before < (KEPT + 2 * BUFFERS) * BUFFER_BYTES

        load()
        time.sleep(KEPT_SECONDS + 2)
        first = settles(running.pid, before + 24 * MIB)
        load()
        settles(running.pid, first + 8 * MIB)
